import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ciad_engine import datasets, resources
from ciad_engine.datasets import ImageSet, official, reading
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError
from ciad_engine.jobs import Cancelled, Job
from tests.engine.helpers_data import (
    ListJob,
    encoded,
    pack_tar,
    pack_zip,
    python2_pickle,
    random_images,
    write_batches,
    write_samples,
)


def same(a: ImageSet, b: ImageSet) -> bool:
    return a.checksum == b.checksum and (a.images == b.images).all() and (a.labels == b.labels).all()


def test_batches_are_read_in_their_order(tiny_cifar_folder):
    job = ListJob()
    found = datasets.load(tiny_cifar_folder, job)
    assert found.train is not None
    assert found.test is not None
    np.testing.assert_array_equal(found.train.images, np.concatenate([random_images(20, seed) for seed in range(5)]))
    np.testing.assert_array_equal(found.test.images, random_images(20, 5))
    np.testing.assert_array_equal(found.test.labels, np.arange(20) % 10)
    assert found.test.names[17] == "test_batch[17]"
    assert found.train.names[21] == "data_batch_2[1]"
    assert found.test.source == "CIFAR-10 test set (not the official files)"
    assert found.train.source == "CIFAR-10 training set (not the official files)"
    assert not found.official
    assert not found.test.official
    assert not found.train.official
    assert (found.name, found.path) == ("cifar-10-batches-py", tiny_cifar_folder)
    assert any("not the official" in note for note in job.notes)
    assert job.seen[-1][0] == job.seen[-1][1] == 7


def test_parent_and_single_batch_lead_to_the_folder(tiny_cifar_folder):
    test = datasets.load(tiny_cifar_folder).test
    assert same(test, datasets.load(tiny_cifar_folder.parent).test)
    assert same(test, datasets.load(str(tiny_cifar_folder / "test_batch")).test)


def test_official_files_are_recognised_by_their_sums(tiny_cifar_folder, monkeypatch):
    def md5(name: str) -> str:
        return hashlib.md5((tiny_cifar_folder / name).read_bytes()).hexdigest()

    monkeypatch.setattr(official, "TRAIN_MD5", {name: md5(name) for name in official.TRAIN_MD5})
    monkeypatch.setattr(official, "TEST_MD5", {"test_batch": md5("test_batch")})
    found = datasets.load(tiny_cifar_folder)
    assert found.official
    assert (found.test.source, found.train.source) == ("CIFAR-10 test set", "CIFAR-10 training set")
    monkeypatch.setitem(official.TRAIN_MD5, "data_batch_3", "0" * 32)
    found = datasets.load(tiny_cifar_folder)
    assert found.test.official
    assert not found.train.official  # one other batch is enough
    assert not found.official


def test_class_folders(tiny_class_folders):
    found = datasets.load(tiny_class_folders)
    # Written 0 1 ... 9 0 1 ...: reading interleaves the classes the same way.
    np.testing.assert_array_equal(found.train.images, random_images(20, 1))
    np.testing.assert_array_equal(found.test.images, random_images(20, 2))
    np.testing.assert_array_equal(found.test.labels, np.arange(20) % 10)
    assert found.test.names[13] == "test/cat/0001.png"
    assert found.test.source == f"test images of {tiny_class_folders.parent.name}/images (not the official files)"
    assert same(found.test, datasets.load(tiny_class_folders.parent).test)
    alone = datasets.load(tiny_class_folders / "train")
    assert same(found.train, alone.train)
    assert alone.test is None


def test_class_folders_without_a_split_are_a_test_set(tiny_class_folders, tmp_path):
    shutil.copytree(tiny_class_folders / "test", tmp_path / "mine")
    found = datasets.load(tmp_path / "mine")
    assert found.train is None
    np.testing.assert_array_equal(found.test.images, random_images(20, 2))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("form", ["tiny_cifar_folder", "tiny_class_folders"])
def test_archives_hold_the_same(kind, form, request, tmp_path):
    folder = request.getfixturevalue(form)
    path = tmp_path / "data.bin"  # recognised by content
    packed = pack_zip(folder, path) if kind == "zip" else pack_tar(folder, path, kind[4:])
    job = ListJob()
    found, expected = datasets.load(packed, job), datasets.load(folder)
    assert same(found.test, expected.test)
    assert same(found.train, expected.train)
    assert found.test.names == expected.test.names
    assert job.seen[-1][0] == job.seen[-1][1] > 0
    assert [p.name for p in tmp_path.iterdir() if p.name != "user"] == ["data.bin"]  # nothing was unpacked to disk


