"""Each harmless change on images whose result is known, and rates of a system that goes by brightness alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ciad_engine import bundles, systems
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import Domain
from ciad_engine.errors import DataError, SettingError
from ciad_engine.evaluation import harmless
from ciad_engine.evaluation.runner import choose_images
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import Cell, from_json, to_json
from ciad_engine.jobs import Cancelled, Job
from tests.engine.evaluation import test_export, tiny

CHANGES = {change.name: change for change in harmless.CHANGES}
IMAGES = tiny.data(5).images // 2 + 64


def grey(*values: int, size: int = 8) -> np.ndarray:
    """Images of one colour each."""
    return np.array(values, np.uint8)[:, None, None, None].repeat(3, 1).repeat(size, 2).repeat(size, 3)


# The changes.


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_an_image_of_the_same_size_and_leaves_what_it_is_given(name: str) -> None:
    before = IMAGES[0].copy()
    found = CHANGES[name].apply(IMAGES[0])
    assert (found.dtype, found.shape) == (np.uint8, (3, 32, 32))
    np.testing.assert_array_equal(IMAGES[0], before)
    np.testing.assert_array_equal(found, CHANGES[name].apply(IMAGES[0]))
    assert (found != before).any() == (name != "unchanged")
    assert np.abs(found.astype(float) - before).mean() < 20


def test_the_unchanged_images_come_first() -> None:
    assert next(iter(CHANGES)) == "unchanged"
    assert len(CHANGES) == len(harmless.CHANGES)
    assert len({change.title for change in harmless.CHANGES}) == len(CHANGES)


def test_jpeg_loses_more_at_lower_quality() -> None:
    lost = [np.abs(harmless.jpeg(IMAGES[0], quality) - IMAGES[0].astype(float)).mean() for quality in (100, 90, 75, 50)]
    assert lost == sorted(lost)
    assert 0 < lost[0] < lost[-1]


@pytest.mark.parametrize("weights", [(1, 2, 1), (1, 4, 6, 4, 1)])
def test_blur_spreads_a_pixel_by_its_weights_and_leaves_one_colour(weights: tuple[int, ...]) -> None:
    image, reach = np.zeros((3, 9, 9), np.uint8), len(weights) // 2
    image[1, 4, 4] = 255
    found = harmless.blur(image, weights)
    expected = np.rint(255 * np.outer(weights, weights) / sum(weights) ** 2)
    np.testing.assert_array_equal(found[1, 4 - reach : 5 + reach, 4 - reach : 5 + reach], expected)
    assert found.sum() == expected.sum()
    np.testing.assert_array_equal(harmless.blur(grey(77)[0], weights), grey(77)[0])  # up to the edges


def test_noise_is_whole_numbers_up_to_its_reach_and_the_images_own() -> None:
    noise = np.stack([harmless.noise(image, 2) for image in IMAGES]).astype(int) - IMAGES
    values, counts = np.unique(noise, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(counts / noise.size, 0.2, atol=0.02)
    assert (noise[0] != noise[1]).any()
    assert harmless.noise(grey(0)[0], 2).max() == 2  # clipped, not wrapped
    assert harmless.noise(grey(255)[0], 2).min() == 253


def test_brightness_and_contrast_by_hand() -> None:
    image = np.stack([grey(100)[0], grey(200)[0]], 3)[..., 0, :].repeat(4, 2)  # half 100, half 200: mean 150
    assert np.unique(harmless.brightness(image, 1.1)).tolist() == [110, 220]
    assert np.unique(harmless.brightness(image, 0.9)).tolist() == [90, 180]
    assert np.unique(harmless.brightness(grey(250)[0], 1.1)).tolist() == [255]
    assert np.unique(harmless.contrast(image, 1.1)).tolist() == [95, 205]
    assert np.unique(harmless.contrast(image, 0.9)).tolist() == [105, 195]


def test_resizing_goes_through_the_other_size() -> None:
    board = grey(0, size=32)[0]
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 255
    smaller, larger = harmless.resize(board, 0.75), harmless.resize(board, 2)
    assert ((larger > 127) == (board > 127)).all()
    assert ((smaller > 127) == (board > 127)).mean() < 0.8  # so fine a pattern is lost at 24 x 24 pixels
    np.testing.assert_array_equal(harmless.resize(grey(90)[0], 0.75), grey(90)[0])


# The rates. f1 calls an image bright above 0.5, the detector above 0.6.


class Bright(nn.Module):
    def __init__(self, border: float) -> None:
        super().__init__()
        self.border = nn.Parameter(torch.tensor(border))

    def forward(self, images: Tensor) -> Tensor:
        over = 50 * (images.mean((1, 2, 3)) - self.border)
        return torch.stack([-over, over], 1)


DOMAIN = Domain(("dark", "bright"), 8)
AT = math.log1p(math.exp(5))  # the detector's score of a bright image of mean 0.55


def system(folder: Path = Path("nowhere")) -> systems.System:
    networks = {bundles.CLASSIFIER: Bright(0.5), bundles.CONTROL: Bright(0.6)}
    known = {0.05: Threshold(AT, "chosen for tests")}
    entries = (
        bundles.DetectorEntry("confidence", "confidence", {}, {0.05: Threshold(1.0, "f1 is never that unsure")}),
        bundles.DetectorEntry("other", "direct", {"classifier": bundles.CONTROL}, known),
        bundles.DetectorEntry("mlp", "direct", {"classifier": bundles.CONTROL}, {}),
    )
    content = {"networks": {role: {"network": "bright"} for role in networks}}
    card = bundles.Card("brightness", folder, DOMAIN, entries, content, "ab" * 32)
    return systems.assemble(card, networks, torch.device("cpu"))


def data() -> ImageSet:
    """The last image is called dark, so f1 is wrong."""
    return ImageSet(grey(100, 120, 140, 145, 200, 210), np.array([0, 0, 1, 1, 1, 0]), "six greys", domain=DOMAIN)


@pytest.fixture(scope="module")
def table():
    return harmless.measure(system(), data())


def check(table, title: str, before: int, after: int, disagree: int, graded: int) -> None:
    assert table.cell(title, "images") == Cell(after)
    assert table.cell(title, "f1_correct_rate") == Cell(after / before, before, *wilson(after, before), rate=True)
    for key, flagged in (("false_positive_rate", disagree), ("graded_5_false_positive_rate", graded)):
        expected = Cell(flagged / after, after, *wilson(flagged, after), rate=True)
        assert table.cell(title, key, "other") == expected, (title, key)


def test_rates_are_of_images_that_f1_classifies_correctly_before_and_after(table) -> None:
    # Unchanged, 140 and 145 are bright to f1 alone, and 140 is below 0.55.
    for title in ("Unchanged", "Blur, 3x3 pixels", "Contrast +10%", "Resized x0.75 and back"):
        check(table, title, before=5, after=5, disagree=2, graded=1)
    # 110, 132, 154, 160, 220: 132 is bright to f1 now, so it does not count; to the detector 154 and 160 are, too.
    check(table, "Brightness +10%", before=5, after=4, disagree=0, graded=0)
    # 90, 108, 126, 130, 180: 126 does not count; 130 is flagged by both rules.
    check(table, "Brightness -10%", before=5, after=4, disagree=1, graded=1)


def test_a_detector_has_the_rates_of_its_rules(table) -> None:
    assert {subject.detector for subject in table.subjects} == {"", "mlp", "confidence", "other"}
    assert [s.attack for s in table.subjects if s.detector == "mlp"] == list(CHANGES)
    assert table.cell("Unchanged", "false_positive_rate", "mlp").value == 0.4
    assert table.cell("Unchanged", "graded_5_false_positive_rate", "mlp") == Cell(None)
    assert table.cell("Unchanged", "false_positive_rate", "confidence") == Cell(None)
    assert table.cell("Brightness -10%", "graded_5_false_positive_rate", "confidence").n == 4
    headings = [heading for _, heading, _ in table.turned()[1]]
    assert headings[:3] == ["Images", "f1 still correct", "Disagreement: FPR: MLP on the image"]
    assert len(headings) == 2 + 2 + 2


def test_the_images_are_those_of_an_evaluation_with_the_seed() -> None:
    chosen = data().subset(choose_images(6, 3, 4))
    found = harmless.measure(system(), data(), 3, 4)
    assert found.cells == harmless.measure(system(), chosen).cells
    assert found.cells != harmless.measure(system(), data(), 3, 1).cells
    assert "n = 3 images, seed 4. Bundle: brightness (abababababab)" in found.notes[-1]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(SettingError, match="limit = 7 is not a number from 1 to 6"):
        harmless.measure(system(), data(), 7)
    with pytest.raises(DataError, match="f1 classifies none of these 1 images of six greys correctly"):
        harmless.measure(system(), data().subset([5]))
    with pytest.raises(DataError, match="does not fit the bundle"):
        harmless.measure(system(), tiny.data(4))


def test_progress_counts_images_and_can_be_cancelled() -> None:
    seen = []

    class Told(Job):
        def on_progress(self, done: int, total: int, text: str) -> None:
            seen.append((done, total, text))
            if text == "Blur, 5x5 pixels":
                self.cancel()

    with pytest.raises(Cancelled):
        harmless.measure(system(), data(), job=Told())
    assert seen[0] == (0, 6 * 14, "Classifying")
    assert seen[-1] == (6 * 6, 6 * 14, "Blur, 5x5 pixels")


def test_it_is_plain_data_and_every_column_is_described(table) -> None:
    assert from_json(to_json(table)) == table
    assert {c.key for c in harmless.COLUMNS} == set(test_export.described()["harmless.csv"])
    assert table.columns == harmless.COLUMNS
