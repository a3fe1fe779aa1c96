"""Each kind of detector on networks whose answers are known, and the verdict made of them."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import bundles, detectors, systems
from ciad_engine.detectors.base import Detector, Inputs
from ciad_engine.detectors.controls import ConstantMask, ShuffledMask
from ciad_engine.detectors.direct import Confidence, DirectDetector
from ciad_engine.detectors.mask import LEAST_SLOPE, MaskDetector
from ciad_engine.detectors.threshold import RATES, Threshold
from ciad_engine.errors import SettingError
from tests.engine.evaluation import tiny


class Watched(nn.Module):
    """Keeps what it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append(x.clone())
        return self.inner(x)


@pytest.fixture
def images():
    return torch.from_numpy(tiny.data(20).images) / 255


def masked(kind: type[Detector], f2: nn.Module, **kwargs) -> Detector:
    return kind("x", tiny.Classifier(1), {"generator": tiny.MaskGenerator(), "classifier": f2}, **kwargs)


def test_the_mask_detector_classifies_the_mask(images):
    f2 = tiny.MaskClassifier()
    found = masked(MaskDetector, f2).log_probabilities(Inputs(images))
    torch.testing.assert_close(found, f2(tiny.MaskGenerator()(images)).log_softmax(1), rtol=0, atol=0)


def test_the_shuffled_mask_has_the_masks_values_in_one_order_for_all(images):
    watched = Watched(tiny.MaskClassifier())
    detector = masked(ShuffledMask, watched)
    detector.log_probabilities(Inputs(images))
    seen, masks = watched.seen[0].flatten(1), detector.masks(Inputs(images)).flatten(1)
    torch.testing.assert_close(seen.sort(1).values, masks.sort(1).values, rtol=0, atol=0)
    assert (seen != masks).any(1).all()
    order = np.random.RandomState(0).permutation(1024)  # the stream that older versions of numpy have, too
    torch.testing.assert_close(seen, masks[:, order], rtol=0, atol=0)


def test_the_constant_mask_gives_one_distribution(images):
    watched = Watched(tiny.MaskClassifier())
    found = masked(ConstantMask, watched).log_probabilities(Inputs(images))
    assert found.shape == (20, 10)
    assert (found == found[0]).all()
    assert watched.seen[0].unique().tolist() == [0.5]


def test_the_direct_detector_classifies_the_image(images):
    network = tiny.Classifier(7)
    found = DirectDetector("mlp", tiny.Classifier(1), {"classifier": network}).log_probabilities(Inputs(images))
    torch.testing.assert_close(found, network(images).log_softmax(1), rtol=0, atol=0)


def test_a_score_is_minus_the_log_probability_of_the_given_class(images):
    detector = DirectDetector("mlp", tiny.Classifier(1), {"classifier": tiny.Classifier(7)})
    log_p, classes = detector.log_probabilities(Inputs(images)), torch.arange(20) % 10
    assert detector.score(Inputs(images), classes).tolist() == [-log_p[k, k % 10].item() for k in range(20)]


class Sure(nn.Module):
    """Gives one class a lead of 20 in its logits."""

    def __init__(self):
        super().__init__()
        self.lead = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        return nn.functional.pad(self.lead.expand(len(x), 1), (0, 1))


def test_confidence_is_computed_in_double_precision(images):
    """In single precision a lead of 20 is a probability of exactly 1, and all such images would tie."""
    detector = Confidence("confidence", Sure(), {})
    score = detector.score(Inputs(images), torch.zeros(20, dtype=torch.int64))
    assert score[0].item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)
    assert score[0].item() > 0


def test_detectors_that_share_a_network_run_it_once(images):
    generator = Watched(tiny.MaskGenerator())
    networks = {"generator": generator, "classifier": tiny.MaskClassifier()}
    inputs = Inputs(images)
    for kind in (MaskDetector, ShuffledMask, ConstantMask):
        detector = kind("x", tiny.Classifier(1), networks)
        detector.log_probabilities(inputs)
        detector.masks(inputs)
    assert len(generator.seen) == 1


# What attackers follow.


@pytest.mark.parametrize("kind", [MaskDetector, ShuffledMask, ConstantMask])
def test_an_attack_sees_the_same_values(images, kind):
    detector = masked(kind, tiny.MaskClassifier())
    torch.testing.assert_close(
        detector.log_probabilities(Inputs(images, followed=True)), detector.log_probabilities(Inputs(images))
    )


