"""One score from several: weights and tails come from benign scores, and each part can raise it."""

import numpy as np
import pytest
import torch

from ciad_engine import detectors
from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.combined import TAIL, Combined
from ciad_engine.detectors.direct import Confidence, DirectDetector
from ciad_engine.detectors.threshold import Threshold
from tests.engine.evaluation import tiny

OPTIONS = {"opinions": ["a", "b"], "further": ["confidence"]}


def benign(correlation: float = 0.0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((2, 5000))
    second = correlation * first + (1 - correlation**2) ** 0.5 * second
    return {"a": first - 4, "b": 3 * second - 9, "confidence": draw.exponential(0.5, 5000), "unused": first}


@pytest.fixture
def parts():
    f1 = tiny.Classifier(1)
    found = {name: DirectDetector(name, f1, {"classifier": tiny.Classifier(k)}, options={"score": "margin"})
             for k, name in enumerate("ab", 2)}  # fmt: skip
    return {**found, "confidence": Confidence("confidence", f1, {})}


def combined(parts, scores=None) -> Combined:
    detector = Combined("combined", tiny.Classifier(1), {}, {0.05: Threshold(1.0, "")}, OPTIONS, parts)
    if scores is not None:
        detector.options = dict(detector.calibrated(scores))
    return detector


def test_weights_are_those_of_the_linear_discriminant():
    for correlation in (0.0, 0.6):
        scores = benign(correlation)
        fit = combined({}).calibrated(scores)["fit"]
        weights = np.array([fit["weights"]["a"], fit["weights"]["b"]])
        covariance = np.cov(np.stack([scores["a"], scores["b"]]))
        shift = np.sqrt(np.diag(covariance))  # both by one standard deviation
        expected = np.linalg.solve(covariance, shift)
        np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-6)


def test_tails_are_those_of_the_largest_benign_scores():
    scores = benign()
    at, scale = combined({}).calibrated(scores)["fit"]["tails"]["confidence"]
    assert (scores["confidence"] > at).mean() == pytest.approx(TAIL, abs=1e-3)
    assert scale == pytest.approx(0.5, rel=0.05)  # an exponential law has it everywhere


def test_no_score_counts_twice_and_none_is_left_out(parts):
    images = torch.from_numpy(tiny.data(40).images) / 255
    detector, classes = combined(parts, benign()), torch.arange(40) % 10
    inputs = Inputs(images)
    fit = detector.options["fit"]
    scores = {name: part.score(inputs, classes).double() for name, part in parts.items()}
    opinions = sum(fit["weights"][name] * scores[name] for name in "ab")
    terms = {"opinions": opinions, "confidence": scores["confidence"]}
    expected = sum(torch.exp((terms[name] - at) / scale) for name, (at, scale) in fit["tails"].items()).log()
    torch.testing.assert_close(detector.score(inputs, classes), expected)
    # It is at least the larger of both, and not much more: a maximum, but smooth.
    larger = torch.stack([(terms[name] - at) / scale for name, (at, scale) in fit["tails"].items()]).amax(0)
    assert (detector.score(inputs, classes) - larger >= 0).all()
    assert (detector.score(inputs, classes) - larger <= np.log(2) + 1e-9).all()


def test_the_class_is_that_of_the_opinions_together_and_the_usual_rule_is_graded(parts):
    inputs = Inputs(torch.from_numpy(tiny.data(40).images) / 255)
    detector = combined(parts, benign())
    log_p = detector.log_probabilities(inputs)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(40))
    mean = (inputs.log_probabilities(parts["a"]) + inputs.log_probabilities(parts["b"])) / 2
    assert torch.equal(log_p.argmax(1), mean.argmax(1))
    assert list(detector.rules) == [detectors.GRADED, detectors.DISAGREEMENT]


def test_before_it_is_calibrated_it_flags_nothing(parts):
    inputs = Inputs(torch.from_numpy(tiny.data(3).images) / 255)
    assert combined(parts).score(inputs, torch.tensor([0, 1, 2])).tolist() == [0, 0, 0]
