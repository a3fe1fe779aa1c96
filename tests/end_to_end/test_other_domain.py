"""The whole engine with 43 classes at 64x64 pixels: folders of pictures in, a trained bundle, tables and files out.

The bundle has the classes in the order of their numbers, folders are read in alphabetical order ("sign 10" before
"sign 2"): a label that was not matched by name would be wrong. The window's part is `tests/app/test_other_domain.py`.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ciad_engine import attacks, bundles, datasets, runs, systems
from ciad_engine.cli import main
from ciad_engine.domain import Domain
from ciad_engine.evaluation import planning
from ciad_engine.training import recipes
from ciad_engine.training.recipes import Recipe, Schedule, Stage
from ciad_engine.training.stages import train_bundle

SIGNS = Domain(tuple(f"sign {k}" for k in range(43)), 64)
CHANCE = 1 / len(SIGNS.classes)
TRAIN_IMAGES, TEST_IMAGES, LIMIT = 8, 3, 8  # of each class; of an evaluation

MASKS = {"generator": bundles.MASK_GENERATOR, "classifier": bundles.MASK_CLASSIFIER}
DETECTORS = ("mask", "shuffled-mask", "constant-mask", "confidence")
GRADING = ("mask", "shuffled-mask", "confidence")


def schedule(steps: int, learning_rate: float = 1e-3) -> Schedule:
    return Schedule(steps, batch=32, learning_rate=learning_rate, shift=1)


F1 = Stage(bundles.CLASSIFIER, "mlp", "classify", schedule(24), 1, (), {"widths": [48]})
G = Stage(bundles.MASK_GENERATOR, "lan", "mask", schedule(120), 1, (F1.role,), {"widths": [48]}, {"beta": 5.0})
F2 = Stage(bundles.MASK_CLASSIFIER, "lenet", "classify-masks", schedule(100, 3e-3), 1, (G.role,))
RECIPE = Recipe(
    name="small",
    title="Small networks",
    validation=86,
    stages=(F1, G, F2),
    detectors=tuple(bundles.DetectorEntry(name, name, MASKS if name.endswith("mask") else {}) for name in DETECTORS),
)
# Enough of each attack to see that it knows neither ten classes nor 32 pixels.
QUICK = {
    "fgsm": {"eps": 16},
    "bim": {"eps": 16, "step": 4, "iterations": 5},
    "pgd": {"eps": 16, "step": 4, "iterations": 5},
    "opgd": {"eps": 16, "step": 4, "iterations": 5},
    "square": {"eps": 40, "queries": 20},
    "jsma": {"gamma": 0.016},
    "cw": {"iterations": 20, "search_steps": 2, "initial_c": 1},
    "lbfgs": {"iterations": 5, "search_steps": 2, "initial_c": 1},
    "deepfool": {"iterations": 10, "candidates": 43},
    "ddn": {"iterations": 10, "first_norm": 3},
    "universal": {"eps": 40, "step": 16, "passes": 5},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these are slower on several threads, many times so beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, compress_level=1)


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: each class a pattern of 8x8 patches, each picture with its own noise and light."""
    root = tmp_path_factory.mktemp("data") / "signs"
    random = np.random.default_rng(0)
    for name in SIGNS.classes:
        pattern = np.kron(random.uniform(98, 158, (8, 8, 3)), np.ones((8, 8, 1)))
        for part, count in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
            for number in range(count):
                pixels = pattern + random.normal(0, 10, pattern.shape) + random.normal(0, 5)
                save(root / part / name / f"{number}.png", pixels)
    return root


