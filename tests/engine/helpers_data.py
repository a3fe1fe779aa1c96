"""Small synthetic data sets in every form the program reads. None of it is real data."""

from __future__ import annotations

import io
import runpy
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.jobs import Job

_ARCHIVE = Path(__file__).parents[2] / "packaging" / "samples" / "archive.py"
write_samples = runpy.run_path(str(_ARCHIVE))["write_samples"]


class ListJob(Job):
    """Keeps what it is told."""

    def __init__(self, cancel_after: int | None = None) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, str]] = []
        self.notes: list[str] = []
        self._cancel_after = cancel_after

    def on_progress(self, done: int, total: int, text: str) -> None:
        self.seen.append((done, total, text))
        if self._cancel_after is not None and done >= self._cancel_after:
            self.cancel()

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def random_images(count: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """uint8 (count, 3, size, size)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), np.uint8)


def python2_pickle(value: object) -> bytes:
    """A pickle as Python 2 wrote it (protocol 2, byte strings), which is what the official batches are."""

    def dump(item: object) -> bytes:
        if isinstance(item, bytes):
            return (b"U" + bytes([len(item)]) if len(item) < 256 else b"T" + struct.pack("<i", len(item))) + item
        if isinstance(item, int):
            return b"K" + bytes([item]) if 0 <= item < 256 else b"J" + struct.pack("<i", item)
        if isinstance(item, list):
            return b"]q\x01(" + b"".join(map(dump, item)) + b"e"
        if isinstance(item, dict):
            return b"}q\x02(" + b"".join(dump(k) + dump(v) for k, v in item.items()) + b"u"
        assert isinstance(item, np.ndarray)
        return python2_array(item.tobytes(), item.shape)

    return b"\x80\x02" + dump(value) + b"."


def python2_array(raw: bytes, shape: tuple[int, ...], dtype: bytes = b"u1", subdtype: bytes = b"N") -> bytes:
    """The instructions that make an array; what they claim need not fit."""
    sizes = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + b"t"
    kind = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|" + subdtype + b"NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + sizes + kind + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"


def write_batches(folder: Path, per_batch: int = 20) -> Path:
    """`cifar-10-batches-py` below `folder`, labels 0 1 ... 9 0 1 ..., random pixels."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        content = {
            b"batch_label": name.encode(),
            b"labels": [i % 10 for i in range(per_batch)],
            b"data": random_images(per_batch, seed).reshape(per_batch, -1),
            b"filenames": [b"%d.png" % i for i in range(per_batch)],
        }
        (batches / name).write_bytes(python2_pickle(content))
    meta = {b"num_cases_per_batch": per_batch, b"label_names": [c.encode() for c in CIFAR10.classes], b"num_vis": 3072}
    (batches / "batches.meta").write_bytes(python2_pickle(meta))
    return batches


def write_class_folders(folder: Path, per_class: int = 2, domain: Domain = CIFAR10) -> Path:
    """`images/{train,test}/<class>/<nnnn>.png` below `folder`."""
    count = len(domain.classes)
    for part, seed in (("train", 1), ("test", 2)):
        pictures = random_images(count * per_class, seed, domain.size)
        for i, picture in enumerate(pictures):
            path = folder / "images" / part / domain.classes[i % count] / f"{i // count:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture))
    return folder / "images"


def encoded(picture: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    """uint8 (3, H, W) as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(out, form, **options)
    return out.getvalue()


def pack_tar(source: Path, target: Path, kind: str) -> Path:
    """Pack the content of a folder; `kind` is "", "gz", "bz2" or "xz"."""
    with tarfile.open(target, f"w:{kind}") as tar:
        tar.add(source, source.name)
    return target


def pack_zip(source: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source.parent))
    return target
