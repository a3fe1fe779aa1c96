"""Textures of training images, by a network that is known, and pictures that have others."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.detectors.unfamiliar import Unfamiliar
from ciad_engine.errors import SettingError
from tests.engine.training.tiny import image_set


class Edges(nn.Module):
    """Its second of three convolutions returns the image's grey level and the difference of neighbours in a row."""

    def __init__(self):
        super().__init__()
        first, middle, last = nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(1, 2, (1, 2), bias=False), nn.Conv2d(2, 2, 1)
        first.weight.data.fill_(1 / 3)
        middle.weight.data.copy_(torch.tensor([[[[1.0, 0.0]]], [[[1.0, -1.0]]]]))
        self.layers = nn.Sequential(first, middle, nn.Dropout(0.9), last)

    def forward(self, images):
        return self.layers(images).mean((2, 3))


@pytest.fixture
def network():
    return Edges().requires_grad_(False)


def noisy(count: int, spread: float, seed: int) -> np.ndarray:
    """Return grey images of any brightness with noise of this standard deviation: uint8 (count, 3, 32, 32)."""
    draw = np.random.default_rng(seed)
    grey = draw.uniform(60, 190, (count, 1, 1, 1)) + draw.normal(0, spread * draw.uniform(0.7, 1.4, (count, 1, 1, 1)),
                                                                  (count, 1, 32, 32))  # fmt: skip
    return np.clip(grey, 0, 255).astype(np.uint8).repeat(3, 1)


def test_the_features_are_mean_and_log_variance_of_the_middle_convolution(network):
    images = torch.from_numpy(noisy(4, 9, 0)) / 255
    found = Unfamiliar("u", network, {}).features(images)
    grey = images[:, 0].double().numpy()
    left, change = grey[:, :, :-1], grey[:, :, :-1] - grey[:, :, 1:]
    expected = [part.mean((1, 2)) for part in (left, change)]
    expected += [np.log(part.var((1, 2)) + 1e-4) for part in (left, change)]
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-4, atol=1e-5)


@pytest.fixture
def detector(network):
    training = dataclasses.replace(image_set(300, 0, "some"), images=noisy(300, 9, 1))
    made = Unfamiliar("u", nn.Module(), {"classifier": network})
    ((name, (kind, arguments, gaussian)),) = made.fitted(training).items()
    assert (name, kind, arguments) == ("gaussian", "gaussian", {"features": 4, "classes": 1})
    return Unfamiliar("u", nn.Module(), {"classifier": network, name: gaussian})


def test_flat_and_noisier_pictures_are_farther_than_others_of_the_same_kind(detector):
    def score(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images) / 255
        return detector.score(Inputs(x), torch.zeros(len(x), dtype=torch.int64)).numpy()

    usual = np.quantile(score(noisy(300, 9, 2)), 0.99)
    assert score(noisy(20, 0, 3)).min() > usual
    assert score(noisy(20, 50, 4)).min() > usual


def test_its_only_rule_has_the_threshold_of_one_in_a_hundred(network):
    strict, usual = Threshold(9.0, ""), Threshold(5.0, "")
    detector = Unfamiliar("u", network, {}, {0.05: usual, 0.01: strict})
    assert detector.rules == {"graded": strict}
    assert Unfamiliar("u", network, {}, {0.05: usual}).rules == {}


def test_a_classifier_without_convolutions_is_refused():
    with pytest.raises(SettingError, match="'u' needs a classifier with convolutions"):
        Unfamiliar("u", nn.Flatten(), {}).features(torch.zeros(1, 3, 4, 4))
