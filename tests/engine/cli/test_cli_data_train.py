"""`ciad data` and `ciad train`: a small data set, a recipe of a few steps, a server of our own."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ciad_engine import bundles, datasets, download, resources
from ciad_engine.cli import train
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.jobs import Job
from ciad_engine.training import recipes, stages
from ciad_engine.training.loop import Metric
from ciad_engine.training.recipes import Schedule
from tests.engine.helpers_data import write_class_folders

Ciad = Callable[..., tuple[int, str, str]]


def test_check_says_what_a_data_set_is(ciad: Ciad, folders: Path) -> None:
    (folders / "train" / "cat" / "0.png").unlink()
    code, text, err = ciad("data", "check", folders)
    assert code == 0, err
    loaded = datasets.load(folders)
    assert "NOT the official CIFAR-10 files" in text
    for name, part in (("training", loaded.train), ("test", loaded.test)):
        assert part is not None
        assert f"{name}: {len(part)} images, checksum {part.checksum}" in text
    counts = re.findall(r"^  (\w+) +(\d+)$", text, re.MULTILINE)
    assert [name for name, _ in counts] == list(CIFAR10.classes) * 2
    assert sorted(count for _, count in counts) == ["2"] + ["3"] * 19
    assert "10 classes, images of 32x32 pixels" in text


def test_check_lists_the_classes_of_any_data_set(ciad: Ciad, tmp_path: Path) -> None:
    signs = write_class_folders(tmp_path, 3, Domain(("give way", "stop"), 48))
    code, text, err = ciad("data", "check", signs)
    assert code == 0, err
    assert ": images; not CIFAR-10." in text.replace(f"{tmp_path.name}/", "")
    assert "2 classes, images of 48x48 pixels" in text
    assert re.findall(r"^  (give way|stop) +(\d)$", text, re.MULTILINE) == [("give way", "3"), ("stop", "3")] * 2
    assert "official" not in text + err


def test_check_of_the_samples_says_that_they_are_not_cifar(
    ciad: Ciad, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "samples", lambda: datasets.load(folders).test)
    code, text, err = ciad("data", "check", "samples")
    assert code == 0, err
    assert "made by a generative model; not CIFAR-10" in text
    assert "samples: 30 images" in text


def test_check_of_nothing_fails_with_its_name(ciad: Ciad, tmp_path: Path) -> None:
    code, text, err = ciad("data", "check", tmp_path / "none")
    assert (code, text) == (1, "")
    assert str(tmp_path / "none") in err
    assert err.count("\n") == 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A server that has the archive; yields its content."""
    content = b"an archive" * 1000

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    source = download.Source(f"http://127.0.0.1:{listening.server_port}/archive.tar.gz", "archive.tar.gz", digest)
    monkeypatch.setattr(download, "CIFAR10", source)
    yield content
    listening.shutdown()
    listening.server_close()


