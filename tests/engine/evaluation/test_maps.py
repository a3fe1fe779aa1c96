"""The maps that masks are compared with."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from ciad_engine import bundles
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import maps
from tests.engine.evaluation import tiny
from tests.engine.evaluation.test_mask_tests import Band, system


def test_generators_are_those_of_the_cards_detectors_once_each() -> None:
    (mask,) = maps.of_generators(tiny.system())  # three detectors use it
    assert (mask.key, mask.title) == (bundles.MASK_GENERATOR, "mask generator")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask.of(images, torch.zeros(4)), 1 - tiny.MaskGenerator()(images)[:, 0])
    assert [one.key for one in maps.of_generators(system(top=Band(True), bottom=Band(False)))] == ["top", "bottom"]


def test_a_class_mean_is_the_mean_of_the_class_and_of_all_for_an_unknown_one() -> None:
    importance = torch.tensor([0.0, 0.2, 0.7]).view(3, 1, 1).expand(3, 4, 4)
    mean = maps.class_mean(maps.Map("g", "g", lambda i, c: i), importance, torch.tensor([5, 5, 1]))
    assert (mean.key, mean.title) == ("g_class_mean", "class mean of g")
    found = mean.of(torch.zeros(3, 3, 4, 4), torch.tensor([1, 5, 9]))
    torch.testing.assert_close(found, torch.tensor([0.7, 0.1, 0.3]).view(3, 1, 1).expand(3, 4, 4))


def test_edges_are_where_brightness_changes() -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[0, :, :, 4:] = 1
    images[1, :, 2:] = 0.5
    found = maps.edges(images, torch.zeros(3))
    upright, level = torch.zeros(8, 8), torch.zeros(8, 8)
    upright[:, 3:5] = 1
    level[1:3] = 1
    torch.testing.assert_close(found, torch.stack([upright, level, torch.zeros(8, 8)]))


def test_a_random_map_is_another_each_time_and_the_same_for_a_seed() -> None:
    images, classes = torch.zeros(2, 3, 8, 8), torch.zeros(2)
    first, again = (maps.baselines(seed)[0] for seed in (3, 3))
    drawn = first.of(images, classes)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn, again.of(images, classes))
    assert not torch.equal(drawn, first.of(images, classes))


def test_without_captum_a_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(SettingError, match=r"need the package captum.*pip install captum.*leave out --captum"):
        maps.attributions(system(top=Band(True)))


class Filtered(nn.Module):
    """Class 1 is the mean of the red channel, class 0 nothing; by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0]])[:, :, None, None])

    def forward(self, images):
        return self.conv(images).mean((2, 3))


def test_captums_maps_of_a_linear_classifier() -> None:
    pytest.importorskip("captum")
    made = system(top=Band(True))
    made.networks[bundles.CLASSIFIER] = Filtered().eval().requires_grad_(False)
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    red = images[:, 0] / images[:, 0].amax((1, 2), keepdim=True)
    with torch.no_grad():  # as it is called
        for tested in maps.attributions(made):
            torch.testing.assert_close(tested.of(images, torch.ones(5, dtype=torch.int64)), red)
            nothing = tested.of(images, torch.zeros(5, dtype=torch.int64))
            assert nothing.abs().max() == 0
    assert [tested.key for tested in maps.attributions(made)] == ["grad_cam", "integrated_gradients"]


def test_grad_cam_needs_a_convolution() -> None:
    pytest.importorskip("captum")
    with pytest.raises(SettingError, match="needs a convolution"):
        maps.attributions(system(top=Band(True)))
