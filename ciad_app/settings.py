"""What the program remembers between starts: a frozen dataclass kept as JSON.

Settings never stop the program: what cannot be read is put aside and the default is used; what
cannot be written (a read-only home) is said in the log.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ciad_engine import files, folders
from ciad_engine.errors import DAMAGE, CiadError

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "CIAD_CONFIG_DIR"  # for class rooms: settings in a folder of one's own choice
FONT_SIZES = (6, 40)  # points
SCHEMES = ("system", "light", "dark")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings with their defaults."""

    font_size: int = 0  # points; 0 is the system's
    scheme: str = "system"  # or "light" or "dark"
    geometry: str = ""  # the window's place and size, as Qt's `saveGeometry` in base 64; "" at the first start
    last_folder: str = ""  # in which the last file was opened or saved
    page: str = ""  # the page shown last, by its title
    toured: bool = False  # whether the tour of the first start has been shown
    bundle: str = ""  # name or folder of the bundle that was chosen last; "" for the default


_VALID: dict[str, Callable[[Any], bool]] = {
    "font_size": lambda v: type(v) is int and (v == 0 or FONT_SIZES[0] <= v <= FONT_SIZES[1]),
    "toured": lambda v: type(v) is bool,
    "scheme": lambda v: v in SCHEMES,
    "geometry": lambda v: isinstance(v, str) and v.isascii() and len(v) < 10_000,
    **dict.fromkeys(("last_folder", "page", "bundle"), lambda v: isinstance(v, str) and _can_be_shown(v)),
}


def _can_be_shown(text: str) -> bool:
    """Return whether it is a text: no half of a character, which no file can hold, and none that ends it."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def path() -> Path:
    """Return the settings file; it may not exist. Raises CiadError if nobody knows the user's home."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return (Path(folder) if folder else folders.of_user("config", f"{FOLDER_VARIABLE} to a folder")) / "settings.json"


def load() -> Settings:
    """Read the settings. A key that is unknown or has an impossible value costs only itself."""
    try:
        file = path()
    except CiadError as error:
        log.warning("There are no settings, the defaults are used. %s", error)
        return Settings()
    try:
        raw = files.read_bounded(file, files.MOST_TEXT)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        log.warning("Cannot read the settings %s (%s): using the defaults.", file, error.strerror)
        return Settings()
    try:
        content = json.loads(raw)
    except DAMAGE as error:
        return _put_aside(file, raw, f"it is not valid JSON ({error})")
    if not isinstance(content, dict):
        return _put_aside(file, raw, "it holds no settings")
    bad = [key for key, value in content.items() if key not in _VALID or not _VALID[key](value)]
    if bad:
        _put_aside(file, raw, f"it has unusable entries ({', '.join(bad)}), which are at their defaults")
    return Settings(**{key: value for key, value in content.items() if key not in bad})


def save(settings: Settings) -> bool:
    """Write the settings; returns whether that was possible."""
    try:
        file = path()
    except CiadError as error:
        log.warning("The settings are not kept. %s", error)
        return False
    try:
        files.write_whole(file, (json.dumps(dataclasses.asdict(settings), indent=1) + "\n").encode())
    except OSError as error:
        log.warning("Cannot save the settings to %s: %s.", file, error.strerror)
        return False
    return True


def reset() -> str:
    """Put the settings back to their defaults and keep the former ones beside them; return what was done, in words.

    Raises:
        CiadError: nobody knows where they are, or they cannot be moved.
    """
    file = path()
    aside = file.with_name(file.name + ".old")
    try:
        file.replace(aside)
    except FileNotFoundError:
        return f"There are no settings in {file.parent}: the defaults are in use."
    except OSError as error:
        raise CiadError(f"The settings {file} cannot be moved: {error.strerror or error}.") from error
    return f"The settings are at their defaults. The former ones are kept as {aside}."


def _put_aside(file: Path, raw: bytes, reason: str) -> Settings:
    """Keep a copy of a file that the next `save` would overwrite; returns the defaults."""
    aside = file.with_name(file.name + ".bad")
    try:
        files.write_whole(aside, raw)
        log.warning("The settings %s were not taken as they are: %s. A copy is kept as %s.", file, reason, aside.name)
    except OSError as error:
        log.warning("The settings %s were not taken as they are: %s. No copy kept: %s.", file, reason, error.strerror)
    return Settings()
