"""Every measure of masks, on constructed cases whose answers are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import bundles, systems
from ciad_engine.datasets import ImageSet
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import DataError, SettingError
from ciad_engine.evaluation import mask_tests
from ciad_engine.evaluation.mask_tests import COLUMNS, Asked, areas, measure, ranking
from ciad_engine.evaluation.table import Table
from ciad_engine.jobs import Cancelled, Job
from tests.engine.evaluation import test_export

LEVELS = torch.linspace(0.1, 0.9, 10)
HALF = 16


class TopReader(nn.Module):
    """Classifies an image by the brightness of its top half: one of ten levels."""

    def forward(self, images):
        return -2000 * (images[:, :, :HALF].mean((1, 2, 3))[:, None] - LEVELS) ** 2


class Band(nn.Module):
    """Calls the top or the bottom half important, and there one row more than another, so that the order is known."""

    def __init__(self, top: bool) -> None:
        super().__init__()
        self.top = top

    def forward(self, images):
        rows = torch.linspace(0, 0.5, 2 * HALF)
        rows = rows if self.top else rows.flip(0)
        return rows[:, None].expand(len(images), 1, 2 * HALF, 2 * HALF)


class OfClass(nn.Module):
    """Its mask is nothing but the class by `TopReader`."""

    def forward(self, images):
        drawn = torch.rand(10, 1, 2 * HALF, 2 * HALF, generator=torch.Generator().manual_seed(1))
        return drawn[TopReader()(images).argmax(1)]


class Red(nn.Module):
    """Calls a pixel as important as it is red."""

    def forward(self, images):
        return 1 - images[:, :1]


class Flat(nn.Module):
    def forward(self, images):
        return torch.full_like(images[:, :1], 0.25)


def system(evaluator: nn.Module | None = None, domain: Domain = CIFAR10, **generators: nn.Module) -> systems.System:
    networks: dict[str, nn.Module] = {bundles.CLASSIFIER: TopReader(), **generators}
    entries = [
        bundles.DetectorEntry(name, "stability", {"generator": name}, {}) for name in generators
    ]  # fmt: skip
    if evaluator is not None:
        networks["reader"] = evaluator
        role = next(iter(generators))
        entries.append(bundles.DetectorEntry("evidence", "evidence", {"generator": role, "classifier": "reader"}, {}))
    card = bundles.Card("made", Path("made"), domain, tuple(entries), {"networks": dict.fromkeys(networks)}, "ab" * 32)
    return systems.assemble(card, {role: network.eval() for role, network in networks.items()}, torch.device("cpu"))


@pytest.fixture
def data() -> ImageSet:
    """The top half has the grey level of the class, the bottom half and the red channel's pattern are random."""
    random = np.random.default_rng(4)
    labels = np.arange(60) % 10
    images = random.integers(20, 236, (60, 3, 32, 32))
    grey = (255 * LEVELS.numpy()[labels])[:, None, None, None]
    images[:, :, :HALF] = grey + random.integers(-8, 9, (60, 3, HALF, 32))
    return ImageSet(images.astype(np.uint8), labels.astype(np.int64), "made images")


def values(tested: Table, title: str) -> dict[str, object]:
    return {column.key: tested.cell(title, column.key).value for column in COLUMNS}


# EVAL-X


def test_an_evaluator_that_reads_one_half_sees_its_class_only_if_that_half_is_shown(data: ImageSet) -> None:
    made = system(TopReader(), top=Band(True), bottom=Band(False))
    tested = measure(made, data, Asked(50, area=0.5))
    top, bottom = (values(tested, title) for title in ("top", "bottom"))
    assert (top["evalx_accuracy_kept"], bottom["evalx_accuracy_removed"]) == (1, 1)
    # What replaces the half is the same for all images, so all of them get the same class.
    assert max(top["evalx_accuracy_removed"], bottom["evalx_accuracy_kept"]) <= 0.16
    cell = tested.cell("top", "evalx_accuracy_kept")
    assert (cell.n, cell.rate) == (50, True)
    assert cell.low > 0.9
    assert any("classifies 1.000 of the whole images" in note and "50% of each" in note for note in tested.notes)


def test_a_small_area_does_not_show_the_half(data: ImageSet) -> None:
    made = system(TopReader(), top=Band(True))
    accuracies = [
        measure(made, data, Asked(50, area=area)).cell("top", "evalx_accuracy_kept").value for area in (0.1, 0.3, 0.5)
    ]
    assert accuracies[0] < accuracies[2] == 1
    assert accuracies == sorted(accuracies)


def test_without_an_evaluator_the_cells_are_blank_and_a_sentence_says_why(data: ImageSet) -> None:
    tested = measure(system(top=Band(True)), data, Asked(40))
    for title in ("top", "random"):
        assert tested.cell(title, "evalx_accuracy_kept").text() == "–"
        assert tested.cell(title, "evalx_accuracy_removed").value is None
    assert any("EVAL-X is blank because bundle made has no classifier" in note for note in tested.notes)


def test_another_bundles_evaluator(data: ImageSet) -> None:
    judge = system(TopReader(), other=Flat())
    tested = measure(system(top=Band(True)), data, Asked(40, area=0.5), judge)
    assert values(tested, "top")["evalx_accuracy_kept"] == 1
    with pytest.raises(SettingError, match="'made' has no detector of kind 'evidence'"):
        measure(system(top=Band(True)), data, Asked(40), system(top=Band(True)))
    with pytest.raises(SettingError, match="for other classes"):
        measure(system(top=Band(True)), data, Asked(40), system(TopReader(), Domain(("a", "b"), 32), top=Flat()))