def test_only_the_asked_parts_are_read(tiny_cifar_folder, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    shutil.copytree(tiny_cifar_folder, folder)
    (folder / "data_batch_2").write_bytes(b"\x80\x02U")
    assert len(reading.read(folder, Job(), ("test",)).test) == 20
    with pytest.raises(DataError, match="data_batch_2 is damaged"):
        datasets.load(folder)
    (folder / "test_batch").unlink()
    assert reading.read(folder, Job(), ("test",)).test is None


def test_choose(tiny_cifar_folder, tiny_class_folders, tmp_path, monkeypatch):
    assert same(datasets.choose(str(tiny_cifar_folder)), datasets.load(tiny_cifar_folder).test)
    assert same(datasets.choose(str(tiny_class_folders / "train")), datasets.load(tiny_class_folders).train)
    monkeypatch.setattr(resources, "path", lambda *parts: tmp_path.joinpath(*parts))
    write_samples(tmp_path / "samples" / "samples.zip", random_images(10), np.arange(10), {"seed": 1, "recipe": "none"})
    assert datasets.choose("samples").source == "CIAD samples (generated)"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither batches"):
        datasets.choose(str(tmp_path / "empty"))


def test_nothing_useful_there(tmp_path, tiny_class_folders):
    with pytest.raises(DataError, match="nowhere does not exist"):
        datasets.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no data set: neither batches"):
        datasets.load(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(DataError, match=r"notes\.txt is neither a folder nor an archive"):
        datasets.load(tmp_path / "notes.txt")
    (tmp_path / "nothing").write_bytes(b"")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        datasets.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        datasets.load(tiny_class_folders / "test" / "cat" / "0000.png")


@pytest.fixture
def folders(tiny_class_folders, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_class_folders, tmp_path / "images"))


def test_wrong_sizes_and_damaged_pictures_are_named(folders):
    path = folders / "test" / "dog" / "0001.png"
    good = path.read_bytes()
    path.write_bytes(encoded(np.zeros((3, 32, 33), np.uint8)))
    with pytest.raises(DataError, match=r"0001\.png is 33x32, but .*0000\.png is 32x32; the pictures .* of one size"):
        datasets.load(folders)
    path.write_bytes(good[:100])
    with pytest.raises(DataError, match=r"dog/0001\.png is damaged or truncated".replace("/", r"[/\\]")):
        datasets.load(folders)
    path.write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(DataError, match=r"0001\.png has 1,048,577 bytes"):
        datasets.load(folders)


def test_other_files_between_the_pictures_do_not_matter(folders, tmp_path):
    (folders / "test" / "cat" / "Thumbs.db").write_bytes(b"x")
    (folders / "test" / "cat" / "._0000.png").write_bytes(b"what a Mac leaves behind")
    (folders / "test" / "readme.txt").write_text("hello")
    assert len(datasets.load(folders).test) == 20
    assert len(datasets.load(pack_zip(folders, tmp_path / "d.zip")).test) == 20


def test_two_sets_in_one_archive_are_refused(folders, tmp_path):
    shutil.copytree(folders, folders / "again")
    with pytest.raises(DataError, match=r"more than one data set \('images' and 'images/again'\)"):
        datasets.load(pack_zip(folders, tmp_path / "two.zip"))


def test_missing_batch_is_named(tmp_path):
    folder = write_batches(tmp_path)
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4 missing"):
        datasets.load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"labels": [0] * 19}, "20 images but 19 labels"),
        ({b"labels": [0] * 19 + [10]}, "label of image 19 is none of 0 to 9"),
        ({b"labels": [0] * 19 + [-1]}, "label of image 19 is none of 0 to 9"),
        ({b"labels": [0] * 19 + [b"cat"]}, "label of image 19 is none of 0 to 9"),
        ({b"labels": b"0" * 20}, "no labels"),
        ({b"data": np.zeros((20, 3071), np.uint8)}, r"shape \(20, 3071\)"),
        ({b"data": np.zeros(3072, np.uint8)}, r"shape \(3072,\)"),
        ({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}, r"shape \(0, 3072\)"),
        ({b"data": [1, 2, 3]}, "no images"),
    ],
)
def test_batches_of_another_shape_are_refused(change, reason, tmp_path):
    folder = write_batches(tmp_path)
    content = {b"labels": [0] * 20, b"data": np.zeros((20, 3072), np.uint8)}
    (folder / "test_batch").write_bytes(python2_pickle({**content, **change}))
    with pytest.raises(DataError, match=f"test_batch.*{reason}"):
        datasets.load(folder)


def test_other_class_names_in_the_meta_file_are_refused(tmp_path):
    folder = write_batches(tmp_path)
    names = [name.encode() for name in reversed(CIFAR10.classes)]
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": names}))
    with pytest.raises(DataError, match=r"batches\.meta does not list the ten classes"):
        datasets.load(folder)


def test_cancelling_stops_reading(tiny_class_folders, tiny_cifar_folder, tmp_path):
    for path in (tiny_class_folders, tiny_cifar_folder, pack_tar(tiny_cifar_folder, tmp_path / "a.tar", "")):
        with pytest.raises(Cancelled):
            datasets.load(path, ListJob(cancel_after=0))


def test_image_sets_check_what_they_hold():
    pictures, labels = random_images(4), np.arange(4)
    whole = ImageSet(pictures, labels, "here")
    assert whole.checksum == hashlib.sha256(pictures.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert len(whole) == len(whole.names) == 4
    part = whole.subset([2, 0])
    np.testing.assert_array_equal(part.images, pictures[[2, 0]])
    assert part.labels.tolist() == [2, 0]
    assert part.names == (whole.names[2], whole.names[0])
    assert part.checksum == datasets.checksum(pictures[[2, 0]], labels[[2, 0]]) != whole.checksum
    assert len(whole.subset(np.array([], int))) == 0
    for wrong in ((pictures[:, :, :31], labels), (pictures, labels[:3]), (pictures.astype(float), labels)):
        with pytest.raises(ValueError, match="wanted"):
            ImageSet(*wrong, "here")


def test_reading_data_imports_no_torch():
    code = (
        "import sys, ciad_engine.datasets, ciad_engine.download, ciad_engine.imaging; sys.exit('torch' in sys.modules)"
    )
    root = Path(datasets.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0