@pytest.fixture(scope="module")
def card(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> bundles.Card:
    """The bundle of small networks that were trained on the folder, with its classes in the order of their numbers."""
    data = datasets.load(signs)
    assert data.domain == Domain(tuple(sorted(SIGNS.classes)), 64) != SIGNS
    assert data.train is not None
    assert data.test is not None
    data = dataclasses.replace(data, train=data.train.matched(SIGNS), test=data.test.matched(SIGNS))
    return train_bundle(RECIPE, data, tmp_path_factory.mktemp("bundles") / "small", device="cpu")


def ciad(*words: object) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What `ciad evaluate` left: what it printed, the run with its rows by attack, and the folder of CSV files."""

    text: str
    run: runs.Run
    rows: dict[str, list[runs.Row]]
    folder: Path

    def table(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO((self.folder / name).read_text(encoding="utf-8"))))


def evaluate(
    card: bundles.Card, data: Path, folder: Path, chosen: dict[str, dict[str, float]], *words: str
) -> Evaluated:
    settings = [f"--set={name}.{key}={value}" for name, own in chosen.items() for key, value in own.items()]
    code, text, err = ciad(
        "evaluate", "--bundle", card.folder, "--data", data, "--attacks", ",".join(chosen), *settings, *words,
        "--limit", LIMIT, "--csv", folder, "--database", folder / "runs.sqlite", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    return Evaluated(text, *only_run(folder / "runs.sqlite"), folder)


def only_run(path: Path) -> tuple[runs.Run, dict[str, list[runs.Row]]]:
    with runs.Database(path) as database:
        (run,) = database.runs()
        return run, {label: database.rows(run.key, label) for label in database.counts(run.key)}


@pytest.fixture(scope="module")
def evaluated(card: bundles.Card, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """All attacks on some of the test images."""
    assert set(QUICK) == set(attacks.own())
    return evaluate(card, signs, tmp_path_factory.mktemp("evaluated"), QUICK)


def test_small_networks_learn_the_classes_in_seconds(card: bundles.Card, signs: Path) -> None:
    assert card.domain == SIGNS
    held_out = datasets.choose(str(signs)).matched(card.domain)
    verdict = systems.load(card.folder, torch.device("cpu")).inspect(held_out.images, held_out.labels)
    assert verdict.p1.shape == (len(held_out), 43)
    assert verdict.masks is not None
    assert verdict.masks.shape == (len(held_out), 64, 64)
    assert np.mean(verdict.y1 == held_out.labels) > 20 * CHANCE
    assert np.mean(verdict.y2 == held_out.labels) > 5 * CHANCE
    measured = card.content["measured"]["test images of signs"]
    assert measured["accuracy"]["f1"] == np.mean(verdict.y1 == held_out.labels)
    assert tuple(entry.name for entry in card.detectors if entry.thresholds) == GRADING
    assert card.content["limits"] == [f"For 64x64 colour images of these classes: {', '.join(SIGNS.classes)}."]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of one training step: "step", and "step-small" for smaller images."""
    step = dataclasses.replace(F1, schedule=schedule(1))
    stages = {"step": step, "step-small": dataclasses.replace(step, sizes=(16, 48))}
    detectors = (bundles.DetectorEntry("confidence", "confidence"),)
    made = {name: Recipe(name, "A step", 43, (stage,), detectors) for name, stage in stages.items()}
    monkeypatch.setattr(recipes, "_RECIPES", made)


def test_a_recipe_is_for_images_of_some_sizes(steps: None, signs: Path, tmp_path: Path) -> None:
    words = ("--data", signs, "--out", tmp_path / "bundle", "--device", "cpu")
    code, text, err = ciad("train", "--recipe", "step-small", *words)
    assert (code, text) == (1, "")
    assert "'step-small' is for images of 16 x 16 to 48 x 48 pixels, these have 64 x 64" in err
    assert not (tmp_path / "bundle").exists()
    code, text, err = ciad("train", "--recipe", "step", *words)
    assert code == 0, err
    assert bundles.read_card(tmp_path / "bundle").domain == Domain(tuple(sorted(SIGNS.classes)), 64)
    assert "Training on signs." in err
    assert "CIFAR" not in text + err


def test_a_test_set_without_some_of_the_classes_is_refused_by_name(steps: None, signs: Path, tmp_path: Path) -> None:
    shutil.copytree(signs, tmp_path / "signs")
    for name in ("sign 5", "sign 12"):
        shutil.rmtree(tmp_path / "signs" / "test" / name)
    code, text, err = ciad("train", "--recipe", "step", "--data", tmp_path / "signs", "--out", tmp_path / "bundle")
    assert (code, text) == (1, "")
    assert "its test set has no picture of the class sign 12, sign 5. " in err
    assert not (tmp_path / "bundle").exists()


def test_an_attack_aims_at_a_class_by_its_name(card: bundles.Card, signs: Path, tmp_path: Path) -> None:
    words = ("--bundle", card.folder, "--attack", "bim", "--eps", 40, "--iterations", 20, "--out", tmp_path)
    code, text, err = ciad("attack", signs / "test" / "sign 3" / "0.png", *words, "--target-class", "Sign 7")
    assert code == 0, err
    assert "0.png: sign 3 became sign 7 (" in text
    assert Image.open(tmp_path / "0-bim.png").size == (64, 64)
    code, text, err = ciad("inspect", tmp_path / "0-bim.png", "--bundle", card.folder, "--json")
    assert code == 0, err
    assert json.loads(text)[0]["benign"]["classifier"]["class"] == "sign 7"
    code, _, err = ciad("attack", signs / "test" / "sign 3" / "0.png", *words, "--target-class", "cat")
    assert code == 2
    assert "'cat' is none of sign 0, sign 1, sign 2, " in err
    assert "sign 42 (or 0 to 42)" in err


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_decides(detector: str, card: bundles.Card, signs: Path, tmp_path: Path) -> None:
    image = signs / "test" / "sign 3" / "1.png"
    words = ("--bundle", card.folder, "--detector", detector, "--attack", "fgsm", "--eps", 24)
    code, text, err = ciad("inspect", image, *words, "--label", "sign 3", "--json", "--out", tmp_path)
    assert code == 0, err
    (record,) = json.loads(text)
    assert record["label"] == {"index": 3, "class": "sign 3"}
    assert record["classes"] == list(SIGNS.classes)
    for verdict in (record["benign"], record["adversarial"]):
        assert verdict["detector"] == detector
        assert len(verdict["classifier"]["probabilities"]) == 43
        assert set(verdict["detectors"]) == set(DETECTORS)
        for name in set(DETECTORS) - {"confidence"}:  # which has no class of its own
            found = verdict["detectors"][name]
            assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-4)
            assert found["class"] == SIGNS.classes[np.argmax(found["probabilities"])]
    if detector == "confidence":
        entry = card.detector(detector)
        assert entry is not None
        assert record["benign"]["threshold"] == dataclasses.asdict(entry.thresholds[0.05])
    assert Image.open(tmp_path / "1-fgsm.png").size == (64, 64)
    assert Image.open(tmp_path / "1-fgsm-looks.png").size == (512, 512)


