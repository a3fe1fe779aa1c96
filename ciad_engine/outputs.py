"""Deciding before anything is computed whether a file or folder can be written, and may be: no input is replaced.

An input is recognised by device and inode, so that no link and no other spelling of its path hides it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from ciad_engine.errors import OutputError
from ciad_engine.files import destination, mode_of
from ciad_engine.plain_text import plain

Identity = tuple[int, int]  # device and inode


def identities(paths: Iterable[Path | str]) -> frozenset[Identity]:
    """Return which files lie at these paths; one that is not there, or cannot be seen, is left out."""
    found = set()
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            known = Path(path).stat()
            found.add((known.st_dev, known.st_ino))
    return frozenset(found)


def check_file(path: Path, inputs: Iterable[Path | str] = ()) -> None:
    """Refuse a file that cannot be written, or is one of those that are read.

    Raises:
        OutputError: says which, why, and what to do.
    """
    try:
        path = destination(path)
        mode = mode_of(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{plain(path)} cannot be written: {_reason(error)}. Choose another place.") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{plain(path)} is a folder: name a file.")
    if mode is not None and not identities([path]).isdisjoint(identities(inputs)):
        raise OutputError(f"{plain(path)} is one of the files that are read, and stays as it is: name another file.")
    if mode is None or stat.S_ISREG(mode):
        check_folder(path.parent)


def check_folder(folder: Path, inputs: Iterable[Path | str] = (), endings: Collection[str] = ()) -> None:
    """Refuse a folder in which no file can be made, or in which a file that is read has one of these endings.

    Nothing is left behind: a folder that is missing is not made.

    Raises:
        OutputError: says which, why, and what to do.
    """
    there = folder
    try:
        while (mode := _mode_above(there)) is None and there != there.parent:
            there = there.parent
        if mode is not None and not stat.S_ISDIR(mode):
            raise OutputError(
                f"{plain(folder)} cannot be a folder, because {plain(there)} is a file: name another one."
            )
        held = [path for path in folder.iterdir() if path.suffix in endings] if endings and there == folder else []
        probe = there / f".ciad.{os.getpid()}.part"
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        text = f"The folder {plain(folder)} cannot be written: {_reason(error)}. Choose another folder."
        raise OutputError(text) from error
    known = identities(inputs) if held else frozenset()
    for path in held:
        if not identities([path]).isdisjoint(known):
            text = f"{plain(folder)} holds {plain(path.name)}, one of the files that are read: name another folder."
            raise OutputError(text)


def _mode_above(path: Path) -> int | None:
    try:
        return mode_of(path)
    except NotADirectoryError:
        return None  # a file lies further above


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
