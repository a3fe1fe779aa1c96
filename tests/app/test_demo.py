"""The demonstration as a person without a display starts it, with small networks and samples of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PySide6.QtGui import QImage

from ciad_app import demo, theme
from ciad_app.inspect.page import InspectPage
from ciad_engine import bundles, datasets, imaging, inspection, networks, resources
from tests.engine.helpers_data import write_samples


@pytest.fixture(scope="module")
def installed(tmp_path_factory, untrained_bundle):
    """A tree of resources: random pictures as samples, and a bundle whose f1 has learned them by heart."""
    import torch

    root = tmp_path_factory.mktemp("resources")
    random = np.random.default_rng(1)
    pictures = random.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(40, dtype=np.int64) % 10
    (root / "samples").mkdir()
    archive = root / "samples" / "samples.zip"
    write_samples(archive, pictures, labels, {"seed": 1})
    known = datasets.read_samples(archive)[0]
    card = bundles.read_card(untrained_bundle)
    folder = root / "models" / "paper"
    folder.mkdir(parents=True)
    for entry in card.content["networks"].values():
        (folder / entry["file"]).write_bytes((untrained_bundle / entry["file"]).read_bytes())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        f1 = networks.create("alexnet", dropout=0.0, dense_dropout=0.0)
        optimiser = torch.optim.Adam(f1.parameters(), 2e-3)
        inputs, wanted = torch.from_numpy(known.images).float() / 255, torch.from_numpy(known.labels)
        for _ in range(60):
            f1.train()
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(f1(inputs), wanted).backward()
            optimiser.step()
            f1.eval()
            if (f1(inputs).argmax(1) == wanted).all():
                break
    content = json.loads(json.dumps(card.content))
    content["networks"]["classifier"]["sha256"] = bundles.save_network(f1, folder / "classifier.safetensors")
    bundles.save_card(folder, {**content, "name": "paper"})
    return root


@pytest.fixture
def here(installed, monkeypatch, qapp):
    monkeypatch.setattr(resources, "path", lambda *parts: installed.joinpath(*parts))
    theme.prepare(qapp)
    return installed


def test_pictures_tables_and_a_verdict(here, tmp_path, monkeypatch, own_folders):
    quick = (("fgsm", {}), ("cw", {"search_steps": 1, "iterations": 3, "initial_c": 1.0}))
    monkeypatch.setattr(demo, "EVALUATED", quick)
    monkeypatch.setattr(demo, "IMAGES", 4)
    said, shown = [], []
    real = InspectPage._show
    monkeypatch.setattr(InspectPage, "_show", lambda page, found: (shown.append(found), real(page, found)))
    folder = tmp_path / "ciad-demo"
    demo.run(folder, "paper", "cpu", said.append)
    text = "\n".join(said)
    name, _, told = said[0].partition(": ")
    assert name in datasets.samples().names
    assert [inspection.sentence(found) for found in shown if found.name == name][-1] == told
    assert told.startswith(("ADVERSARIAL: ", "MISSED: "))
    assert "Table 1" in text
    assert "FGSM" in text
    for name in ("window.png", "evaluate.png"):
        shown = QImage(str(folder / name))
        assert (shown.width(), shown.height()) == demo.SIZE
        assert len({shown.pixel(x, y) for x in range(0, shown.width(), 8) for y in range(0, shown.height(), 8)}) > 20
    picture = imaging.read(folder / "adversarial.png", 32)
    assert picture.note == ""
    known = datasets.samples().images.astype(np.int64)
    changed = np.abs(known - picture.pixels).max((1, 2, 3)).min()
    assert 0 < changed <= 8  # FGSM's default budget, from one of the samples
    assert list(folder.glob("*.csv"))
    assert not (own_folders / "data" / "runs.sqlite").exists()
    assert not (own_folders / "config").exists()


def test_a_missing_bundle_is_a_message(here, tmp_path):
    with pytest.raises(demo.DemoError, match=r"loading the models.*nowhere"):
        demo.run(tmp_path, "nowhere", "cpu", print)


def test_missing_samples_are_a_message(here, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "path", lambda *parts: tmp_path if parts[0] == "samples" else here.joinpath(*parts))
    with pytest.raises(demo.DemoError, match="samples are missing"):
        demo.run(tmp_path / "out", "paper", "cpu", print)


def test_an_unexpected_error_in_the_window_ends_it(here, tmp_path, monkeypatch):
    from ciad_app.inspect import work

    def broken(*_):
        raise ZeroDivisionError("inside the engine thread")

    monkeypatch.setattr(work, "inspect", broken)
    with pytest.raises(demo.DemoError, match="inside the engine thread"):
        demo.run(tmp_path, "paper", "cpu", print)


def test_waiting_has_an_end(here, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SECONDS", 0.0)
    with pytest.raises(demo.DemoError, match="gave up while loading the models"):
        demo.run(tmp_path, "paper", "cpu", print)


def test_damaged_samples_end_it_at_once_with_the_reason(here, tmp_path, monkeypatch):
    from ciad_app.inspect import work
    from ciad_engine.errors import DataError

    def damaged(*_):
        raise DataError("samples.zip is damaged")

    monkeypatch.setattr(work, "samples", damaged)
    with pytest.raises(demo.DemoError, match="is damaged"):
        demo.run(tmp_path / "out", "paper", "cpu", print)


def test_a_note_is_no_failure(here, tmp_path, monkeypatch):
    """Such as that a batch was halved because the device's memory is full."""

    class Reached(Exception):  # noqa: N818 - it ends the test where it should
        pass

    def inspect(running):
        running.engine.note.emit("Out of memory on the device: going on with batches of 64 images.")
        idle = iter([False, True])
        running.wait("going on", lambda: next(idle))
        raise Reached

    monkeypatch.setattr(demo._Demo, "inspect", inspect)
    with pytest.raises(Reached):
        demo.run(tmp_path / "out", "paper", "cpu", print)


def test_a_folder_in_use_is_left_alone(here, tmp_path):
    (tmp_path / "table1.csv").write_text("mine")
    with pytest.raises(demo.DemoError, match="holds other files"):
        demo.run(tmp_path, "paper", "cpu", print)
    assert (tmp_path / "table1.csv").read_text() == "mine"
