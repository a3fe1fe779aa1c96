import json
import zipfile

import numpy as np
import pytest

from ciad_engine import datasets, resources
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError
from tests.engine.helpers_data import random_images, write_samples

PICTURES = random_images(30, 9)
LABELS = np.random.default_rng(0).permutation(np.arange(30) % 10)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "samples.zip"
    write_samples(path, PICTURES, LABELS, {"seed": 4, "recipe": {"steps": 40}})
    return path


def test_samples_come_back_bit_for_bit(archive, monkeypatch):
    found, card = datasets.read_samples(archive)
    assert (card["seed"], card["recipe"], card["count"]) == (4, {"steps": 40}, 30)
    assert found.source == "CIAD samples (generated)"
    assert not found.official
    assert found.labels.tolist() == list(range(10)) * 3  # interleaved: any beginning is balanced
    for i, label in enumerate(found.labels):
        np.testing.assert_array_equal(found.images[i], PICTURES[label == LABELS][i // 10])
        assert found.names[i] == f"{CIFAR10.classes[label]}/{i // 10:04d}.png"
    monkeypatch.setattr(resources, "path", lambda *parts: archive)
    assert datasets.samples().checksum == found.checksum == card["sha256"]


def test_the_same_samples_make_the_same_archive(archive, tmp_path):
    again = tmp_path / "again.zip"
    write_samples(again, PICTURES, LABELS, {"seed": 4, "recipe": {"steps": 40}})
    assert again.read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist()[0] == "card.json"
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_archive_of_samples_is_a_data_set_too(archive):
    assert datasets.load(archive).test.checksum == datasets.read_samples(archive)[0].checksum


def test_missing_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "path", lambda *parts: tmp_path.joinpath(*parts))
    with pytest.raises(DataError, match="bundled samples are missing"):
        datasets.samples()


def rewrite(archive, change):
    """Write the archive again with `change(name, raw)` in place of each member; None leaves it out."""
    with zipfile.ZipFile(archive) as packed:
        members = [(name, packed.read(name)) for name in packed.namelist()]
    with zipfile.ZipFile(archive, "w") as packed:
        for name, raw in members:
            if (raw := change(name, raw)) is not None:
                packed.writestr(name, raw)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda name, raw: None if name == "images/cat/0001.png" else raw, "not those on its card"),
        (lambda name, raw: None if name == "card.json" else raw, r"has no card\.json"),
        (lambda name, raw: b"{" if name == "card.json" else raw, "not valid JSON"),
        (lambda name, raw: raw.replace(b'"format": 1', b'"format": 2'), "another format"),
        (lambda name, raw: raw.replace(b'"cat",\n "dog"', b'"dog",\n "cat"'), None),
    ],
)
def test_changed_samples_are_refused(change, reason, archive):
    if reason is None:  # other class order
        content = {}

        def change(name, raw):
            if name == "card.json":
                content.update(json.loads(raw))
                content["classes"].reverse()
                return json.dumps(content).encode()
            return raw

        reason = "for other classes"
    rewrite(archive, change)
    with pytest.raises(DataError, match=reason):
        datasets.read_samples(archive)


def test_what_may_be_written(tmp_path):
    path = tmp_path / "samples.zip"
    with pytest.raises(ValueError, match="every class"):
        write_samples(path, PICTURES[:9], np.arange(9), {})
    with pytest.raises(ValueError, match="count"):
        write_samples(path, PICTURES, LABELS, {"count": 3})
    with pytest.raises(ValueError, match="wanted"):
        write_samples(path, PICTURES, LABELS[:3], {})
    assert not path.exists()
