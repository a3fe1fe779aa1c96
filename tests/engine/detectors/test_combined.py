"""One score from several: it is calibrated on benign scores, and no part outweighs another."""

import numpy as np
import pytest
import torch

from ciad_engine import detectors
from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.combined import Combined
from ciad_engine.detectors.direct import DirectDetector
from ciad_engine.detectors.threshold import Threshold
from tests.engine.evaluation import tiny

CLASSES = torch.arange(40) % 10


@pytest.fixture
def inputs():
    return Inputs(torch.from_numpy(tiny.data(40).images) / 255)


@pytest.fixture
def parts():
    margin = {"score": "margin"}
    networks = {name: {"classifier": tiny.Classifier(seed)} for seed, name in enumerate("ab", 2)}
    return {name: DirectDetector(name, tiny.Classifier(1), own, options=margin) for name, own in networks.items()}


def combined(parts) -> Combined:
    return Combined("combined", tiny.Classifier(1), {}, {0.05: Threshold(1.0, "")}, {"of": ["a", "b"]}, parts)


def test_scores_count_in_standard_deviations_of_benign_ones(parts, inputs):
    draw = np.random.default_rng(0)
    a, b = (parts[name].score(inputs, CLASSES).double() for name in "ab")
    benign = {
        "a": draw.normal(a.mean().item(), 1, 5000),
        "b": draw.normal(b.mean().item(), 3, 5000),
        "unused": draw.normal(size=5000),
    }
    detector = combined(parts)
    detector.options = dict(detector.calibrated(benign))
    assert detector.options["of"] == ["a", "b"]
    assert detector.options["fit"] == {name: [benign[name].mean(), benign[name].std()] for name in "ab"}
    above = [((s - benign[n].mean()) / benign[n].std()).clamp(min=0) for n, s in (("a", a), ("b", b))]
    expected = (above[0] + above[1]) / 2
    assert all((part > 0).any() and (part == 0).any() for part in above)
    torch.testing.assert_close(detector.score(inputs, CLASSES), expected)


def test_its_class_is_that_of_the_parts_together_and_its_usual_rule_is_graded(parts, inputs):
    detector = combined(parts)
    log_p = detector.log_probabilities(inputs)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(40))
    mean = (inputs.log_probabilities(parts["a"]) + inputs.log_probabilities(parts["b"])) / 2
    assert torch.equal(log_p.argmax(1), mean.argmax(1))
    assert list(detector.rules) == [detectors.GRADED, detectors.DISAGREEMENT]


def test_before_it_is_calibrated_it_flags_nothing(parts, inputs):
    assert not combined(parts).score(inputs, CLASSES).any()
