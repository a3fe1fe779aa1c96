"""The user's own folders: for data, settings and logs."""

from __future__ import annotations

from pathlib import Path

from ciad_engine.errors import CiadError


def of_user(kind: str, otherwise: str) -> Path:
    """Return the program's folder of a kind, "data", "config" or "log"; it may not exist.

    Raises:
        CiadError: nobody knows the user's home; `otherwise` says what can be done but set HOME.
    """
    import platformdirs  # late: the engine also computes on machines that have only torch

    try:
        path: Path = getattr(platformdirs, f"user_{kind}_path")("ciad")
    except RuntimeError:
        path = Path()
    if not path.is_absolute():  # older versions return "~/..." as it is
        raise CiadError(f"Your home folder is not known: set the variable HOME, or {otherwise}.")
    return path
