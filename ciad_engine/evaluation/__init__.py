"""Evaluation: a frozen plan, a runner that resumes, tables as queries over rows, and their export.

Only `runner` imports torch.
"""
