"""What a finished bundle is: it loads and judges, and its card holds what was measured of it."""

import dataclasses

import numpy as np
import pytest
import torch

from ciad_engine import bundles, systems
from ciad_engine.detectors.mahalanobis import penultimate
from ciad_engine.detectors.threshold import RATES, threshold_at
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import BundleError
from ciad_engine.imaging import to_unit
from ciad_engine.training import finishing, stages
from tests.engine.evaluation import tiny
from tests.engine.training.tiny import TINY

CONFIDENCE = (bundles.DetectorEntry("confidence", "confidence"),)


def test_a_recipe_makes_a_bundle_that_loads_and_judges(whole, data):
    card, system = whole, systems.load(whole.folder, torch.device("cpu"))
    assert system.card == card
    assert card.domain == CIFAR10
    assert [entry.name for entry in card.detectors] == [entry.name for entry in TINY.detectors]
    assert card.content["data"]["training images"] == 60
    assert any("synthetic, not on the official files" in limit for limit in card.content["limits"])
    assert any(limit.startswith("Adaptive attacks") for limit in card.content["limits"])
    assert card.content["limits"][0].startswith("For 32x32 colour images of these classes: airplane, ")
    thresholds = card.detector("mask").thresholds
    assert thresholds[0.05].value <= thresholds[0.01].value
    assert card.content["training"]["classifier"]["schedule"]["steps"] == 6
    measured = card.content["measured"]["test set"]
    verdict = system.inspect(data.test.images, data.test.labels)
    assert measured["n"] == 30
    with torch.no_grad():
        control = system.network(bundles.CONTROL)(to_unit(torch.from_numpy(data.test.images))).argmax(1).numpy()
    by = measured["detectors"]
    assert by["mlp"]["accuracy"] == pytest.approx((control == data.test.labels).mean())
    assert measured["accuracy"]["f1"] == pytest.approx((verdict.y1 == data.test.labels).mean())
    assert by["mask"]["accuracy"] == pytest.approx((verdict.y2 == data.test.labels).mean())
    assert by["mask"]["disagreement"]["all"] == pytest.approx((verdict.y1 == verdict.y2).mean())


def test_the_only_detector_of_a_recipe_may_be_one_that_cannot_decide_without_its_threshold(data, tmp_path):
    recipe = dataclasses.replace(TINY, stages=TINY.stages[:1], detectors=CONFIDENCE)
    card = stages.train_bundle(recipe, data, tmp_path / "bundle", device="cpu")
    assert set(card.detector("confidence").thresholds) == set(RATES)
    verdict = systems.load(card.folder, torch.device("cpu")).inspect(data.test.images)
    assert (verdict.detector, verdict.rule) == ("confidence", "graded")
    assert verdict.threshold == card.detector("confidence").thresholds[0.05]


def test_a_card_for_other_classes_is_silent_about_cifar_10(data, tmp_path):
    domain = Domain(("give way", "stop", *"abcdefgh"), 32)
    parts = {name: dataclasses.replace(getattr(data, name), domain=domain) for name in ("train", "test")}
    recipe = dataclasses.replace(TINY, stages=TINY.stages[:1], detectors=CONFIDENCE, limits=())
    card = stages.train_bundle(recipe, dataclasses.replace(data, **parts), tmp_path / "bundle", device="cpu")
    assert card.content["limits"] == [
        "For 32x32 colour images of these classes: give way, stop, a, b, c, d, e, f, g, h."
    ]


def test_every_threshold_is_of_validation_images_that_f1_classifies_correctly(whole, data):
    card, system = whole, systems.load(whole.folder, torch.device("cpu"))
    _, validation, _ = stages.split(data, TINY.validation, 0)
    verdict = system.inspect(validation.images)
    correct = verdict.y1 == validation.labels
    for entry in card.detectors:
        scores = verdict.findings[entry.name].scores[correct]
        if entry.name == "constant-mask":  # its score is the same for all images of a class
            assert not entry.thresholds
            continue
        assert set(entry.thresholds) == set(RATES)
        for rate, found in entry.thresholds.items():
            assert found == threshold_at(scores, rate, finishing.NEGATIVES)
            assert f" of {correct.sum()} benign validation images that f1 classifies correctly" in found.source