class Saturated(nn.Module):
    """A generator whose masks are 0 or 1, as a LAN's often are."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1e4))

    def mask_logits(self, images):
        return self.gain * (images.mean(1, keepdim=True) - 0.5)

    def forward(self, images):
        return torch.sigmoid(self.mask_logits(images))


def test_an_attack_gets_a_gradient_through_a_saturated_mask(images):
    networks = {"generator": Saturated(), "classifier": tiny.MaskClassifier()}
    detector = MaskDetector("mask", tiny.Classifier(1), networks)
    x = images[:1].clone().requires_grad_()
    plain = torch.autograd.grad(detector.log_probabilities(Inputs(x))[0, 3], x)[0]
    followed = torch.autograd.grad(detector.log_probabilities(Inputs(x, followed=True))[0, 3], x)[0]
    assert (plain == 0).float().mean() > 0.9
    assert (followed == 0).float().mean() < 0.1
    assert LEAST_SLOPE > 0


def excess(detector, rule, classes=(0, 1, 2)):
    x = torch.from_numpy(tiny.data(3).images) / 255
    x.requires_grad_()
    found = detector.excess(x, torch.tensor(classes), rule)
    assert torch.autograd.grad(found.sum(), x)[0].abs().sum() > 0
    return found.detach()


def test_the_excess_of_the_graded_rule_is_score_minus_threshold():
    detector = DirectDetector("mlp", tiny.Classifier(1), {"classifier": tiny.Classifier(7)}, {0.05: Threshold(1.5, "")})
    log_p = detector.log_probabilities(Inputs(torch.from_numpy(tiny.data(3).images) / 255))
    for k, value in enumerate(excess(detector, detectors.GRADED).tolist()):
        assert value == pytest.approx(-log_p[k, k].item() - 1.5, abs=1e-6)


def test_the_excess_of_disagreement_is_positive_exactly_if_the_classes_differ():
    detector = DirectDetector("mlp", tiny.Classifier(1), {"classifier": tiny.Classifier(7)})
    own = detector.log_probabilities(Inputs(torch.from_numpy(tiny.data(3).images) / 255)).argmax(1)
    assert (excess(detector, detectors.DISAGREEMENT, own.tolist()) < 0).all()
    assert (excess(detector, detectors.DISAGREEMENT, ((own + 1) % 10).tolist()) > 0).all()


# Verdicts.


@pytest.fixture
def verdict():
    data = tiny.data(20)
    return tiny.system().inspect(data.images, data.labels)


def test_the_papers_rule_is_disagreement():
    data = tiny.data(200)
    found = tiny.system().inspect(data.images, data.labels).by("mask", "disagreement")
    np.testing.assert_array_equal(found.adversarial, found.y1 != found.y2)
    assert 0 < found.adversarial.sum() < 200
    np.testing.assert_array_equal(found.recovers, found.y2 == found.labels)


@pytest.mark.parametrize("name", ["mask", "mlp", "confidence"])
def test_an_image_is_flagged_above_the_threshold_and_not_at_it(verdict, name):
    scores = np.sort(verdict.findings[name].scores)
    at = Threshold(float(scores[10]), "a score that an image has")
    finding = dataclasses.replace(verdict.findings[name], rules={"graded": at})
    found = dataclasses.replace(verdict, findings={name: finding}).by(name, "graded")
    assert found.adversarial.sum() == (scores > scores[10]).sum()
    assert not found.adversarial[verdict.findings[name].scores == scores[10]].any()


def test_f1s_confidence_has_no_class_to_disagree(verdict):
    found = verdict.by("confidence")
    assert found.rule == "graded"
    assert found.recovers is None
    np.testing.assert_array_equal(found.y2, found.y1)
    with pytest.raises(
        SettingError, match="'f1's confidence' cannot decide by the rule 'disagreement': it has no class"
    ):
        verdict.by("confidence", "disagreement")


def test_what_cannot_decide_is_refused_with_the_reason(verdict):
    with pytest.raises(SettingError, match="'magic' is none of mask, mlp"):
        verdict.by("magic")
    with pytest.raises(SettingError, match="'best' is none of disagreement, graded"):
        verdict.by("mask", "best")
    with pytest.raises(
        SettingError, match="constant mask' cannot decide by the rule 'graded': the bundle's card has no"
    ):
        verdict.by("constant-mask", "graded")


def test_the_usual_rule_is_the_first_a_detector_has():
    class Plain(DirectDetector):
        pass

    assert list(Plain("x", tiny.Classifier(1), {}).rules) == ["disagreement"]
    assert list(Plain("x", tiny.Classifier(1), {}, {RATES[0]: Threshold(1, "")}).rules) == ["disagreement", "graded"]
    assert list(Plain("x", tiny.Classifier(1), {}, {RATES[1]: Threshold(1, "")}).rules) == ["disagreement"]
    assert list(Confidence("x", tiny.Classifier(1), {}).rules) == []


# The registry.


def test_kinds_of_other_packages_are_found(monkeypatch):
    class Entry:
        name, value, dist = "squeeze", "my_package:Squeeze", None

        def __init__(self, found):
            self.found = found

        def load(self):
            if isinstance(self.found, Exception):
                raise self.found
            return self.found

    for found, message in (
        (DirectDetector, None),
        (dict, "is not a `Detector`"),
        (ImportError("no torchmagic"), "cannot be loaded \\(no torchmagic\\)"),
    ):
        monkeypatch.setattr(detectors, "_plugins", lambda found=found: {"squeeze": Entry(found)})
        if message is None:
            assert detectors.get("squeeze") is DirectDetector
        else:
            with pytest.raises(SettingError, match=message):
                detectors.get("squeeze")
    with pytest.raises(SettingError, match="'magic' is none of mask, direct"):
        detectors.get("magic")


def test_two_detectors_of_another_packages_kind_have_its_title(monkeypatch):
    class Squeeze(DirectDetector):
        title = "Squeezing"

    monkeypatch.setattr(detectors, "get", lambda kind: Squeeze)
    system = tiny.system()
    listed = [bundles.DetectorEntry(name, "squeeze", {"classifier": "control"}) for name in ("few", "many")]
    card = dataclasses.replace(system.card, detectors=tuple(listed))
    found = systems.assemble(card, system.networks, system.device).inspect(tiny.data(3).images).findings
    assert {name: finding.title for name, finding in found.items()} == {
        "few": "Squeezing (few)",
        "many": "Squeezing (many)",
    }


def test_a_title_is_known_without_importing_another_package(monkeypatch):
    monkeypatch.setattr(detectors, "_plugins", lambda: pytest.fail("the window's thread must not import torch"))
    assert detectors.title("squeeze") == "squeeze"


def test_detectors_are_shown_in_one_order():
    assert detectors.in_order(["zebra", "confidence", "alpha", "mask"]) == ["mask", "confidence", "alpha", "zebra"]
    assert detectors.title("mask") == "f2 on the mask"
    assert detectors.title("zebra") == "zebra"
