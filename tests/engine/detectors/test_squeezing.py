"""What the squeezers do to an image, and the distance that the detector makes of it."""

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import detectors
from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.squeezing import Squeezing, in_fewer_bits, median
from ciad_engine.detectors.threshold import Threshold
from tests.engine.evaluation import tiny


class Sum(nn.Module):
    """Two classes; the logit of the second is the sum of the values."""

    def forward(self, images):
        return nn.functional.pad(images.flatten(1).sum(1, keepdim=True), (1, 0))


def sigmoid(x: float) -> float:
    return 1 / (1 + float(np.exp(-x)))


@pytest.fixture
def images():
    return torch.from_numpy(np.random.RandomState(2).randint(0, 256, (6, 3, 32, 32))).float() / 255


def test_five_bits_have_32_levels(images):
    found = in_fewer_bits(images)
    assert len(found.unique()) == 32
    assert (found - images).abs().max() <= 0.5 / 31 + 1e-6
    assert in_fewer_bits(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_the_median_is_the_third_smallest_of_four_pixels(images):
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 0), (1, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), (2, 3)).reshape(*images.shape, 4)
    np.testing.assert_array_equal(median(images).numpy(), np.sort(windows)[..., 2])


def test_the_score_is_the_largest_change_of_f1s_probabilities():
    """The first image has no pixel that differs from its neighbours, the second has one and is black and white."""
    flat, dot = torch.full((1, 1, 4, 4), 0.1), torch.zeros(1, 1, 4, 4)
    dot[..., 1, 2] = 1
    score = Squeezing("s", Sum(), {}).score(Inputs(torch.cat([flat, dot])), torch.tensor([0, 0]))
    fewer = 16 * 3 / 31  # 0.1 * 31 = 3.1
    expected = [2 * (sigmoid(1.6) - sigmoid(fewer)), 2 * (sigmoid(1) - sigmoid(0))]
    assert score.tolist() == pytest.approx(expected, rel=1e-5)


def test_its_distribution_is_f1s_mean_over_the_squeezed_images(images):
    f1 = tiny.Classifier(1)
    log_p = Squeezing("s", f1, {}).log_probabilities(Inputs(images))
    expected = (f1(in_fewer_bits(images)).softmax(1) + f1(median(images)).softmax(1)) / 2
    torch.testing.assert_close(log_p.exp(), expected)


def test_an_attack_gets_the_same_values_and_a_gradient_through_the_rounding(images):
    detector = Squeezing("s", tiny.Classifier(1), {}, {0.05: Threshold(0.1, "")})
    x = images.clone().requires_grad_()
    torch.testing.assert_close(in_fewer_bits(x, followed=True), in_fewer_bits(images), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(in_fewer_bits(x, followed=True).sum(), x)
    assert (gradient == 1).all()
    classes = torch.arange(6)
    score = detector.score(Inputs(x, followed=True), classes)
    torch.testing.assert_close(score, detector.score(Inputs(images), classes), rtol=0, atol=0)
    assert torch.autograd.grad(score.sum(), x)[0].abs().amax((1, 2, 3)).min() > 0
    excess = detector.excess(images, classes, detectors.GRADED)
    torch.testing.assert_close(excess, score.detach() - 0.1)


def test_it_decides_by_its_threshold_alone():
    assert list(Squeezing("s", Sum(), {}, {0.05: Threshold(0.1, "")}).rules) == [detectors.GRADED]