def test_images_that_f1_gets_wrong_do_not_raise_a_threshold():
    system, images = tiny.system(), tiny.data(400)
    verdict = system.inspect(images.images)
    wrong = verdict.y1 != images.labels
    assert 20 < wrong.sum() < 200
    for entry in finishing.thresholds(system, images):
        if entry.thresholds:
            scores = verdict.findings[entry.name].scores
            value = entry.thresholds[0.05].value
            assert value == np.quantile(scores[~wrong], 0.95, method="higher")
    everything = finishing.thresholds(system, dataclasses.replace(images, labels=verdict.y1.copy(), checksum=""))
    assert everything[0].thresholds != finishing.thresholds(system, images)[0].thresholds


def test_a_detector_with_as_many_scores_as_classes_gets_no_threshold():
    found = {entry.name: entry.thresholds for entry in finishing.thresholds(tiny.system(), tiny.data(200))}
    assert found["constant-mask"] == {}
    assert all(found[name] for name in ("mask", "mlp", "shuffled-mask", "confidence"))


BASELINES = (bundles.DetectorEntry("squeezing", "squeezing"), bundles.DetectorEntry("nearest", "mahalanobis"))


def check_baselines(card: bundles.Card, training) -> systems.System:
    """Both grade, and the Gaussians are those of the training images' features."""
    system = systems.load(card.folder, torch.device("cpu"))
    for entry in (card.detector(one.name) for one in BASELINES):
        assert set(entry.thresholds) == set(RATES)
        assert list(system.detectors[entry.name].rules) == ["graded"]
    assert card.detector("nearest").networks == {"gaussian": "nearest_gaussian"}
    features = card.content["networks"]["nearest_gaussian"]["arguments"]["features"]
    assert card.content["networks"]["nearest_gaussian"]["parameters"] == 10 * features + features**2
    f1 = system.network(bundles.CLASSIFIER)
    found = penultimate(f1, to_unit(torch.from_numpy(training.images))).double().numpy()
    means = [found[training.labels == label].mean(0) for label in range(10)]
    np.testing.assert_allclose(system.network("nearest_gaussian").means, means, rtol=1e-5, atol=1e-6)
    return system


def test_a_recipes_entry_is_enough_for_a_detector_that_is_fitted(data, tmp_path):
    recipe = dataclasses.replace(TINY, stages=TINY.stages[:1], detectors=BASELINES)
    card = stages.train_bundle(recipe, data, tmp_path / "bundle", device="cpu")
    training, validation, _ = stages.split(data, TINY.validation, 0)
    system = check_baselines(card, training)
    scores = system.inspect(validation.images).findings["nearest"].scores
    correct = system.inspect(validation.images).y1 == validation.labels
    assert card.detector("nearest").thresholds[0.05] == threshold_at(scores[correct], 0.05, finishing.NEGATIVES)
    assert stages.train_bundle(recipe, data, tmp_path / "bundle", resume=True, device="cpu") == card


def test_detectors_are_added_to_a_copy_of_a_bundle(whole, data, tmp_path):
    before = {path.name: path.read_bytes() for path in whole.folder.iterdir() if path.is_file()}
    training, validation, _ = stages.split(data, TINY.validation, 0)
    card = finishing.add_detectors(whole, tmp_path / "more", BASELINES, training, validation, torch.device("cpu"))
    assert card == bundles.read_card(tmp_path / "more")
    assert card.name == "more"
    assert card.detectors[:-2] == whole.detectors  # with the thresholds they had
    assert [entry.name for entry in card.detectors[-2:]] == ["squeezing", "nearest"]
    assert {path.name: path.read_bytes() for path in whole.folder.iterdir() if path.is_file()} == before
    system = check_baselines(card, training)
    ours, theirs = (s.inspect(data.test.images) for s in (system, systems.load(whole.folder, torch.device("cpu"))))
    for name, finding in theirs.findings.items():
        np.testing.assert_array_equal(ours.findings[name].scores, finding.scores)


def test_a_damaged_bundle_is_not_copied(whole, data, tmp_path):
    for path in whole.folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "control.safetensors").write_bytes(b"damaged")
    training, validation, _ = stages.split(data, TINY.validation, 0)
    damaged = bundles.read_card(tmp_path)
    with pytest.raises(BundleError, match=r"control\.safetensors is damaged"):
        finishing.add_detectors(damaged, tmp_path / "more", BASELINES, training, validation, torch.device("cpu"))
    assert not (tmp_path / "more").exists()
