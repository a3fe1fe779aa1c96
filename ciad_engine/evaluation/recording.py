"""Tables that are not of a run, written beside a bundle's card."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import PIL

from ciad_engine import bundles, compute
from ciad_engine.datasets import ImageSet
from ciad_engine.evaluation.model_card import name_in_commands
from ciad_engine.evaluation.runner import versions
from ciad_engine.evaluation.table import Table, to_json
from ciad_engine.systems import System


def record(system: System, table: Table, data: ImageSet, limit: int, command: str, seconds: float) -> Path:
    """Write a table beside the bundle's card, in the place of an earlier one that the same command made.

    Args:
        limit: number of images.
        command: the name and the further words of the `ciad` command that makes it, without the bundle and the data.
        seconds: how long it took.

    Raises:
        BundleError: the file cannot be written.
    """
    card = system.card
    name, _, words = command.partition(" ")
    entry = {
        "run": hashlib.sha256(json.dumps([command, card.checksum, data.checksum]).encode()).hexdigest(),
        "title": f"{table.title}: {limit:,} images of {data.source}",
        "versions": {**versions(), "pillow": PIL.__version__},
        "device": compute.describe_device(system.device),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "seconds_alone": seconds,
        "command": f"ciad {name} --bundle {name_in_commands(card)} --data PATH {words}",
        "tables": [to_json(table)],
    }
    return bundles.save_evaluation(card, entry)
