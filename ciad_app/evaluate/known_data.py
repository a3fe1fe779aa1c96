"""Where the data of earlier evaluations lie: a run knows its data by checksum only."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ciad_engine import files

log = logging.getLogger(__name__)

_KEPT = 50  # data sets


def read(file: Path) -> dict[str, str]:
    """Checksum -> path; empty where the file is missing or unusable (the person is asked then)."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("Cannot read %s (%s): data of earlier evaluations will be asked for.", file, error)
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}


def remember(file: Path, checksum: str, path: str) -> None:
    """Note where a data set lies; where that cannot be written, the log says so."""
    known = read(file)
    if known.get(checksum) == path:
        return
    known.pop(checksum, None)
    known[checksum] = path
    try:
        files.write_whole(file, (json.dumps(dict(list(known.items())[-_KEPT:]), indent=1) + "\n").encode())
    except OSError as error:
        log.warning("Cannot write %s: %s.", file, error.strerror)
