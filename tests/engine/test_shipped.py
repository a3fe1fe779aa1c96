"""What ships in `resources/`: small enough, as its card says, and made by the recipe that is in the code."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ciad_engine import bundles, datasets, resources, systems
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import model_card, planning
from ciad_engine.training import finishing, recipes
from ciad_engine.training.recipes import Schedule

MEGABYTE = 10**6
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def card() -> bundles.Card:
    return bundles.read_card(resources.path("models", "paper"))


def test_the_bundle_is_small(card) -> None:
    sizes = {path.name: path.stat().st_size for path in card.folder.iterdir()}
    assert sum(sizes.values()) < 40 * MEGABYTE
    assert max(sizes.values()) < 15 * MEGABYTE


def test_the_bundle_was_trained_by_the_recipe(card) -> None:
    training = card.content["training"]
    assert {name: Schedule(**record["schedule"]) for name, record in training.items()} == {
        stage.name: stage.schedule for stage in recipes.PAPER.stages
    }
    for stage in recipes.PAPER.stages:
        entry = card.content["networks"][stage.role]
        assert (entry["network"], entry["arguments"]) == (stage.network, stage.arguments)
        assert ("validation of the mean of both ends" in training[stage.name]) == stage.averages
        assert training[stage.name]["seconds"] / 60 == pytest.approx(stage.minutes, abs=1)
    assert card.content["recipe"].items() >= recipes.PAPER.options.items()


def test_the_networks_are_as_good_as_they_have_to_be(card) -> None:
    (figures,) = card.content["measured"].values()
    assert figures["n"] == 10_000
    assert 0.80 <= figures["accuracy"]["f1"] <= 0.84
    assert figures["detectors"]["mask"]["accuracy"] >= 0.57
    assert figures["accuracy"]["second classifier"] >= 0.88


def test_the_samples_are_whole_and_named_as_what_they_are() -> None:
    found, card = datasets.read_samples(datasets.samples_path())
    assert np.bincount(found.labels, minlength=10).min() >= 40
    assert "generated" in found.source
    assert not found.official
    assert sorted(name for part in card["made"] for name in part["classes"]) == sorted(CIFAR10.classes)
    for part in card["made"]:
        distances = part["choice"]["chosen draws to training images"]
        assert distances["min"] > part["choice"]["near-copy limit (2 % quantile of 1,000 test images' distances)"]


def test_the_samples_card_measures_this_bundle(card) -> None:
    """Beside the figures on the test set, and true: measured again here."""
    found, samples = datasets.read_samples(datasets.samples_path())
    measured = samples["measured"]
    assert measured["bundle checksum"] == card.checksum
    for source, figures in card.content["measured"].items():
        assert measured[source] == figures
    again = finishing.measure(systems.load("paper", torch.device("cpu")), found)
    flat, written = model_card.measured(again), model_card.measured(measured[found.source])
    assert len(flat) > 10
    assert flat == pytest.approx(written, abs=1.5 / len(found))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "packaging" / "measured_docs.py"))


def test_readme_and_measured_have_the_cards_tables(card, measured) -> None:
    text, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "MEASURED.md"))
    assert measured["filled"](text, card) == text, "run packaging/measured_docs.py"
    assert measured["page"](card) == page, "run packaging/measured_docs.py"
    for preset in ("paper", "sweep"):
        for transferred in (False, True):
            shown = [source for source in measured["sources"](card, preset, transferred).values() if source]
            assert all(card.knows(source.plan.bundle_checksum) for source in shown)
            if preset == "paper":
                assert [source.plan.limit >= 2000 for source in shown] == [True] * 3


def test_the_readme_says_what_the_tables_hold(card, measured) -> None:
    """Under "What these figures show" and in Limits the figures are those on the card.

    Words ("one in five") and the figures of an earlier bundle are not checked.
    """
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    fgsm, jsma, cw = (planning.title(name) for name in ("fgsm", "jsma", "cw"))
    kept, found, passed = measured["KEPT"], measured["FOUND"], measured["PASSED"]
    (score, mlp, confidence), graded = measured["AREAS"], measured["GRADED"][0]
    aimed = ", target = random"

    def figure(measure, title: str, preset: str = "sweep", transferred: bool = False) -> str:
        return measured["sources"](card, preset, transferred)[title].figure(measure, False).split(" [")[0]

    for sentence, *figures in (
        ("it is {} for FGSM with eps 16", figure(kept, f"{fgsm}, eps = 16")),
        (
            "{} for C&W with kappa 10, and {} with kappa 20, where few attacks succeed ({} of {} images)",
            *(figure(kept, f"{cw}, confidence = {kappa}") for kappa in (10, 20)),
            figure(measured["ADVERSARIAL"], f"{cw}, confidence = 20"),
            figure(measured["ADVERSARIAL"], f"{cw}, confidence = 0"),
        ),
        (
            "with a random target it is {}, {} and {}, that of f2 on the mask {}, {} and {}",
            *(
                figure(measure, f"{title}{aimed}")
                for measure in (mlp, score)
                for title in (f"{fgsm}, eps = 8", jsma, f"{cw}, confidence = 0")
            ),
        ),
        (
            "the true positive rate is {} for FGSM, {} for JSMA and {} for C&W (1,000 images)",
            figure(found, f"{fgsm}, eps = 8{aimed}"),
            figure(found, f"{jsma}{aimed}"),
            figure(found, f"{cw}, confidence = 0{aimed}"),
        ),
        (
            "but only {} of JSMA's and {} of C&W's",
            *(figure(measured["FOOLS_BOTH"], title, "paper", True) for title in (jsma, cw)),
        ),
        (
            "the AUROC of f2 on the mask is at most {}",
            max(figure(score, title, "paper", True) for title in (fgsm, jsma, cw)),
        ),
        (
            "the true positive rate is then {} for FGSM ({} images) and {} for JSMA ({}), the true negative rate {} and"
            " {}",
            *(
                figure(measure, title, transferred=True)
                for title in (f"{fgsm}, eps = 8{aimed}", f"{jsma}{aimed}")
                for measure in (found, measured["ADVERSARIAL"])
            ),
            *(figure(passed, title, transferred=True) for title in (f"{fgsm}, eps = 8{aimed}", f"{jsma}{aimed}")),
        ),
        (
            "ours is {} for all benign images and {} for those that f1 classifies correctly.",
            figure(measured["PASSED_ALL"], fgsm, "paper", True),
            figure(measured["PASSED_RIGHT"], fgsm, "paper", True),
        ),
        (
            "the mask retention rate is {}, while the MLP keeps its class at a rate of {}, and the true negative rate"
            " of all benign images is {}, with the MLP {}",
            figure(kept, fgsm, "paper"),
            figure(measured["CONTROLS"][-1], fgsm, "paper"),
            figure(measured["PASSED_ALL"], fgsm, "paper"),
            figure(measured["PASSED_MLP"], fgsm, "paper"),
        ),
        (
            "true positive rate is {} to {} for untargeted attacks",
            figure(graded, fgsm, "paper"),
            figure(graded, cw, "paper"),
        ),
        (
            "{} to {} for untargeted attacks that are transferred: FGSM, JSMA and C&W",
            *(end(figure(graded, title, "paper", True) for title in (fgsm, jsma, cw)) for end in (min, max)),
        ),
        (
            "against C&W its AUROC is {} with kappa 5 and {} with kappa 10, that of f2 on the mask {} and {}",
            *(figure(measure, f"{cw}, confidence = {k}") for measure in (confidence, score) for k in (5, 10)),
        ),
        (
            "{} to {} if the target is a random class",
            figure(graded, f"{fgsm}, eps = 8{aimed}"),
            figure(graded, f"{cw}, confidence = 0{aimed}"),
        ),
    ):
        assert sentence.format(*figures) in text
    (right,) = card.content["measured"].values()
    mask = right["detectors"]["mask"]
    alarms, by_f2, by_f1 = (
        f"{100 * rate:.0f}%" for rate in (1 - mask["disagreement"]["all"], mask["accuracy"], right["accuracy"]["f1"])
    )
    assert f"the paper's rule flags {alarms} of benign CIFAR-10 test images" in text
    assert f"only {by_f2} of them correctly from their masks (f1: {by_f1})" in text
    correct, everything = (1 - mask["graded"][of] for of in ("correct", "all"))
    assert (
        f"flags {100 * correct:.1f}% of the benign test images that f1 classifies correctly and"
        f" {100 * everything:.1f}% of all" in text
    )
    on_samples = datasets.read_samples(datasets.samples_path())[1]["measured"]["CIAD samples (generated)"]
    assert f"f1 classifies {100 * on_samples['accuracy']['f1']:.0f}% of them correctly" in text
    alarms = 1 - on_samples["detectors"]["mask"]["disagreement"]["all"]
    assert f"the paper's rule flags {100 * alarms:.1f}% of them" in text
