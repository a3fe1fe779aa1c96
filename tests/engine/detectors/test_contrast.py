"""The paper's rule and the graded score, on networks whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine.detectors.base import threshold_at
from ciad_engine.detectors.contrast import GRADED, PAPER, ContrastDetector


class Says(nn.Module):
    """Logits read off the first pixels of its input: what the image 'is' is written into it."""

    def __init__(self, channel: int):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.channel = channel

    def forward(self, x):
        return x[:, self.channel, 0, :4] * self.scale


class FirstChannel(nn.Module):
    """A 'mask' that is the green channel, so that f2 reads another message than f1."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x[:, 1:2]


def image(red: int, green: int) -> np.ndarray:
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0, 0, red] = 255
    pixels[1, 0, green] = 255
    return pixels


@pytest.fixture
def images():
    return np.stack([image(0, 0), image(1, 3), image(2, 2), image(3, 0)])


def detector(rule):
    return ContrastDetector(Says(0), FirstChannel(), Says(0), rule, batch_size=3)


def test_the_papers_rule_is_disagreement(images):
    verdict = detector(PAPER).inspect(images, np.array([0, 3, 1, 3]))
    assert verdict.y1.tolist() == [0, 1, 2, 3]
    assert verdict.y2.tolist() == [0, 3, 2, 0]
    assert verdict.adversarial.tolist() == [False, True, False, True]
    assert verdict.score.tolist() == [0, 1, 0, 1]
    assert verdict.recovers.tolist() == [True, True, False, False]
    assert verdict.masks.shape == (4, 32, 32)
    np.testing.assert_array_equal(verdict.masks, images[:, 1].astype(np.float32) / 255)


def test_the_graded_score_is_the_surprise_of_f2_at_f1s_class(images):
    verdict = detector(GRADED).inspect(images)
    at_y1 = verdict.p2[np.arange(4), verdict.y1]
    np.testing.assert_allclose(verdict.score, -np.log(at_y1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(verdict.p2.sum(1), 1, rtol=1e-5)
    assert verdict.recovers is None


def test_a_quantile_puts_the_promised_share_of_benign_images_below_the_threshold():
    rng = np.random.default_rng(0)
    benign = rng.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    graded = detector(GRADED)
    threshold = threshold_at(graded.score(benign), false_positive_rate=0.05)
    graded.threshold = threshold
    flagged = graded.inspect(benign).adversarial
    assert flagged.mean() <= 0.05
    assert flagged.sum() >= 9  # and no more conservative than one image
    assert "200" in threshold.source
    assert graded.inspect(benign).threshold == threshold


def test_an_image_is_judged_the_same_alone_and_in_a_batch(images):
    whole = detector(GRADED).inspect(images)
    for i in range(len(images)):
        alone = detector(GRADED).inspect(images[i : i + 1])
        assert alone.score[0] == pytest.approx(whole.score[i], rel=1e-6)
        assert alone.y1[0] == whole.y1[i]


def test_images_that_cannot_be_written_to_are_read_without_a_word(images, recwarn):
    """As they come out of the results database; PyTorch warns of such arrays once."""
    images.flags.writeable = False
    torch.set_warn_always(True)
    try:
        detector(PAPER).inspect(images)
    finally:
        torch.set_warn_always(False)
    assert not recwarn.list
