"""What ships in `resources/`: small enough, as its card says, and made by the recipe that is in the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from ciad_engine import bundles, datasets, resources
from ciad_engine.evaluation import plan as plans
from ciad_engine.training import recipes
from ciad_engine.training.loop import Schedule

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
    assert set(card.content["training"]) == set(recipes._STRETCH)
    assert card.content["training"][recipes.AGAIN]["validation of the mean of both ends"]
    for role, record in card.content["training"].items():
        assert Schedule(**record["schedule"]) == getattr(recipes.PAPER, role), role
    assert card.content["recipe"]["beta"] == recipes.PAPER.beta


def test_the_networks_are_as_good_as_they_have_to_be(card) -> None:
    (figures,) = card.content["measured"].values()
    assert figures["n"] == 10_000
    assert 0.80 <= figures["f1"] <= 0.84
    assert figures["f2 on masks"] >= 0.57
    assert figures["second classifier"] >= 0.88


def test_the_samples_are_whole_and_named_as_what_they_are() -> None:
    found, card = datasets.read_samples(datasets.samples_path())
    assert np.bincount(found.labels, minlength=10).min() >= 40
    assert "generated" in found.source
    assert not found.official
    assert sorted(name for part in card["made"] for name in part["classes"]) == sorted(datasets.CLASS_NAMES)
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
    again = recipes.measure(bundles.load("paper", torch.device("cpu")), found)
    assert again == pytest.approx(measured[found.source], abs=1.5 / len(found))


def test_the_readme_has_the_cards_tables(card) -> None:
    made = runpy.run_path(str(ROOT / "packaging" / "measured_docs.py"))
    text, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "MEASURED.md"))
    assert made["filled"](text, card) == text, "run packaging/measured_docs.py"
    assert made["page"](card) == page, "run packaging/measured_docs.py"
    shown = made["sources"](card)
    assert {source.plan.bundle_checksum for source in shown} == {card.checksum}
    asked = [source for source in shown if source.plan.attacks == plans.preset("paper")]
    assert {(source.plan.transferred, source.plan.limit >= 2000) for source in asked} == {(False, True), (True, True)}
    fgsm = shown[0].entry
    table = next(table for table in fgsm["tables"] if table["name"] == "table1")
    kept = dict(zip(table["columns"], table["rows"][0], strict=True))["Mask retention"]
    told = f"{kept['value']:.3f} [{kept['low']:.3f}, {kept['high']:.3f}] (paper 0.863)"
    assert f"\n| Table 1: the mask keeps its class | {told} | " in text


def test_what_the_readme_says_of_its_tables_stands_in_them(card) -> None:
    text, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "MEASURED.md"))
    said = text.partition("What they say:")[2].partition("## Limits")[0]
    figures = re.findall(r"\b0\.\d{3}\b", said)
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in page] == []
