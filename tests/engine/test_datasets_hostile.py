"""Data somebody made to do harm: nothing is executed, nothing is written, nothing is followed."""

import builtins
import contextlib
import io
import os
import pickle
import pickletools
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciad_engine import datasets
from ciad_engine.datasets import batch_pickle, members
from ciad_engine.errors import DataError
from tests.engine.helpers_data import (
    ListJob,
    encoded,
    pack_tar,
    pack_zip,
    python2_array,
    python2_pickle,
    random_images,
)


class Call:
    """Pickles as a call that unpickling would make."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class WithState:
    """Pickles as an object of a class, with a state to set."""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, pickle.loads, np.load], ids=str)
def test_calls_are_refused_by_name_and_not_made(protocol, function, tmp_path):
    proof = tmp_path / "executed"
    argument = {
        os.system: f"touch {proof}",
        builtins.eval: f"open({str(proof)!r}, 'w')",
        builtins.exec: f"open({str(proof)!r}, 'w')",
    }.get(function, b"x")
    batch = {b"labels": [0], b"data": Call(function, argument)}
    raw = pickle.dumps(batch, protocol)
    name = function.__name__  # its module has another name in each protocol
    with pytest.raises(DataError, match=rf"evil (wants .*{name}|wants the pickle instruction \w+)") as caught:
        batch_pickle.read(raw, "evil")
    if protocol >= 2:
        assert name in str(caught.value)
    assert not proof.exists()
    if function is os.system:  # the test is able to fail: Python's own unpickler does make the call
        pickle.loads(raw)
        assert proof.exists()


def test_a_hostile_batch_in_a_data_set_is_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    # Exactly the classic: cos\nsystem\n(S'...'\ntR, here with the strings of protocol 2.
    (folder / "test_batch").write_bytes(b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    with pytest.raises(DataError, match=r"test_batch wants os\.system, which no CIFAR-10 batch does"):
        datasets.load(folder)
    with pytest.raises(DataError, match=r"wants os\.system"):
        datasets.load(pack_tar(folder, tmp_path / "evil.tar.gz", "gz"))


ENTRY = b"\x80\x02}U\x04data"
OBJECT = python2_array(b"\0" * 8, (1,), dtype=b"O8")
STRUCTURED = pickle.dumps({b"data": np.zeros(2, [("a", "u1")])}, 2)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (pickle.dumps({b"data": np.array([[print]], object)}, 2), "builtin|dtype"),
        (pickle.dumps({b"data": np.ma.zeros(2, np.uint8)}, 2), r"numpy\.ma"),
        (pickle.dumps({b"data": np.zeros(2, np.uint8).view(np.recarray)}, 2), r"numpy\.(rec|rec|core)"),
        (STRUCTURED, "dtype"),
        (ENTRY + OBJECT + b"s.", "an array of dtype b'O8'"),
        (ENTRY + python2_array(b"a", (1,), subdtype=b"U\x02u1") + b"s.", "a composed dtype"),
        (pickle.dumps({b"a": WithState()}, 2), r"copy_reg\._reconstructor|WithState|instruction NEWOBJ"),
        (pickle.dumps({b"a": {1, 2}}, 4), "instruction EMPTY_SET"),
        (b"\x80\x02}}U\x01a\x88sb.", "to set the state of a dict"),  # BUILD on a dictionary
        (b"\x80\x02cnumpy\nndarray\n}b.", "to set the state of a Name"),  # BUILD on a class
        (b"\x80\x02cnumpy\nndarray\n(K\x00tb.", "to set the state of a Name"),
        (b"\x80\x02cnumpy\nndarray\nK\x05\x85R.", r"to call numpy\.ndarray"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n\x85R.", "in an unusual way"),
        (b"\x80\x02U\x01a)R.", "to call a bytes"),
        (b"\x80\x02}\x82\x01.", "instruction EXT1"),
        (b"\x80\x02Pid\n.", "instruction PERSID"),
        (b"\x80\x02(ios\nsystem\n.", r"os\.system"),  # INST
        (b"\x80\x02(cnumpy\nndarray\no.", "instruction OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"os\.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0estr.os.system!\x93.", r"numpy\.str\.os"),
        (b"\x80\x02}K\x01K\x02s.", "keys that are not text"),
        (b"\x80\x02}K\x01a.", "to fill a dict as a list"),
        (b"\x80\x02].", "it holds a list"),
        (b"\x80\x02", "truncated"),
        (b"", "truncated"),
        (b".", "damaged"),
        (b"\x80\x02}h\x07.", "damaged"),  # BINGET of what was never put
        (b"\x80\x02e.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02K\x01(\x85.", "damaged"),  # reaches below a mark
        (b"\x80\x02}}.", "damaged"),
    ],
)
def test_what_no_batch_contains_is_refused(raw, reason):
    with pytest.raises(DataError, match=rf"^evil .*({reason})"):
        batch_pickle.read(raw, "evil")


@pytest.mark.parametrize(
    "raw",
    [
        ENTRY + python2_array(b"abc", (2**31 - 1, 2**31 - 1)) + b"s.",  # an array of 4 EiB
        ENTRY + python2_array(b"abc", (-1, -3)) + b"s.",
        ENTRY + python2_array(b"", (2**31 - 1, 0, 2**31 - 1)) + b"s.",
        b"\x80\x02}r\xff\xff\xff\xff.",  # Python's unpickler makes a table of 64 GiB of this
        b"\x80\x02T\xff\xff\xff\x7fabc.",  # a string of 2 GiB
        b"\x80\x04B\xff\xff\xff\xffabc.",
        b"\x80\x05\x8e" + struct.pack("<Q", 2**60) + b".",
    ],
)
def test_claimed_sizes_are_not_believed(raw):
    start = time.perf_counter()
    with contextlib.suppress(DataError):
        content = batch_pickle.read(raw, "bomb")
        assert all(value.size == 0 for value in content.values())
    assert time.perf_counter() - start < 1


def test_one_string_encoded_again_and_again_is_refused():
    """Each of the calls would make a fresh copy of the same memoised string."""
    name, latin = b"c_codecs\nencode\n", b"X\x06\x00\x00\x00latin1"
    text = b"X" + (20_000).to_bytes(4, "little") + b"a" * 20_000
    calls = b"".join(b"h\x00h\x01h\x02\x86R" for _ in range(1000))
    raw = b"\x80\x02" + name + b"q\x00" + text + b"q\x01" + latin + b"q\x02" + b"]" + b"(" + calls + b"e."
    with pytest.raises(DataError, match="again and again"):
        batch_pickle.read(raw, "bomb")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_never_raise_anything_else(raw):
    for start in (b"", b"\x80\x02"):
        try:
            assert isinstance(batch_pickle.read(start + raw + b".", "noise"), dict)
        except DataError as error:
            assert str(error).startswith("noise ")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_pickled_again_by_python_3_are_read(protocol, order):
    data = np.asarray(random_images(3).reshape(3, -1), order=order)
    found = batch_pickle.read(pickle.dumps({"data": data, "labels": [1, 2, 3], b"n": [b"\xff\0"]}, protocol), "again")
    np.testing.assert_array_equal(found[b"data"], data)
    assert (found[b"labels"], found[b"n"]) == ([1, 2, 3], [b"\xff\0"])
    both = pickletools.optimize(pickle.dumps({"data": data}, protocol)).replace(b"numpy._core", b"numpy.core")
    if protocol < 4:  # the length of the name is part of protocol 4
        np.testing.assert_array_equal(batch_pickle.read(both, "numpy 1")[b"data"], data)


PNG = encoded(random_images(1)[0])


def tar_of(path, *infos: tuple[tarfile.TarInfo, bytes]):
    with tarfile.open(path, "w:gz") as tar:
        for info, raw in infos:
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


@pytest.mark.parametrize("name", ["../test/cat/1.png", "/test/cat/1.png", "a/../../b/cat/1.png", "C:/test/cat/1.png"])
def test_members_that_point_outside_are_refused(name, tmp_path):
    with pytest.raises(DataError, match="points outside the archive"):
        datasets.load(tar_of(tmp_path / "evil.tgz", (tarfile.TarInfo(name), PNG)))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, PNG)
    with pytest.raises(DataError, match="points outside the archive"):
        datasets.load(tmp_path / "evil.zip")


def test_links_and_devices_are_not_followed(tmp_path, tiny_class_folders):
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    path = tmp_path / "links.tar"
    job = ListJob()
    with tarfile.open(path, "w") as tar:
        tar.add(tiny_class_folders, "images")
        for name, kind in (
            ("a", tarfile.SYMTYPE),
            ("b", tarfile.LNKTYPE),
            ("c", tarfile.CHRTYPE),
            ("d", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(f"images/test/cat/{name}.png")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
    found = datasets.load(path, job).test
    assert len(found) == 20
    assert "links.tar: 4 links or special files were not followed." in job.notes

    link = zipfile.ZipInfo("images/test/cat/a.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    job = ListJob()
    with zipfile.ZipFile(pack_zip(tiny_class_folders, tmp_path / "links.zip"), "a") as archive:
        archive.writestr(link, str(secret))
    assert len(datasets.load(tmp_path / "links.zip", job).test) == 20
    assert "links.zip: 1 links or special files were not followed." in job.notes


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.995])
def test_truncated_archives_are_refused(kind, keep, tmp_path, tiny_class_folders):
    path = tmp_path / "cut.bin"
    whole = pack_zip(tiny_class_folders, path) if kind == "zip" else pack_tar(tiny_class_folders, path, kind)
    raw = whole.read_bytes()
    # A plain tar ends in up to 10 kB of zeros, of which one block is enough.
    end = len(raw.rstrip(b"\0")) if kind == "" else len(raw)
    path.write_bytes(raw[: int(end * keep)])
    with pytest.raises(DataError, match=r"cut\.bin"):
        datasets.load(path)


@pytest.mark.parametrize("kind", ["gz", "xz", "zip"])
def test_damaged_archives_never_raise_anything_else(kind, tmp_path, tiny_class_folders):
    path = tmp_path / "broken.bin"
    whole = pack_zip(tiny_class_folders, path) if kind == "zip" else pack_tar(tiny_class_folders, path, kind)
    raw = whole.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(12):
        broken = bytearray(raw)
        for place in rng.integers(6, len(raw), 5):
            broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            datasets.load(path)
        except DataError:
            refused += 1
    assert refused >= 6


def test_bombs_are_refused_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "MAX_UNPACKED", 2**22)
    monkeypatch.setattr(members, "MAX_READ", 2**20)
    zeros = bytes(2**23)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other", zeros)
    with pytest.raises(DataError, match="absurd"):
        datasets.load(tmp_path / "bomb.zip")
    with pytest.raises(DataError, match="absurd"):
        datasets.load(tar_of(tmp_path / "bomb.tgz", (tarfile.TarInfo("other"), zeros), (tarfile.TarInfo("b"), b"")))
    header = tarfile.TarInfo("a")
    header.pax_headers = {"comment": "x" * 2**21}
    with tarfile.open(tmp_path / "header.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header)
    with pytest.raises(DataError, match="absurd"):
        datasets.load(tmp_path / "header.tgz")
    monkeypatch.setattr(members, "MAX_MEMBERS", 5)
    many = tuple((tarfile.TarInfo(f"{i}"), b"") for i in range(7))
    with pytest.raises(DataError, match="more than 5 members"):
        datasets.load(tar_of(tmp_path / "many.tgz", *many))


def test_huge_members_are_refused_before_they_are_read(tmp_path, tiny_class_folders):
    big = [(tarfile.TarInfo(f"test/{name}/1.png"), bytes(2**20 + 1)) for name in ("cat", "dog")]
    with pytest.raises(DataError, match=r"cat/1\.png has 1,048,577 bytes"):
        datasets.load(tar_of(tmp_path / "big.tgz", *big))
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_batch", bytes(2**26 + 1))
    with pytest.raises(DataError, match="67,108,865 bytes"):
        datasets.load(tmp_path / "big.zip")


def test_encrypted_zips_are_named(tmp_path):
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test/cat/1.png", PNG)
        archive.writestr("test/dog/1.png", PNG)
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # the flag "encrypted", in the local header and in the directory
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"locked\.zip: test/cat/1\.png cannot be read: .*encrypted"):
        datasets.load(path)


def test_the_same_batch_twice_is_refused(tmp_path):
    raw = python2_pickle({b"labels": [0], b"data": np.zeros((1, 3072), np.uint8)})
    twice = [(tarfile.TarInfo(f"{folder}/test_batch"), raw) for folder in "ab"]
    with pytest.raises(DataError, match="b/test_batch is there a second time"):
        datasets.load(tar_of(tmp_path / "twice.tgz", *twice))
