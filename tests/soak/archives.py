"""Damaged archives, folders' files and CIFAR-10 batches: each is read or refused with a reason."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ciad_engine import datasets
from ciad_engine.jobs import Job
from tests.soak.mutations import mutated
from tests.soak.tally import Tally

COUNT = 2_000


def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _members() -> dict[str, bytes]:
    return {f"set/test/{name}/{k}.png": _png(k) for k, name in enumerate(("cat", "dog", "cat", "ship"))}


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in _members().items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(mode: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _batch(protocol: int) -> bytes:
    data = np.random.default_rng(1).integers(0, 256, (5, 3072), dtype=np.uint8)
    content = {b"data": data, b"labels": [1, 2, 3, 4, 5], b"filenames": [b"%d.png" % k for k in range(5)]}
    return pickle.dumps(content, protocol=protocol)


def originals() -> list[tuple[str, bytes]]:
    """Return the name and the content of one small file for each kind of data set."""
    official = {"cifar-10-batches-py/test_batch": _batch(2), "cifar-10-batches-py/data_batch_1": _batch(2)}
    return [
        ("set.zip", _zip(zipfile.ZIP_STORED)),
        ("set.zip", _zip(zipfile.ZIP_DEFLATED)),
        ("set.tar", _tar("w", _members())),
        ("set.tar.gz", _tar("w:gz", _members())),
        ("set.tar.xz", _tar("w:xz", _members())),
        ("cifar.tar", _tar("w", official)),
        *((f"cifar-{protocol}.tar", _tar("w", {"test_batch": _batch(protocol)})) for protocol in range(6)),
    ]


def run(tally: Tally, draw: random.Random) -> None:
    known = originals()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(tally.total):
            name, raw = draw.choice(known)
            file = Path(folder) / name
            file.write_bytes(mutated(raw, draw))
            with tally.case(f"archive {number}, {name}"):
                found = datasets.choose(str(file), Job())
                assert len(found.images) == len(found.labels) > 0