def test_every_image_keeps_the_same_area_and_ties_fall_at_random() -> None:
    importance = torch.zeros(1000, 8, 8)
    importance[:, 2, 3] = 1
    places = ranking(importance, torch.rand(1000, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(places.flatten(1).sort(1).values, torch.arange(64).expand(1000, 64))
    often = (places < 20).float().mean(0)
    expected = torch.full((8, 8), 19 / 63)
    expected[2, 3] = 1
    torch.testing.assert_close(often, expected, atol=0.06, rtol=0)
    ordered = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    places = ranking(ordered, torch.zeros(3, 64))
    assert torch.equal(ordered.flatten(1).argsort(1, descending=True), places.flatten(1).argsort(1))


# Deletion and insertion


class Linear(nn.Module):
    """Its probability of class 1 is the brightness of the top half."""

    def forward(self, images):
        bright = images[:, :, :HALF].mean((1, 2, 3))
        return torch.stack([1 - bright, bright], 1).double().log()


def test_areas_of_a_classifier_that_is_linear_in_one_half() -> None:
    images, others = torch.ones(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    downwards = torch.arange(1024).view(32, 32)
    places = torch.stack([downwards, 1023 - downwards])
    deletion, insertion = areas(Linear(), torch.ones(2, dtype=torch.int64), images, others, places)
    # From the top the probability falls to 0 by half of the way; from the bottom it begins to fall there.
    torch.testing.assert_close(deletion, torch.tensor([0.25, 0.75]).double())
    torch.testing.assert_close(insertion, torch.tensor([0.75, 0.25]).double())


def test_the_map_of_the_half_that_f1_reads_is_better_in_both(data: ImageSet) -> None:
    tested = measure(system(top=Band(True), bottom=Band(False)), data, Asked(60))
    top, random, bottom = (values(tested, title) for title in ("top", "random", "bottom"))
    assert top["deletion_area"] < random["deletion_area"] < bottom["deletion_area"]
    assert top["insertion_area"] > random["insertion_area"] > bottom["insertion_area"]
    # f1's class is never that of the image which replaces parts, but for the one in ten that has the same class.
    assert top["deletion_area"] < 0.4
    assert bottom["insertion_area"] < 0.4


# The class in the mask, and noise


def test_masks_that_are_the_class_exactly(data: ImageSet) -> None:
    tested = measure(system(mask=OfClass(), red=Red()), data, Asked(60))
    share = {title: values(tested, title)["class_variance_share"] for title in ("mask", "red", "random")}
    assert share["mask"] == pytest.approx(1)
    assert 0.1 < share["red"] < 0.9  # the brightness of the top half, not the rest
    assert abs(share["random"]) < 0.03
    for title in ("class mean of mask", "class mean of red"):
        assert values(tested, title)["class_variance_share"] == pytest.approx(1)
    cell = tested.cell("red", "class_variance_share")
    assert cell.low < cell.value < cell.high


def test_noise_changes_a_map_of_brightness_as_much_as_the_image(data: ImageSet) -> None:
    tested = measure(system(red=Red(), flat=Flat()), data, Asked(60))
    red, flat, random = (values(tested, title) for title in ("red", "flat", "random"))
    assert red["noise_change"] == pytest.approx((2 + 1 + 0 + 1 + 2) / 5, abs=0.02)
    assert 0.98 < red["noise_rank_correlation"] < 1
    assert flat["noise_change"] == 0
    assert random["noise_change"] == pytest.approx(255 / 3, rel=0.02)
    assert random["noise_rank_correlation"] == pytest.approx(0, abs=0.02)
    # A mask without differences has no ranks and no variance.
    assert (flat["noise_rank_correlation"], flat["class_variance_share"]) == (None, None)
    assert tested.cell("flat", "noise_rank_correlation").n == 0
    assert tested.cell("red", "noise_change").low < red["noise_change"]


# The table as a whole


def test_an_image_counts_the_same_whatever_it_is_computed_with(data: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    made = system(TopReader(), red=Red())
    whole = measure(made, data, Asked(40))
    monkeypatch.setattr(mask_tests, "BATCH", 7)
    parts = measure(made, data, Asked(40))
    for title in ("red", "class mean of red", "Sobel edges"):
        for column in COLUMNS:
            assert parts.cell(title, column.key).value == pytest.approx(whole.cell(title, column.key).value, abs=1e-6)


def test_what_cannot_be_measured_is_refused(data: ImageSet) -> None:
    made = system(red=Red())
    for asked in (Asked(61), Asked(0)):
        with pytest.raises(SettingError, match="is not a number from 1 to 60, the images of made images"):
            measure(made, data, asked)
    with pytest.raises(SettingError, match="limit"):
        measure(made, data.subset([0]), Asked(1))  # there is no other image
    few = dataclasses.replace(data, labels=data.labels % 2, domain=Domain(("a", "b"), 32), checksum="")
    with pytest.raises(DataError, match="does not fit the bundle"):
        measure(made, few, Asked(10))
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        measure(made, data, Asked(10), job=job)


def test_few_images_have_no_bootstrap_interval(data: ImageSet) -> None:
    table = measure(system(TopReader(), red=Red()), data, Asked(20))
    assert table.cell("red", "deletion_area").low is None
    assert table.cell("red", "class_variance_share").low is None
    assert table.cell("red", "evalx_accuracy_kept").low is not None  # Wilson's
    assert "n = 20 images, seed 0" in table.notes[0]


def test_every_column_is_described() -> None:
    assert test_export.described()["masks.csv"] == ["map", *(column.key for column in COLUMNS)]