def test_the_database_keeps_the_classes_by_name(evaluated: Evaluated) -> None:
    plan = planning.from_json(evaluated.run.plan)
    assert plan.domain == SIGNS
    assert set(evaluated.rows) == {runs.BENIGN, *QUICK}
    fooled = dict.fromkeys(QUICK, 0)
    for attack, rows in evaluated.rows.items():
        assert len(rows) == LIMIT
        for row in rows:
            assert SIGNS.classes[row.label] == Path(row.name).parent.name
            assert set(row.scores) == set(DETECTORS)
            if row.fooled:
                fooled[attack] += 1
                assert row.label_after != row.label == row.label_before
                assert 0 < row.l0_pixels <= 64 * 64
    assert all(fooled.values()), fooled
    with runs.Database(evaluated.folder / "runs.sqlite") as database:
        pictures = [row.image for row in database.rows(evaluated.run.key, "fgsm", images=True) if row.fooled]
    assert {len(picture or b"") for picture in pictures} == {3 * 64 * 64}
    assert max(row.y1 for rows in evaluated.rows.values() for row in rows) > 9
    assert np.mean([row.y1 == row.label for row in evaluated.rows[runs.BENIGN]]) > 20 * CHANCE


def test_tables_are_of_these_rows_and_thresholds(evaluated: Evaluated, card: bundles.Card) -> None:
    right = [row for row in evaluated.rows[runs.BENIGN] if row.y1 == row.label]
    table = {(line["attack"], line["detector"]): line for line in evaluated.table("table2.csv")}
    assert {detector for _, detector in table} == set(DETECTORS)
    for entry in card.detectors:
        line = table["fgsm", entry.name]
        assert line["data"] == "test images of signs"
        if entry.name in GRADING:
            passed = [row.scores[entry.name].value <= entry.thresholds[0.05].value for row in right]
            assert float(line["graded_5_true_negative_rate"]) == pytest.approx(np.mean(passed))
        if entry.name != "confidence":
            agreed = [row.scores[entry.name].label == row.y1 for row in right]
            assert float(line["true_negative_rate"]) == pytest.approx(np.mean(agreed))
    known = json.loads((evaluated.folder / "run.json").read_text(encoding="utf-8"))
    assert known["classes"] == list(SIGNS.classes)
    assert {name: found["0.05"]["value"] for name, found in known["thresholds"].items()} == {
        entry.name: entry.thresholds[0.05].value for entry in card.detectors if entry.thresholds
    }


