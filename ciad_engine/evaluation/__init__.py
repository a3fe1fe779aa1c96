"""Evaluation: a frozen plan, a runner that resumes, tables as queries over rows, and their export.

`plan`, `tables`, `statistics` and `export` import no torch; `runner` does.
"""
