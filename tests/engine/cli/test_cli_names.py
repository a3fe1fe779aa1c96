"""Names and paths that strangers chose, on the command line: what is said, written and stored of them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ciad_engine import datasets, imaging
from ciad_engine.cli import options
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError, ImageError

Ciad = Callable[..., tuple[int, str, str]]
ANY_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="file names are text on this system")


def class_folders(root: Path, *, classes: tuple[str, ...] = CIFAR10.classes, pixels: int = 32) -> Path:
    """A data set of one picture of one colour for each class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (pixels, pixels), (25 * number % 256, 0, 0)).save(root / name / "0.png")
    return root


@ANY_BYTES
def test_a_data_set_in_a_folder_whose_name_is_no_text_is_evaluated_and_exported(
    ciad: Ciad, bundle: Path, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / os.fsdecode(b"caf\xe9\x1b[31m"))
    out, database = tmp_path / "out", tmp_path / "runs.sqlite"
    words = ["evaluate", "--data", data, "--attacks", "fgsm", "--bundle", bundle, "--database", database]
    code, said, err = ciad(*words, "--limit", 10, "--csv", out)
    assert code == 0, err
    for text in (said, err):
        assert "caf\ufffd\ufffd[31m" in text
        assert "\x1b" not in text
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert told["plan"]["data"] == "test images of caf\ufffd\ufffd[31m (not the official files)"
    with (out / "table1.csv").open(encoding="utf-8", newline="") as file:
        assert all("caf\ufffd\ufffd[31m" in line["data"] for line in csv.DictReader(file))


@ANY_BYTES
def test_a_picture_whose_name_is_no_text_is_valid_json(ciad: Ciad, bundle: Path, pictures: list[Path]) -> None:
    odd = pictures[0].with_name(os.fsdecode(b"caf\xe9\x1b]0;x\x07.png"))
    pictures[0].rename(odd)
    code, out, err = ciad("inspect", odd, "--bundle", bundle, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["name"] == "caf\ufffd\ufffd]0;x\ufffd.png"
    assert "\\ud" not in out.replace("\\ud83d", "")
    code, out, err = ciad(
        "attack", odd, "--attack", "fgsm", "--eps", 255, "--out", odd.parent / "o", "--bundle", bundle
    )
    assert code == 0, err
    assert "\x1b" not in out + err


@ANY_BYTES
def test_classes_whose_names_are_one_text_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", classes=tuple(os.fsdecode(name) for name in (b"caf\xe9", b"caf\xe8", b"tea")))
    with pytest.raises(DataError, match="cannot be told apart as text"):
        datasets.load(tmp_path / "data")


def test_a_data_set_goes_by_its_folders_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "mine" / "test").parent
    expected = {
        root: {".": "mine", "test": "mine/test", "test/..": "mine", "./test/": "mine/test", "../mine/": "mine"},
        root / "test": {"..": "mine", ".": "mine/test", "../test": "mine/test", "../../mine": "mine"},
        root / "test" / "cat": {"../..": "mine", "../../.": "mine", "..": "mine/test"},
        tmp_path: {"mine/../mine/test": "mine/test", "mine": "mine", "mine/.": "mine"},
    }  # fmt: skip
    for folder, titles in expected.items():
        monkeypatch.chdir(folder)
        found = {path: datasets.load(path) for path in titles}
        assert {path: data.name for path, data in found.items()} == titles
        for data in found.values():
            assert data.test is not None
            assert data.name in data.test.source


def test_a_folder_of_class_folders_that_is_called_train_is_training_data_from_inside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(class_folders(tmp_path / "train") / "cat")
    found = datasets.load("..")
    assert (found.test, found.name) == (None, f"{tmp_path.name}/train")
    assert found.train is not None


def test_a_root_without_a_name_is_called_by_its_path() -> None:
    from ciad_engine.datasets import reading

    root = Path(Path.cwd().anchor)
    assert reading._title(root) == str(root)
    assert reading._title(root / "images") == "images"


@pytest.mark.parametrize("path", ["~nosuch-user", "~nosuch-user/x", "~nosuch-user/../x"])
def test_the_folder_of_nobody_is_named(ciad: Ciad, path: str) -> None:
    code, out, err = ciad("data", "check", path)
    assert (code, out) == (1, "")
    assert err.startswith(f"ciad: {path}: nobody knows the folder that ~nosuch-user stands for")


def test_what_is_called_like_somebodys_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "~nosuch-user")
    monkeypatch.chdir(tmp_path)
    assert datasets.load("~nosuch-user").name == "~nosuch-user"


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shots")
    for folder in ("shots [v2]", "shots v", "[ab]", "a"):
        (root / folder / "more").mkdir(parents=True)
        for name in ("1.png", "2.png", "more/3.png"):
            Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(root / folder / name)
    return root


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("shots [v2]/*.png", ["shots [v2]/1.png", "shots [v2]/2.png"]),
        ("shots [v2]/[12].png", ["shots [v2]/1.png", "shots [v2]/2.png"]),
        ("shots [v2]/*/*.png", ["shots [v2]/more/3.png"]),
        ("shots [v2]/1.png", ["shots [v2]/1.png"]),
        ("shots [v3]/*.png", ["shots v/1.png", "shots v/2.png"]),
        ("shots [w3]/*.png", []),
        ("shots */1.png", ["shots [v2]/1.png", "shots v/1.png"]),
        ("[ab]/1.png", ["[ab]/1.png"]),
        ("[ab]/?.png", ["[ab]/1.png", "[ab]/2.png"]),
        ("[a]/?.png", ["a/1.png", "a/2.png"]),
        ("./shots [v2]/*.png", ["./shots [v2]/1.png", "./shots [v2]/2.png"]),
        ("nothing.png", []),
        ("a//nothing.png", []),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_patterns(pattern: str, found: list[str], absolute: bool, shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shots)
    beginning = f"{shots}{os.sep}" if absolute else ""
    expected = [f"{beginning}{path}" for path in found or [pattern]]
    assert [path.replace(os.sep, "/") for path in options.expand([beginning + pattern])] == [
        path.replace(os.sep, "/") for path in expected
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab[]*?!-.~ "), min_size=1, max_size=8))
def test_a_folder_of_any_name_is_taken_as_it_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    if os.name == "nt" or name.strip(". ") == "":
        return
    folder.mkdir(exist_ok=True)
    (folder / "1.png").touch()
    assert options.expand([f"{folder}/*.png"]) == [f"{folder}/1.png"]


@pytest.mark.parametrize(
    "url", ["file://[bad", "file://[bad]/x.png", "file://[::1/x", "http://[x", "file:// [/a\x1b[0m"]
)
def test_a_broken_address_is_refused_in_a_sentence(url: str, ciad: Ciad, bundle: Path) -> None:
    code, out, err = ciad("inspect", url, "--bundle", bundle)
    assert (code, out) == (1, "")
    assert err.startswith("ciad: ")
    assert "bug" not in err
    assert "\x1b" not in err


@given(st.sampled_from(["file:", "file://", "data:", "http://"]), st.text(st.sampled_from("[]:/%@?#ab\x00\x1b\udce9 ")))
def test_any_address_is_a_path_or_an_image_error(scheme: str, rest: str) -> None:
    try:
        assert isinstance(imaging.path_from_url(scheme + rest), Path)
    except ImageError as error:
        str(error).encode()
