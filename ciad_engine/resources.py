"""Where the files shipped with the program are: bundles, samples, icons.

In a checkout or an editable install they lie in `resources/` beside the packages; a wheel carries
them inside this package (see `pyproject.toml`).
"""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).with_name("_resources")
_CHECKOUT = Path(__file__).parent.parent / "resources"


def path(*parts: str) -> Path:
    """The path of a shipped file or folder, e.g. `path("models", "paper")`. It may not exist."""
    return (_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT).joinpath(*parts)
