"""Outputs of commands: decided before anything is computed, never over an input; one bad one stops no other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ciad_engine import bundles, imaging, outputs, systems
from ciad_engine.errors import CiadError
from ciad_engine.runs import Database

Ciad = Callable[..., tuple[int, str, str]]
NOWHERE = "/proc/nothing"  # no file can be made in it
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has a folder in which nobody may write")
STRONG = ("--attack", "fgsm", "--eps", "255")  # fools an untrained network


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("something would have been computed")

    monkeypatch.setattr(systems, "load", load)


@pytest.mark.parametrize("alias", ["itself", "symbolic", "hard", "folder"])
def test_no_attack_and_no_inspection_writes_over_a_picture(
    alias: str, ciad: Ciad, bundle: Path, pictures: list[Path]
) -> None:
    folder = pictures[0].parent
    out = folder / "out"
    if alias == "folder":
        out.symlink_to(folder, target_is_directory=True)
    else:
        out.mkdir()
    out = folder if alias == "itself" else out
    for name in ("picture0-fgsm.png", "picture0-looks.png"):
        given = folder / name
        shutil.copy(pictures[1], given)
        if alias == "symbolic":
            (out / name).symlink_to(given)
        elif alias == "hard":
            (out / name).hardlink_to(given)
    inputs = [pictures[0], folder / "picture0-fgsm.png", folder / "picture0-looks.png"]
    before = [path.read_bytes() for path in inputs]
    for words in (("attack", *inputs, *STRONG), ("inspect", *inputs)):
        code, _, err = ciad(*words, "--bundle", bundle, "--out", out)
        assert code == 0, err
    assert [path.read_bytes() for path in inputs] == before
    assert (out / "picture0-fgsm-2.png").is_file()
    assert (out / "picture0-2-looks.png").is_file()


@LINUX
@pytest.mark.parametrize(
    "words",
    [
        ["attack", "PICTURE", *STRONG, "--out", NOWHERE],
        ["attack", "PICTURE", "--attack", "universal", "--out", "OUT", "--perturbation", f"{NOWHERE}/p"],
        ["inspect", "PICTURE", "--out", NOWHERE],
        ["evaluate", "--attacks", "fgsm", "--limit", "10", "--csv", NOWHERE],
        ["figures", "--out", NOWHERE],
        ["harmless", "--limit", "10", "--csv", f"{NOWHERE}/x.csv"],
        ["masks", "--limit", "10", "--csv", f"{NOWHERE}/x.csv"],
        ["masks", "--limit", "10", "--markdown", f"{NOWHERE}/x.md"],
    ],
)
def test_an_unwritable_place_is_refused_before_anything_is_computed(
    words: list[str], ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path, nothing_is_computed: None
) -> None:
    named = {"PICTURE": pictures[0], "OUT": tmp_path / "out"}
    code, out, err = ciad(*(named.get(word, word) for word in words), "--bundle", bundle)
    assert (code, out) == (1, "")
    assert NOWHERE in err
    assert "cannot be written" in err


@pytest.mark.parametrize("command", ["evaluate", "figures", "harmless", "masks", "card"])
def test_no_table_and_no_figure_replaces_what_is_read(
    command: str, ciad: Ciad, bundle: Path, folders: Path, tmp_path: Path, nothing_is_computed: None
) -> None:
    mine = shutil.copytree(bundle, tmp_path / "mine")
    cats = folders / "test" / "cat"
    (cats / "0.png").rename(cats / "roc.png")
    words = {
        "evaluate": ["evaluate", "--attacks", "fgsm", "--csv", cats],
        "figures": ["figures", "--out", cats],
        "harmless": ["harmless", "--csv", cats / "roc.png"],
        "masks": ["masks", "--markdown", cats / "roc.png"],
        "card": ["harmless", "--csv", mine / bundles.CARD],
    }[command]
    code, _, err = ciad(*words, "--data", folders, "--bundle", mine)
    assert code == 1
    assert "one of the files that are read" in err
    assert imaging.read(cats / "roc.png", 32).note == ""


def test_masks_replace_neither_the_evaluator_nor_each_other(
    ciad: Ciad, bundle: Path, tmp_path: Path, nothing_is_computed: None
) -> None:
    judge = shutil.copytree(bundle, tmp_path / "judge")
    card = (judge / bundles.CARD).read_bytes()
    words = ["masks", "--bundle", bundle, "--evaluator", judge]
    code, _, err = ciad(*words, "--csv", judge / bundles.CARD)
    assert code == 1
    assert "one of the files that are read" in err
    assert (judge / bundles.CARD).read_bytes() == card
    for other in (tmp_path / "x", tmp_path / "judge" / ".." / "X"):
        code, _, err = ciad(*words, "--csv", tmp_path / "x", "--markdown", other)
        assert code == 2
        assert "--csv and --markdown name the same file" in " ".join(err.split())


@pytest.mark.parametrize("command", ["evaluate", "figures", "runs"])
def test_a_folder_is_probed_once(
    command: str, ciad: Ciad, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = []

    def probe(folder: Path, *_: object) -> None:
        probed.append(folder)

    def load(*_: object) -> None:
        raise CiadError("that is enough.")

    monkeypatch.setattr(systems, "load", load)
    monkeypatch.setattr(outputs, "check_folder", probe)
    with Database(tmp_path / "runs.sqlite") as database:
        database.runs()
    words = {
        "evaluate": ["evaluate", "--bundle", bundle, "--limit", 4, "--csv", tmp_path / "out"],
        "figures": ["figures", "--bundle", bundle, "--out", tmp_path / "out"],
        "runs": ["runs", "export", "a", "--csv", tmp_path / "out", "--database", tmp_path / "runs.sqlite"],
    }[command]
    code, _, err = ciad(*words)
    assert (code, probed) == (1, [tmp_path / "out"]), err


def test_one_bad_place_stops_no_other_picture(ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("picture0-fgsm.png", "picture0-looks.png"):
        (out / name).mkdir(parents=True)
    code, said, err = ciad("attack", *pictures, *STRONG, "--bundle", bundle, "--out", out)
    assert code == 1
    assert "ciad: picture0.png: " in err
    assert "picture0-fgsm.png is a folder" in err
    assert "picture1.png: " in said
    assert (out / "picture1-fgsm.png").is_file()
    code, said, err = ciad("inspect", *pictures, "--bundle", bundle, "--out", out)
    assert code == 1
    assert "picture0-looks.png" in err
    assert (out / "picture2-looks.png").is_file()


@pytest.mark.parametrize("sign", ["a", "é", "模"])
def test_long_names(sign: str, ciad: Ciad, bundle: Path, pictures: list[Path], tmp_path: Path) -> None:
    long = [pictures[0].with_name(sign * (246 // len(sign.encode())) + f"{k}.png") for k in range(2)]
    for path, name in zip(pictures, long, strict=False):
        path.rename(name)
    out = tmp_path / "out"
    for command in ("attack", "inspect"):
        code, _, err = ciad(command, *long, *STRONG, "--bundle", bundle, "--out", out)
        assert code == 0, err
    assert len(list(out.iterdir())) == 2 * (1 + 4)
