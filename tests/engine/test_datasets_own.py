"""Data sets that people made themselves: batches pickled by other programs, archives packed by them."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciad_engine import datasets
from ciad_engine.datasets import batch_pickle, members, official
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError
from ciad_engine.jobs import Cancelled, Job
from tests.engine.helpers_data import ListJob, encoded, python2_pickle, random_images

IMAGES = random_images(10)
FLAT = IMAGES.reshape(10, -1)
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">i8")
PNG = encoded(IMAGES[0])


def batch(tmp_path, content: dict, protocol: int = 4) -> datasets.ImageSet:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol))
    return datasets.load(tmp_path / "test_batch").test


@pytest.mark.parametrize("protocol", range(6))
def test_batches_of_every_protocol_are_read(protocol, tmp_path):
    """A writable array and one that is not are written in different ways."""
    kept = FLAT.copy()
    kept.flags.writeable = False
    for data in (FLAT, kept, np.asfortranarray(FLAT), FLAT[::-1][::-1]):
        found = batch(tmp_path, {"data": data, b"labels": list(range(10)), "n": b""}, protocol)
        np.testing.assert_array_equal(found.images, IMAGES)
        assert found.labels.tolist() == list(range(10))


def test_a_batch_of_protocol_0_by_python_2_is_read():
    raw = FLAT[:1].tobytes()
    text = repr(raw)[1:].encode()  # a string literal of Python 2 looks as one of bytes without its b
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntp5\nS'b'\np6\ntp7\nRp8\n(I1\n(L1L\nI3072\n"
        b"tp9\ncnumpy\ndtype\np10\n(S'u1'\np11\nI0\nI1\ntp12\nRp13\n(I3\nS'|'\np14\nNNNI-1\nI-1\nI0\ntp15\nbI00\nS"
        + text
    )
    content = batch_pickle.read(
        b"(dp0\nS'data'\np1\n" + array + b"\np16\ntp17\nbsS'labels'\np18\n(lp19\nI3\nas.", "old"
    )
    np.testing.assert_array_equal(content[b"data"], FLAT[:1])
    assert content[b"labels"] == [3]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_labels_may_be_arrays_or_scalars_of_any_integers(dtype, protocol, tmp_path):
    labels = np.arange(10).astype(dtype)
    for given_labels in (labels, labels[:, None], list(labels), tuple(labels.tolist())):
        found = batch(tmp_path, {"data": FLAT, "labels": given_labels}, protocol)
        assert found.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    "data", [IMAGES, IMAGES.transpose(0, 2, 3, 1), np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1))]
)
@pytest.mark.parametrize("dtype", ["u1", "i8", ">u2"])
def test_images_may_have_their_axes(data, dtype, tmp_path):
    for protocol in (2, 5):
        found = batch(tmp_path, {"data": data.astype(dtype), "labels": list(range(10))}, protocol)
        np.testing.assert_array_equal(found.images, IMAGES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": FLAT / 255}, r"float64 numbers from 0 to 1 where .* Save the images as uint8"),
        ({"data": FLAT.astype("i2") - 1}, "int16 numbers from -1 to 254"),
        ({"data": FLAT.reshape(10, 1024, 3)}, r"shape \(10, 1024, 3\)"),
        ({"data": np.uint8(3)}, "'data' is not a NumPy array but of type int"),
        ({"data": np.array(3, np.uint8)}, r"shape \(\)"),
        ({"labels": np.arange(10.0)}, "the label of image 0 is none of 0 to 9"),
        ({"labels": np.zeros((5, 2), int)}, r"not a list of whole numbers but an array of shape \(5, 2\)"),
        ({"labels": {"a": 1}}, "'labels' is not a list of whole numbers but of type dict"),
        ({"labels": [2**63] * 10}, "the label of image 0"),
        ({"data": FLAT.astype(object)}, "dtype"),
    ],
)
def test_what_is_wrong_is_said(change, reason, tmp_path):
    with pytest.raises(DataError, match=f"test_batch.*{reason}"):
        batch(tmp_path, {"data": FLAT, "labels": list(range(10)), **change})


def test_missing_keys_are_named(tmp_path):
    for content, reason in (
        ({"labels": [1]}, r"no images \('data'\)"),
        ({"data": FLAT}, r"no labels \('labels'\)"),
        ({"data": FLAT, "fine_labels": [1]}, "CIFAR-100"),
    ):
        with pytest.raises(DataError, match=reason):
            batch(tmp_path, content)


def test_instructions_are_counted_and_reading_them_can_be_cancelled():
    raw = b"\x80\x04N" + b"\x94" * (batch_pickle.MAX_INSTRUCTIONS * 2) + b"."
    with pytest.raises(DataError, match="memo has more than 500,000 instructions"):
        batch_pickle.read(raw, "memo")
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        batch_pickle.read(raw, "memo", job)


def test_a_batch_of_the_official_size_has_far_fewer_instructions():
    labels = [np.int64(i % 10) for i in range(10_000)]
    names = [b"a_s_%06d.png" % i for i in range(10_000)]
    raw = pickle.dumps({b"labels": labels, b"filenames": names}, 0)
    assert len(batch_pickle.read(raw, "large")[b"labels"]) == 10_000


@pytest.mark.parametrize("system", [0, 3])
def test_zips_with_the_separators_of_windows(system, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("d\\", "d\\test\\cat\\1.png", "d\\test\\dog\\1.png", "d\\test\\eel\\"):
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, system
            archive.writestr(info, b"" if name.endswith("\\") else PNG)
    with pytest.raises(DataError, match="no picture of the class eel"):
        datasets.load(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("d\\cat\\1.png", "d\\dog\\1.png"):
            archive.writestr(name, PNG)
    assert datasets.load(tmp_path / "b.zip").test.domain.classes == ("cat", "dog")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("d\\..\\..\\cat\\1.png", PNG)
    with pytest.raises(DataError, match="points outside"):
        datasets.load(tmp_path / "c.zip")


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


@pytest.mark.parametrize("kind", ["", "gz"])
def test_hard_links_within_an_archive_are_read(kind, tmp_path):
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as tar:
        for i, raw in enumerate(map(encoded, IMAGES[:3])):
            info = tarfile.TarInfo(f"./store/{i}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
        for name, target in (
            ("cat/0.png", "store/0"),
            ("cat/1.png", "./store/1"),
            ("dog/0.png", "test/cat/1.png"),
            ("dog/1.png", "store/2"),
            ("dog/2.png", "nowhere"),
            ("dog/3.png", "/etc/passwd"),
        ):
            tar.addfile(link(f"test/{name}", target))
    job = ListJob()
    found = datasets.load(tmp_path / "a.tar", job).test
    assert found.names == ("test/cat/0.png", "test/dog/0.png", "test/cat/1.png", "test/dog/1.png")
    np.testing.assert_array_equal(found.images, IMAGES[[0, 1, 1, 2]])
    assert job.notes == ["a.tar: 2 links or special files were not followed."]


def test_batches_may_be_hard_links(tmp_path):
    raw = python2_pickle({b"labels": [1], b"data": FLAT[:1]})
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("cache/ab12")
        info.size = len(raw)
        tar.addfile(info, io.BytesIO(raw))
        tar.addfile(link("cifar-10-batches-py/test_batch", "cache/ab12"))
    assert datasets.load(tmp_path / "a.tar").test.labels.tolist() == [1]


class Impatient(Job):
    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def on_checkpoint(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            self.cancel()


@pytest.mark.parametrize("kind", ["tar", "gz", "zip"])
def test_a_large_member_can_be_cancelled(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "_BLOCK", 2**12)
    zeros, path = bytes(2**20), tmp_path / "a.bin"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("test_batch", zeros)
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz") as tar:
            for name in ("a", "test_batch"):
                info = tarfile.TarInfo(name)
                info.size = len(zeros)
                tar.addfile(info, io.BytesIO(zeros))
    with pytest.raises(Cancelled):
        datasets.load(path, Impatient(50))


def test_the_list_of_a_zip_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "MAX_MEMBERS", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(4):
            archive.writestr(f"{i}", b"")
    with pytest.raises(DataError, match="more than 3 members"):
        datasets.load(tmp_path / "a.zip")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is neither a folder nor a regular file"):
        datasets.load(tmp_path / "pipe")


PICKLES = [
    pickle.dumps({"data": FLAT[:1, :48], "labels": labels}, protocol)
    for protocol in range(6)
    for labels in ([1], [np.int64(1)], np.arange(3))
]


def mutated(raw: bytes, data: st.DataObject) -> bytes:
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw)))
        what = data.draw(st.sampled_from(["cut", "flip", "repeat"]))
        if what == "cut":
            raw = raw[:place]
        elif what == "flip":
            raw = raw[:place] + bytes([data.draw(st.integers(0, 255))]) + raw[place + 1 :]
        else:
            raw = raw[:place] + raw[place : place + 20] * data.draw(st.integers(2, 40)) + raw[place + 20 :]
    return raw


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PICKLES), st.data())
def test_every_mutation_of_a_pickle_is_read_or_refused(raw, data):
    try:
        content = batch_pickle.read(mutated(raw, data), "noise")
    except DataError as error:
        assert str(error).startswith("noise ")  # noqa: PT017 - either outcome is right
    else:
        for part, key in ((official._images, b"data"), (official._labels, b"labels")):
            try:
                part(content.get(key), "noise")
            except DataError as error:
                assert str(error).startswith("noise")  # noqa: PT017


def archives() -> list[bytes]:
    found = []
    for kind in ("", "gz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{kind}") as tar:
            for name in ("cat", "dog"):
                info = tarfile.TarInfo(f"test/{name}/1.png")
                info.size = len(PNG)
                tar.addfile(info, io.BytesIO(PNG))
            tar.addfile(link("test/dog/2.png", "test/cat/1.png"))
        found.append(out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("cat", "dog"):
            archive.writestr(f"test\\{name}\\1.png", PNG)
    return [*found, out.getvalue()]


ARCHIVES = archives()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(ARCHIVES), st.data())
def test_every_mutation_of_an_archive_is_read_or_refused(tmp_path, raw, data):
    path = tmp_path / "noise.bin"
    path.write_bytes(mutated(raw, data))
    try:
        found = datasets.load(path)
    except DataError as error:
        assert "noise.bin" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert found.test is None or found.test.images.shape[1:] == CIFAR10.shape
