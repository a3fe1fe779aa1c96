"""`ciad masks` on bundled samples: the table on screen, as files and beside the card."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.evaluation.mask_tests import COLUMNS
from tests import untrained

Ciad = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """The bundle in a folder that may be written to."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


def test_the_table_on_screen_as_files_and_beside_the_card(ciad: Ciad, own: Path, tmp_path: Path) -> None:
    files = ["--csv", tmp_path / "new" / "masks.csv", "--markdown", tmp_path / "masks.md"]
    words = ["masks", "--bundle", own, "--data", "samples", "--limit", 32, "--seed", 3, *files, "--record"]
    code, out, err = ciad(*words)
    assert code == 0, err
    for column in COLUMNS:
        assert column.title in out
    assert "n = 32 images, seed 3" in " ".join(out.split())
    assert "EVAL-X is blank because bundle tiny has no classifier trained on random masks" in " ".join(out.split())
    with (tmp_path / "new" / "masks.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["map"] for line in lines] == ["mask_generator", "mask_generator_class_mean", "random", "sobel"]
    assert all(line["evalx_accuracy_kept"] == "" and float(line["deletion_area"]) > 0 for line in lines)
    text = (tmp_path / "masks.md").read_text(encoding="utf-8")
    assert "|  | mask generator | class mean of mask generator | random | Sobel edges |\n| --- |" in text
    assert text.count("\n| ") == 2 + len(COLUMNS)
    keys = [column.key for column in COLUMNS]
    assert all({key, f"{key}_n", f"{key}_low", f"{key}_high"} <= lines[0].keys() for key in keys)
    assert {(line["bundle"], line["seed"]) for line in lines} == {("tiny", "3")}
    (entry,) = bundles.read_card(own).evaluations()
    assert entry["command"] == "ciad masks --bundle BUNDLE --data PATH --limit 32 --seed 3 --area 30"
    code, out, err = ciad("bundles", "show", own)
    assert code == 0, err
    assert "Masks put to the test: 32 images of CIAD samples (generated)" in out


def test_another_bundles_evaluator(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    roles = {**untrained.ROLES, "reader": ("resnet", {"widths": [8, 8, 8], "depths": [1, 1, 1]})}
    networks = {"generator": bundles.MASK_GENERATOR, "classifier": "reader"}
    listed = bundles.detectors_json([bundles.DetectorEntry("evidence", "evidence", networks, {})])
    untrained.write(tmp_path / "judge", "judge", roles, detectors=listed)
    words = ["masks", "--bundle", bundle, "--limit", 8, "--area", 50, "--csv", tmp_path / "masks.csv"]
    code, out, err = ciad(*words, "--evaluator", tmp_path / "judge")
    assert code == 0, err
    assert "the classifier of bundle judge" in " ".join(out.split())
    with (tmp_path / "masks.csv").open(encoding="utf-8", newline="") as file:
        assert all(line["evalx_accuracy_removed_n"] == "8" for line in csv.DictReader(file))
    code, _, err = ciad(*words, "--evaluator", bundle)
    assert code == 1
    assert "evaluator: bundle 'tiny' has no detector of kind 'evidence'" in err


def test_captum_is_asked_for_only_with_its_flag(ciad: Ciad, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    code, _, err = ciad("masks", "--bundle", bundle, "--limit", 4)
    assert code == 0, err
    code, out, err = ciad("masks", "--bundle", bundle, "--limit", 4, "--captum")
    assert (code, out) == (1, "")
    assert "need the package captum" in err


def test_captums_maps_of_a_real_classifier(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    code, _, err = ciad("masks", "--bundle", bundle, "--limit", 4, "--captum", "--csv", tmp_path / "masks.csv")
    assert code == 0, err
    with (tmp_path / "masks.csv").open(encoding="utf-8", newline="") as file:
        rows = {line["map"]: line for line in csv.DictReader(file)}
    assert 0.5 < float(rows["integrated_gradients"]["noise_rank_correlation"]) < 1
    assert "grad_cam" in rows


@pytest.mark.parametrize("area", ["0", "100", "-3", "much", "nan"])
def test_wrong_use(ciad: Ciad, area: str, tmp_path: Path) -> None:
    code, _, err = ciad("masks", "--area", area)
    assert code == 2
    assert "is not a number between 0 and 100" in err
    code, _, err = ciad("masks", "--csv", tmp_path)
    assert code == 2
    assert f"--csv: {tmp_path} is a folder" in err


def test_files_that_cannot_be_written(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, out, err = ciad("masks", "--bundle", bundle, "--limit", 2, "--markdown", tmp_path / "file" / "masks.md")
    assert code == 1
    assert out == ""  # refused before anything is computed
    assert "masks.md" in err