def test_fetch_puts_the_archive_where_it_says(ciad: Ciad, server: bytes, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    code, text, err = ciad("data", "fetch", "--to", target)
    assert code == 0, err
    assert (target / "archive.tar.gz").read_bytes() == server
    assert f"is at {target / 'archive.tar.gz'}" in text


def test_fetch_goes_to_the_data_folder_by_itself(
    ciad: Ciad, server: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "default_folder", lambda: tmp_path / "own")
    assert ciad("data", "fetch")[0] == 0
    assert (tmp_path / "own" / "archive.tar.gz").is_file()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe called "short": six steps a network."""
    schedule = Schedule(steps=3, batch=8)
    short = tuple(dataclasses.replace(stage, schedule=schedule) for stage in recipes.PAPER.stages)
    recipe = dataclasses.replace(recipes.PAPER, name="short", validation=10, stages=short)
    monkeypatch.setattr(recipes, "_RECIPES", {"short": recipe})


def test_train_writes_a_bundle_that_inspects(
    ciad: Ciad, short: None, folders: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "trained"
    words = ("train", "--recipe", "short", "--data", folders, "--out", out, "--device", "cpu", "--seed", 3)
    code, text, err = ciad(*words)
    assert code == 0, err
    assert "is not the official CIFAR-10 (other checksums)" in err
    assert "classifier, step 3 of 3: loss " in err
    card = bundles.read_card(out)
    assert card.content["seed"] == 3
    figures = next(iter(card.content["measured"].values()))
    assert re.search(rf"^  accuracy of f1 +{figures['accuracy']['f1']:.4f}$", text, re.MULTILINE)
    assert ciad("inspect", pictures[0], "--bundle", out)[0] == 0

    code, text, err = ciad(*words)
    assert (code, text) == (1, "")
    assert "add --resume" in err


def test_a_cancelled_training_says_how_to_go_on(
    ciad: Ciad, short: None, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.train_bundle
    out = tmp_path / "trained"

    def interrupted(recipe, data, folder, job: Job, **rest):  # type: ignore[no-untyped-def]
        job.on_result = lambda metric: job.cancel()  # type: ignore[attr-defined]
        return whole(recipe, data, folder, job, **rest)

    monkeypatch.setattr(stages, "train_bundle", interrupted)
    words = ("train", "--recipe", "short", "--data", folders, "--out", out, "--device", "cpu")
    code, text, err = ciad(*words)
    assert (code, text) == (130, "")
    assert err.splitlines()[-1] == (
        f"ciad: cancelled. Checkpoints are in {out / 'training'}; the same command with --resume goes on."
    )
    assert not (out / bundles.CARD).exists()
    monkeypatch.setattr(stages, "train_bundle", whole)
    assert ciad(*words, "--resume")[0] == 0
    assert bundles.read_card(out).name == "short"


def test_an_unknown_recipe_is_wrong_use(ciad: Ciad, tmp_path: Path) -> None:
    code, _, err = ciad("train", "--recipe", "soup", "--data", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "--recipe: 'soup' is none of paper, contrast, strong, surrogate." in err


def test_metrics_are_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    lines: list[str] = []

    class Listener:
        def line(self, text: str) -> None:
            lines.append(text)

    curve = train._Curve(Listener())  # type: ignore[arg-type]
    for step in range(50, 1001, 50):
        now[0] += 10
        curve.show(Metric("mask_generator", step, 1000, {"loss": step / 3}))
    assert len(lines) == 7
    assert lines[0] == "mask generator, step 150 of 1,000: loss 50"
    assert lines[-1] == "mask generator, step 1,000 of 1,000: loss 333.3"


def test_a_broken_bundle_is_named_and_hides_no_other(
    ciad: Ciad, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    models, own = tmp_path / "shipped" / "models", tmp_path / "own"
    for name in ("good", "damaged", "incomplete", "empty"):
        shutil.copytree(bundle, models / name)
    weights = models / "damaged" / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (models / "incomplete" / "mask_classifier.safetensors").unlink()
    (models / "empty" / bundles.CARD).unlink()
    (own / "odd").mkdir(parents=True)
    (own / "odd" / bundles.CARD).write_text("{")
    monkeypatch.setattr(resources, "path", lambda *parts: tmp_path.joinpath("shipped", *parts))
    monkeypatch.setattr(bundles, "user_folder", lambda: own)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data" / name)

    code, text, err = ciad("info")
    assert (code, err) == (1, "")  # it is a report all the same
    lines = {name: [line for line in text.splitlines() if f"/{name}:" in line] for name in ("good", "damaged", "odd")}
    assert re.search(r"complete, 2\.\d MB, classifier, mask_generator", lines["good"][0])
    assert re.search(r"BROKEN: .*classifier\.safetensors is damaged", lines["damaged"][0])
    assert "BROKEN: mask_classifier.safetensors is missing" in text
    assert "not valid JSON" in lines["odd"][0]
    assert re.search(r"/empty: BROKEN: Cannot read", text)
    assert "The bundled samples are missing" in text
    for word in ("CIAD", "Python", "torch", "numpy", "device", "data folder", "database"):
        assert re.search(rf"^{word} +\S", text, re.MULTILINE), word

    code, text, _ = ciad("bundles", "list")
    assert code == 0
    assert len(text.splitlines()) == 4
    code, text, _ = ciad("bundles", "show", models / "good")
    assert code == 0
    assert re.search(r"mask generator \(g\) +lan", text)
    content = json.loads(ciad("bundles", "show", models / "good", "--json")[1])
    assert content["checksum"] == bundles.read_card(models / "good").checksum
    code, text, err = ciad("bundles", "show", models / "damaged")
    assert code == 1
    assert re.search(r"cannot be used: .*classifier\.safetensors is damaged", err)


@pytest.mark.parametrize("where", ["root", "bundle", "card", "weights", "data"])
def test_info_names_what_it_may_not_read_and_goes_on(
    where: str, ciad: Ciad, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    models = tmp_path / "shipped" / "models"
    for name in ("first", "second", "third"):
        shutil.copytree(bundle, models / name)
    data = tmp_path / "data" / "ciad" / "data"
    data.mkdir(parents=True)
    locked = {
        "root": models,
        "bundle": models / "second",
        "card": models / "second" / bundles.CARD,
        "weights": models / "second" / "classifier.safetensors",
        "data": data,
    }[where]
    monkeypatch.setattr(resources, "path", lambda *parts: tmp_path.joinpath("shipped", *parts))
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data" / name)
    _lock(locked, monkeypatch)
    code, text, err = ciad("info")
    assert (code, err) == (0 if where == "data" else 1, "")
    assert "denied" in next(line for line in text.splitlines() if str(locked.name) in line and "denied" in line)
    if where != "root":
        assert len(re.findall(r"^  tiny: .*/(first|third): .*: complete", text, re.MULTILINE)) == 2


def _lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody see what is at or below a path, as permissions do, which do not stop the superuser."""

    def refusing(real: Callable[..., object], inside: bool) -> Callable[..., object]:
        def call(given: object, *arguments: object, **named: object) -> object:
            found = Path(str(given))
            if path in found.parents or (found == path and not inside):
                raise PermissionError(13, "Permission denied", str(given))
            return real(given, *arguments, **named)

        return call

    for name, inside in (("stat", True), ("open", False), ("listdir", False), ("scandir", False)):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), inside))
    monkeypatch.setattr("io.open", refusing(io.open, inside=False))