def test_csv_rows_have_number_and_name_of_each_class(evaluated: Evaluated) -> None:
    lines = evaluated.table("rows.csv")
    assert len(lines) == LIMIT * (1 + len(QUICK))
    for line in lines:
        assert line["label_class"] == SIGNS.classes[int(line["label"])] == Path(line["name"]).parent.name
        assert line["y1_class"] == SIGNS.classes[int(line["y1"])]
        assert 0 <= int(line["mask_class"]) < 43


def test_the_papers_figures_stand_only_beside_those_of_its_data(evaluated: Evaluated) -> None:
    assert "Table 2: " in evaluated.text
    for word in ("CIFAR", ", paper"):
        assert word not in evaluated.text
    for name in ("table1.csv", "table2.csv", "table4.csv"):
        assert not [key for key in evaluated.table(name)[0] if "paper" in key]


def test_an_attacker_evades_a_detector_of_these_classes(
    card: bundles.Card, signs: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    found = evaluate(card, signs, tmp_path, {"pgd": {"eps": 32, "iterations": 40}}, "--evade", "mask")
    assert [(one["name"], one["rule"]) for one in found.run.plan["evade"]] == [("mask", "disagreement")]
    fooled = [row for row in found.rows["pgd"] if row.fooled]
    assert [row.evaded for row in fooled] == [quiet(row) for row in fooled]
    accepted = {row.position for row in found.rows[""] if row.y1 == row.label and quiet(row)}
    rate, ignorant = (
        np.mean([row.fooled and quiet(row) for row in rows if row.position in accepted])
        for rows in (found.rows["pgd"], evaluated.rows["pgd"])
    )
    assert rate > ignorant
    (line,) = [line for line in found.table("table2.csv") if line["detector"] == "mask"]
    (within,) = found.table("adaptive.csv")
    assert float(line["evasion_rate"]) == float(within["evasion_rate"]) == pytest.approx(rate)


def quiet(row: runs.Row) -> bool:
    """Return whether the mask detector does not flag the row's image."""
    return row.scores["mask"].label == row.y1


def test_a_run_goes_on_by_the_command_that_names_its_target(card: bundles.Card, signs: Path, tmp_path: Path) -> None:
    found = evaluate(card, signs, tmp_path, {"fgsm": {}}, "--target-class", "sign 7")
    assert found.run.plan["attacks"][0]["settings"]["target_class"] == 7
    command = planning.command(planning.from_json(found.run.plan), str(card.folder))
    assert command.count("PATH") == 1
    words = shlex.split(command.replace("PATH", shlex.quote(str(signs))))
    code, _, err = ciad(*words[1:], "--database", tmp_path / "runs.sqlite")
    assert code == 0, err
    assert f"Run {found.run.short} is complete already." in err


def test_a_data_set_of_a_few_of_the_classes_is_matched_by_name(card: bundles.Card, signs: Path, tmp_path: Path) -> None:
    for name in ("sign 40", "sign 7"):  # here in alphabetical order, in the bundle the other way round
        shutil.copytree(signs / "test" / name, tmp_path / "few" / name)
    words = ("--bundle", card.folder, "--data", tmp_path / "few", "--attacks", "fgsm", "--eps", 24)
    code, _, err = ciad("evaluate", *words, "--database", tmp_path / "runs.sqlite")
    assert code == 0, err
    _, rows = only_run(tmp_path / "runs.sqlite")
    assert sorted(row.label for row in rows[runs.BENIGN]) == [7] * TEST_IMAGES + [40] * TEST_IMAGES
    for row in rows[runs.BENIGN]:
        assert row.name.startswith(f"test/sign {row.label}/")
    assert np.mean([row.y1 == row.label for row in rows[runs.BENIGN]]) > 0.5


def test_data_that_do_not_fit_are_refused_by_name(card: bundles.Card, tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 128)
    for name in ("sign 7", "bee", "cow"):
        save(tmp_path / "farm" / name / "0.png", grey)
    for name in ("sign 7", "sign 40"):
        save(tmp_path / "little" / name / "0.png", grey[:32, :32])
    for data, reason in (
        (tmp_path / "farm", "it has classes that the bundle does not know: bee, cow. "),
        (tmp_path / "little", "its images are 32x32, not 64x64. "),
        ("samples", "its images are 32x32, not 64x64; it has classes that the bundle does not know: airplane, "),
    ):
        code, text, err = ciad("evaluate", "--bundle", card.folder, "--data", data, "--database", tmp_path / "r.sqlite")
        assert (code, text) == (1, "")
        assert f" does not fit the bundle: {reason}" in err
    assert not (tmp_path / "r.sqlite").exists()
