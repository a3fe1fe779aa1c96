"""Class-named folders of any classes, and how they are matched to a bundle."""

import io
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ciad_engine import datasets
from ciad_engine.datasets import ImageSet, class_folders, reading
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job
from tests.engine.helpers_data import (
    ListJob,
    encoded,
    pack_tar,
    pack_zip,
    random_images,
    write_batches,
    write_class_folders,
)

SIGNS = Domain(tuple(f"{number:02d}" for number in range(43)), 64)
PNG = encoded(random_images(1)[0])


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 classes at 64x64, one picture a class and part."""
    return write_class_folders(tmp_path_factory.mktemp("signs"), 1, SIGNS)


def write(root: Path, *names: str, raw: bytes = PNG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return root


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else PNG)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "", "gz"])
def test_any_classes_at_any_size(kind, signs, tmp_path):
    path = {"folder": lambda: signs, "zip": lambda: pack_zip(signs, tmp_path / "signs.zip")}.get(
        kind, lambda: pack_tar(signs, tmp_path / "signs.tar", kind)
    )()
    job = ListJob()
    found = datasets.load(path, job)
    assert found.domain == found.train.domain == found.test.domain == SIGNS
    np.testing.assert_array_equal(found.test.images, random_images(43, 2, 64))
    np.testing.assert_array_equal(found.train.labels, np.arange(43))
    assert found.test.names[7] == "test/07/0000.png"
    # Nobody takes it for CIFAR-10, so nobody has to be told that it is not.
    assert found.test.source.endswith("images" if kind == "folder" else path.name)
    assert (found.official, job.notes) == (False, [])
    assert [done for done, _, _ in job.seen] == sorted(done for done, _, _ in job.seen)
    assert job.seen[-1][0] == job.seen[-1][1] > 0


def test_ten_classes_at_32x32_are_read_as_ever(tiny_class_folders):
    """The same bits in the same order: runs know their data by this checksum."""
    found = datasets.load(tiny_class_folders)
    assert found.domain == CIFAR10
    for part, seed in ((found.train, 1), (found.test, 2)):
        assert part.checksum == datasets.checksum(random_images(20, seed), np.arange(20) % 10)
    assert found.test.checksum == "a9d6a04fad4eaff8d77d8b366dab9d0a621ded1487820e68b647418edf3885c3"


def test_fewer_classes_are_a_data_set_of_their_own(tiny_class_folders, tmp_path):
    root = Path(shutil.copytree(tiny_class_folders, tmp_path / "animals"))
    for part in ("train", "test"):
        for name in set(CIFAR10.classes) - {"cat", "dog"}:
            shutil.rmtree(root / part / name)
    found = datasets.load(root)
    assert found.domain == Domain(("cat", "dog"), 32)
    assert found.test.labels.tolist() == [0, 1, 0, 1]
    fitting = found.test.matched(CIFAR10)
    assert fitting.labels.tolist() == [3, 5, 3, 5]
    assert fitting.domain == CIFAR10
    assert fitting.checksum == datasets.checksum(found.test.images, fitting.labels) != found.test.checksum


def test_an_empty_class_folder_is_named(tmp_path):
    root = write(tmp_path / "data", "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")
    (root / "train" / "eel").mkdir()
    for path in (root, pack_zip(root, tmp_path / "a.zip"), pack_tar(root, tmp_path / "a.tar", "")):
        with pytest.raises(DataError, match=r"its train set has no picture of the class eel\. Add some, or remove"):
            reading.read(path, Job(), ("train",))
        assert reading.read(path, Job(), ("test",)).domain.classes == ("cat", "dog")


def test_both_parts_have_the_same_classes(tmp_path):
    root = write(tmp_path / "data", "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")
    shutil.rmtree(root / "test" / "dog")
    write(root, "test/eel/1.png")
    with pytest.raises(DataError, match="its train set has no picture of the class eel"):
        datasets.load(root)
    shutil.rmtree(root / "test" / "eel")
    with pytest.raises(DataError, match="its test set has no picture of the class dog"):
        datasets.load(root)
    assert datasets.choose(str(root / "train")).domain.classes == ("cat", "dog")


def test_one_class_is_no_data_set(tmp_path):
    root = write(tmp_path / "data", "test/cat/1.png")
    with pytest.raises(DataError, match="all its pictures are of one class, 'cat'"):
        datasets.load(root)
    write(tmp_path / "pictures", "holidays/1.png", "readme/notes.txt")
    with pytest.raises(DataError, match="holds no data set"):
        datasets.load(tmp_path / "pictures")


def test_classes_are_in_alphabetical_order_whatever_the_order_of_an_archive(tmp_path):
    names = [f"data/test/{name}/{number}.png" for number in (2, 1) for name in ("dog", "eel", "cat")]
    found = datasets.load(zip_of(tmp_path / "a.zip", *names)).test
    assert found.domain.classes == ("cat", "dog", "eel")
    assert found.names == tuple(f"test/{name}/{number}.png" for number in (1, 2) for name in ("cat", "dog", "eel"))


def test_a_member_that_is_there_twice_counts_once(tmp_path):
    path = tmp_path / "twice.tar"
    last = encoded(random_images(1, 9)[0])
    with tarfile.open(path, "w") as tar:
        for name, raw in (("a/cat/1.png", PNG), ("a/dog/1.png", PNG), ("a/cat/1.png", last)):
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    found = datasets.load(path).test
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(found.images[0], random_images(1, 9)[0])  # as unpacking it would leave it


def test_a_split_goes_before_class_folders_without_one(tmp_path):
    split = [f"{part}/{name}/1.png" for part in ("train", "test") for name in ("cat", "dog")]
    loose = ["figures/1.png", "previews/1.png"]
    for path in (write(tmp_path / "data", *split, *loose), zip_of(tmp_path / "a.zip", *loose, *split)):
        found = datasets.load(path)
        assert found.domain.classes == ("cat", "dog")
        assert (len(found.train), len(found.test)) == (2, 2)


def test_a_split_is_one_even_if_the_asked_part_is_not_in_it(tmp_path):
    names = ("train/cat/1.png", "train/dog/1.png", "a/1.png", "b/1.png")
    for path in (write(tmp_path / "data", *names), zip_of(tmp_path / "a.zip", *names)):
        assert reading.read(path, Job(), ("test",)).test is None
        assert datasets.choose(str(path)).domain.classes == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path):
    names = ("bus/1.png", "train/1.png", "tram/1.png")
    for path in (write(tmp_path / "vehicles", *names), zip_of(tmp_path / "a.zip", *names)):
        assert datasets.load(path).test.domain.classes == ("bus", "train", "tram")


def test_class_folders_without_a_split_hold_pictures_directly(tmp_path):
    names = (
        "cat/1.png", "dog/1.png", "dog/more/1.png", "dog/less/1.png", "notes/readme.txt", "overview.png",
        ".cache/1.png", "__MACOSX/1.png", "cat/.1.png",
    )  # fmt: skip
    root = write(tmp_path / "data", *names)
    for path in (root, pack_zip(root, tmp_path / "a.zip"), pack_tar(root, tmp_path / "a.tgz", "gz")):
        found = datasets.load(path)
        assert found.train is None
        assert found.test.names == ("test/cat/1.png", "test/dog/1.png")


def test_class_folders_below_images(tmp_path):
    root = write(tmp_path / "data", "images/cat/1.png", "images/dog/1.png", "scripts/1.png")
    assert datasets.load(root).domain.classes == ("cat", "dog")
    write(root, "figures/1.png")
    with pytest.raises(DataError, match=r"more than one data set \('\.' and 'images'\): name one of them"):
        datasets.load(root)
    assert datasets.load(root / "images").domain.classes == ("cat", "dog")


def test_two_data_sets_are_refused_by_name(tmp_path):
    loose = [f"{top}/{name}/1.png" for top in "ab" for name in ("cat", "dog")]
    with pytest.raises(DataError, match=r"more than one data set \('a' and 'b'\)"):
        datasets.load(zip_of(tmp_path / "loose.zip", *loose))
    split = [f"{base}test/{name}/1.png" for base in ("", "images/") for name in ("cat", "dog")]
    for path in (zip_of(tmp_path / "split.zip", *split), write(tmp_path / "split", *split)):
        with pytest.raises(DataError, match=r"more than one data set \('\.' and 'images'\)"):
            datasets.load(path)


def test_batches_go_before_pictures(tmp_path):
    write_batches(tmp_path)
    write(tmp_path, "test/cat/1.png", "test/dog/1.png")
    for path in (tmp_path, pack_zip(tmp_path, tmp_path.parent / "both.zip")):
        assert datasets.load(path).test.names[0] == "test_batch[0]"
    write(tmp_path / "odd" / "test_batch", "cat/1.png", "dog/1.png")  # a folder of that name is no batch
    assert datasets.load(pack_zip(tmp_path / "odd", tmp_path.parent / "odd.zip")).test.domain.classes == ("cat", "dog")


def test_nothing_is_listed_below_the_class_folders(tmp_path, monkeypatch):
    root = write(tmp_path / "home", "cat/1.png", "dog/1.png", "deep/er/est/1.png", ".hidden/er/1.png")
    listed = []
    iterdir = Path.iterdir

    def watched(self):
        listed.append(self.relative_to(root).as_posix())
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", watched)
    assert len(datasets.load(root).test) == 2
    assert sorted(listed) == [".", "cat", "deep", "dog"]


def test_pictures_of_two_sizes_are_refused(tmp_path):
    root = write(tmp_path / "data", "test/cat/1.png", "test/dog/1.png", "train/cat/1.png", "train/dog/1.png")
    write(root, "test/dog/1.png", raw=encoded(random_images(1, size=48)[0]))
    for path in (root, pack_zip(root, tmp_path / "a.zip")):
        with pytest.raises(
            DataError,
            match=r"1\.png is (48x48|32x32), but .*1\.png is (32x32|48x48); the pictures .* of one size\. Scale",
        ):
            datasets.load(path)
    assert reading.read(root, Job(), ("train",)).domain.size == 32


@pytest.mark.parametrize(("height", "width"), [(65, 65), (32, 48), (48, 32)])
def test_pictures_have_to_be_small_and_square(height, width, tmp_path):
    root = write(tmp_path / "data", "a/1.png", "b/1.png", raw=encoded(np.zeros((3, height, width), np.uint8)))
    with pytest.raises(DataError, match=rf"1\.png is {width}x{height}; .* have to be square, of at most 64x64\. Scale"):
        datasets.load(root)


def test_class_names_do_not_depend_on_who_packed_them(tmp_path):
    found = [
        datasets.load(zip_of(tmp_path / f"{form}.zip", *(unicodedata.normalize(form, f"{n}/1.png") for n in "äö"))).test
        for form in ("NFC", "NFD")
    ]
    assert found[0].domain == found[1].domain == Domain(("ä", "ö"), 32)


def test_links_in_an_archive_are_noted_once(tmp_path):
    root = write(tmp_path / "data", "cat/1.png", "dog/1.png")
    (root / "cat" / "2.png").symlink_to(root / "dog" / "1.png")
    job = ListJob()
    datasets.load(pack_tar(root, tmp_path / "a.tar", ""), job)
    assert job.notes == ["a.tar: 1 links or special files were not followed."]


def small(classes: tuple[str, ...], size: int = 32) -> ImageSet:
    labels = np.arange(len(classes))
    return ImageSet(random_images(len(classes), 3, size), labels, "some pictures", domain=Domain(classes, size))


def test_the_same_domain_needs_no_matching():
    data = small(("cat", "dog"))
    assert data.matched(Domain(("cat", "dog"), 32)) is data


def test_labels_are_matched_by_name():
    data = small(("ant", "bee", "cat"))
    fitting = data.matched(Domain(("cat", "dog", "bee", "ant"), 32))
    assert fitting.labels.tolist() == [3, 2, 0]
    assert [fitting.domain.classes[label] for label in fitting.labels] == ["ant", "bee", "cat"]
    assert fitting.checksum == datasets.checksum(data.images, np.array([3, 2, 0])) != data.checksum
    assert (fitting.source, fitting.names) == (data.source, data.names)
    assert fitting.matched(data.domain.__class__(("cat", "dog", "bee", "ant"), 32)) is fitting
    assert fitting.subset([2, 0]).domain == fitting.domain


def test_labels_that_stay_keep_the_checksum():
    data = small(("ant", "bee"))
    fitting = data.matched(Domain(("ant", "bee", "cat"), 32))
    assert (fitting.domain.classes, fitting.checksum) == (("ant", "bee", "cat"), data.checksum)


def test_what_does_not_fit_is_refused_with_what_is_missing():
    with pytest.raises(DataError, match=r"some pictures does not fit.* does not know: bee, cow. Choose other data"):
        small(("ant", "bee", "cow")).matched(Domain(("ant", "cat"), 32))
    with pytest.raises(DataError, match=r"its images are 48x48, not 32x32. Choose"):
        small(("ant", "bee"), 48).matched(Domain(("ant", "bee"), 32))
    with pytest.raises(DataError, match=r"48x48, not 32x32; .*does not know: bee"):
        small(("ant", "bee"), 48).matched(Domain(("ant", "cat"), 32))
    with pytest.raises(DataError, match=r"does not know: 00, 01, .*, 19 and 23 more"):
        small(SIGNS.classes).matched(CIFAR10)


def test_labels_name_a_class():
    for label in (-1, 2):
        with pytest.raises(ValueError, match="labels: wanted 0 to 1"):
            ImageSet(random_images(1), np.array([label]), "here", domain=Domain(("a", "b"), 32))


def test_many_folders_are_sorted_out_quickly():
    """Every two pictures of this archive could be a data set."""
    names = [f"{'x/' * (i % 7)}{i}/{name}/1.png" for i in range(20_000) for name in "ab"]
    with pytest.raises(DataError, match="more than one data set"):
        class_folders.find(names, ("test",), Path("many.zip"))
