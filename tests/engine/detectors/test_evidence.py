"""What is kept of an image and what replaces the rest, and the detectors that look at it."""

import pytest
import torch
from torch import nn

from ciad_engine import detectors
from ciad_engine.detectors.base import Inputs, margin
from ciad_engine.detectors.evidence import EvidenceDetector, Stability, colour_fields, composites
from ciad_engine.detectors.threshold import Threshold
from tests.engine.evaluation import tiny


class Half(nn.Module):
    """Calls the right half unimportant."""

    def forward(self, images):
        masks = torch.zeros_like(images[:, :1])
        masks[..., masks.shape[-1] // 2 :] = 1
        return masks


class Watched(tiny.Classifier):
    def forward(self, images):
        self.seen = images.detach().clone()
        return super().forward(images)


@pytest.fixture
def images():
    return torch.from_numpy(tiny.data(6).images) / 255


def test_fields_are_smooth_colours_that_the_seed_decides():
    fields = colour_fields(8, 32, torch.Generator().manual_seed(1))
    assert fields.shape == (8, 3, 32, 32)
    assert 0 <= fields.min() <= fields.max() <= 1
    assert torch.equal(fields, colour_fields(8, 32, torch.Generator().manual_seed(1)))
    assert not torch.equal(fields, colour_fields(8, 32, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(fields[:2], fields[:2, :, :1, :1].expand(-1, -1, 32, 32))  # the coarsest grid: 1 colour
    steps = fields.diff(dim=3).abs().amax((1, 2, 3))
    assert (steps[2:] > 0.01).all()
    assert steps.max() < 0.3


def test_composites_keep_what_is_important_and_replace_the_rest(images):
    fillings = colour_fields(2, 32, torch.Generator().manual_seed(0))
    first, mirrored = composites(images, Half()(images), fillings).chunk(2)
    assert torch.equal(first[..., :16], images[..., :16])
    assert torch.equal(first[..., 16:], fillings[0, :, :, 16:].expand(6, -1, -1, -1))
    assert torch.equal(mirrored.flip(3)[..., :16], images[..., :16])
    assert torch.equal(mirrored.flip(3)[..., 16:], fillings[1, :, :, 16:].expand(6, -1, -1, -1))


def test_evidence_is_the_mean_opinion_on_what_is_kept(images):
    reader = Watched(3)
    detector = EvidenceDetector("evidence", tiny.Classifier(1), {"generator": Half(), "classifier": reader})
    log_p = detector.log_probabilities(Inputs(images))
    expected = reader(reader.seen).softmax(1).view(4, 6, 10).mean(0).log()
    torch.testing.assert_close(log_p, expected)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(6))
    changed = images.clone()
    changed[..., 16:] = 0
    torch.testing.assert_close(detector.log_probabilities(Inputs(changed)), log_p)
    changed[..., :16] = 0
    assert (detector.log_probabilities(Inputs(changed)) - log_p).abs().amax(1).min() > 0.01


def test_stability_is_f1s_own_opinion_without_the_rest(images):
    f1 = tiny.Classifier(1)
    detector = Stability("stability", f1, {"generator": Half()})
    reads = EvidenceDetector("evidence", f1, {"generator": Half(), "classifier": f1})
    log_p, classes = detector.log_probabilities(Inputs(images)), f1(images).argmax(1)
    torch.testing.assert_close(log_p, reads.log_probabilities(Inputs(images)))
    torch.testing.assert_close(detector.score(Inputs(images), classes), margin(log_p, classes))
    assert detectors.DISAGREEMENT not in detector.rules


def test_a_margin_is_above_zero_exactly_if_another_class_is_likelier():
    log_p = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]).log()
    found = margin(log_p, torch.tensor([0, 2]))
    torch.testing.assert_close(found, torch.tensor([0.3 / 0.5, 0.5 / 0.2]).log())


@pytest.mark.parametrize("followed", [False, True])
def test_attackers_get_the_same_values_and_a_gradient(images, followed):
    networks = {"generator": tiny.MaskGenerator(), "classifier": tiny.Classifier(3)}
    detector = EvidenceDetector(
        "evidence", tiny.Classifier(1), networks, {0.05: Threshold(1.0, "")}, {"score": "margin"}
    )
    x = images.clone().requires_grad_()
    score = detector.score(Inputs(x, followed=followed), torch.arange(6))
    torch.testing.assert_close(score, detector.score(Inputs(images), torch.arange(6)))
    assert torch.autograd.grad(score.sum(), x)[0].abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(detector.excess(images, torch.arange(6), detectors.GRADED), score.detach() - 1)
