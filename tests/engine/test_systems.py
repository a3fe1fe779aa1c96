"""A loaded bundle: its detectors, the verdicts they give, and where their thresholds come from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ciad_engine import bundles, compute, systems
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.threshold import RATES, Threshold, threshold_at
from ciad_engine.errors import BundleError, SettingError
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.training import finishing
from tests import untrained
from tests.engine.evaluation import tiny


def test_a_verdict_holds_what_f1_and_every_detector_found() -> None:
    system, data = tiny.system(), tiny.data(20)
    verdict = system.inspect(data.images, data.labels)
    assert list(verdict.findings) == ["mask", "mlp", "shuffled-mask", "constant-mask", "confidence"]
    with torch.no_grad():
        x = torch.from_numpy(data.images) / 255
        p1 = system.network(bundles.CLASSIFIER)(x).double().softmax(1).numpy()
        masks = system.network(bundles.MASK_GENERATOR)(x)
        p2 = system.network(bundles.MASK_CLASSIFIER)(masks).softmax(1).numpy()
    np.testing.assert_allclose(verdict.p1, p1, rtol=1e-5)
    np.testing.assert_array_equal(verdict.y1, p1.argmax(1))
    np.testing.assert_allclose(verdict.masks, masks[:, 0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(verdict.p2, p2, rtol=1e-4)
    np.testing.assert_allclose(verdict.findings["mask"].scores, -np.log(p2[np.arange(20), verdict.y1]), rtol=1e-4)
    assert (verdict.detector, verdict.rule) == ("mask", "disagreement")  # the card's first, by its usual rule


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    system, data = tiny.system(), tiny.data(20)
    whole = system.inspect(data.images)
    monkeypatch.setattr(systems, "BATCH", 7)
    parts = system.inspect(data.images)
    np.testing.assert_array_equal(parts.y1, whole.y1)
    for name, finding in whole.findings.items():
        np.testing.assert_allclose(parts.findings[name].scores, finding.scores, rtol=1e-4, atol=1e-6)


def test_networks_are_evaluated_in_eval_mode_and_left_as_they_were() -> None:
    system, data = tiny.system(), tiny.data(4)
    network = system.network(bundles.CONTROL).train()
    with compute.borrowed(network):
        expected = system.inspect(data.images).findings["mlp"].scores
    np.testing.assert_array_equal(system.inspect(data.images).findings["mlp"].scores, expected)
    assert network.training


def test_inspecting_can_be_cancelled() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        tiny.system().inspect(tiny.data(4).images, job=job)


def test_a_bundle_without_masks_has_none_in_its_verdicts() -> None:
    system = tiny.system()
    entries = tuple(entry for entry in system.card.detectors if entry.name in ("mlp", "confidence"))
    card = dataclasses.replace(system.card, detectors=entries)
    verdict = systems.assemble(card, system.networks, system.device).inspect(tiny.data(4).images)
    assert verdict.masks is None
    assert (verdict.detector, verdict.rule) == ("mlp", "disagreement")


def test_a_first_detector_without_a_threshold_finds_but_does_not_decide() -> None:
    system = tiny.system(threshold=None)
    entries = tuple(entry for entry in system.card.detectors if entry.name == "confidence")
    card = dataclasses.replace(system.card, detectors=entries)
    verdict = systems.assemble(card, system.networks, system.device).inspect(tiny.data(4).images)
    np.testing.assert_allclose(verdict.score, -np.log(verdict.p1.max(1)))
    with pytest.raises(SettingError, match="cannot decide by the rule 'graded': the bundle's card has no threshold"):
        _ = verdict.adversarial


def test_what_a_system_lacks_is_named() -> None:
    system = tiny.system(second=False)
    with pytest.raises(BundleError, match="Bundle 'tiny' has no second classifier"):
        system.network(bundles.SECOND_CLASSIFIER)
    with pytest.raises(SettingError, match="bundle 'tiny' has no detector 'magic'; it has mask, mlp"):
        system.evasions(["magic"])


def test_an_evasion_is_score_minus_threshold() -> None:
    system, data = tiny.system(threshold=1.5), tiny.data(200)
    # f1 is surer of the synthetic images than that.
    own = {"confidence": {0.05: Threshold(1.0, "chosen for this test")}}
    entries = [dataclasses.replace(e, thresholds=own.get(e.name, e.thresholds)) for e in system.card.detectors]
    card = dataclasses.replace(system.card, detectors=tuple(entries))
    system = systems.assemble(card, system.networks, system.device)
    verdict = system.inspect(data.images)
    x, y1 = torch.from_numpy(data.images) / 255, torch.from_numpy(verdict.y1)
    for text, detector, rule in (
        ("mask", "mask", "disagreement"),
        ("mlp:graded", "mlp", "graded"),
        ("confidence", "confidence", "graded"),
    ):
        (evasion,) = system.evasions([text])
        assert evasion.name == detector
        flagged = evasion.excess(x, y1).detach().numpy() > 0
        np.testing.assert_array_equal(flagged, verdict.by(detector, rule).adversarial)
        assert 0 < flagged.sum() < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "has no detector 'magic'"),
        ("mask:best", "'best' is none of disagreement, graded"),
        ("confidence:disagreement", "has no class of its own"),
        ("constant-mask:graded", "gives every image the same class"),
    ],
)
def test_what_cannot_be_evaded_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        tiny.system().evasions([text])


def test_a_bundle_on_disk_gives_verdicts(untrained_bundle) -> None:
    verdict = systems.load(untrained_bundle, torch.device("cpu")).inspect(untrained.noise(3))
    assert list(verdict.findings) == ["mask", "shuffled-mask", "constant-mask", "confidence"]
    assert verdict.by("mask", "graded").threshold.value == 3.0


# Thresholds of a new bundle.


@pytest.fixture
def validation() -> ImageSet:
    """Images with labels that f1 gets wrong for every fourth: those have scores of their own."""
    data = tiny.data(200)
    labels = tiny.system().inspect(data.images).y1.copy()
    labels[::4] = (labels[::4] + 1) % 10
    return dataclasses.replace(data, labels=labels)


def test_thresholds_are_of_validation_images_that_f1_classifies_correctly(validation: ImageSet) -> None:
    system = tiny.system(threshold=None)
    verdict = system.inspect(validation.images)
    correct = verdict.y1 == validation.labels
    assert correct.sum() == 150
    found = {entry.name: entry for entry in finishing.thresholds(system, validation)}
    assert list(found) == [entry.name for entry in system.card.detectors]
    others = 0
    for name in ("mask", "mlp", "shuffled-mask", "confidence"):
        scores = verdict.findings[name].scores
        for rate in RATES:
            threshold = found[name].thresholds[rate]
            assert threshold.value == threshold_at(scores[correct], rate).value
            assert (scores[correct] > threshold.value).mean() <= rate
            assert threshold.source == (
                f"{100 - 100 * rate:g}% quantile of 150 benign validation images that f1 classifies correctly"
            )
            others += threshold.value != threshold_at(scores, rate).value  # misclassified images would count
    assert others >= 4


def test_a_detector_that_scores_all_images_of_a_class_alike_gets_no_threshold(validation: ImageSet) -> None:
    found = {entry.name: entry for entry in finishing.thresholds(tiny.system(), validation)}
    assert found["constant-mask"].thresholds == {}


def test_what_was_measured_is_of_all_images_and_of_those_f1_classifies_correctly(validation: ImageSet) -> None:
    system = tiny.system(threshold=1.5)
    verdict = system.inspect(validation.images)
    correct = verdict.y1 == validation.labels
    mask = verdict.findings["mask"]
    figures = finishing.measure(system, validation)
    agree, passed = mask.labels == verdict.y1, mask.scores <= 1.5
    assert (figures["n"], figures["accuracy"]["f1"]) == (200, 0.75)
    assert set(figures["accuracy"]) == {"f1", "second classifier"}
    assert figures["detectors"]["mask"] == {
        "accuracy": pytest.approx((mask.labels == validation.labels).mean()),
        "disagreement": {"all": pytest.approx(agree.mean()), "correct": pytest.approx(agree[correct].mean())},
        "graded": {"all": pytest.approx(passed.mean()), "correct": pytest.approx(passed[correct].mean())},
    }
    mlp = verdict.findings["mlp"].labels
    assert figures["detectors"]["mlp"]["accuracy"] == pytest.approx((mlp == validation.labels).mean())
    assert set(figures["detectors"]) == set(verdict.findings)
