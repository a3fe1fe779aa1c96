"""What a finished bundle is: it loads and judges, and its card holds what was measured of it."""

import dataclasses

import pytest
import torch

from ciad_engine import bundles
from ciad_engine.datasets import CLASS_NAMES
from ciad_engine.detectors import controls
from ciad_engine.detectors.base import threshold_at
from ciad_engine.evaluation import opinions
from ciad_engine.imaging import to_unit
from ciad_engine.training import stages
from tests.engine.training.tiny import TINY


def test_a_recipe_makes_a_bundle_that_loads_and_judges(whole, data):
    card, system = whole, bundles.load(whole.folder, torch.device("cpu"))
    assert system.card == card
    assert card.classes == CLASS_NAMES
    assert card.content["data"]["training images"] == 60
    assert any("synthetic, not on the official files" in limit for limit in card.content["limits"])
    assert any(limit.startswith("Adaptive attacks") for limit in card.content["limits"])
    assert card.content["limits"][0].startswith("For 32x32 colour images of these classes: airplane, ")
    thresholds = [card.content["thresholds"][name]["value"] for name in ("graded", "graded, 1 %")]
    assert thresholds[0] <= thresholds[1]
    assert card.content["training"]["classifier"]["schedule"]["steps"] == 6
    measured = card.content["measured"]["test set"]
    verdict = system.detector().inspect(data.test.images, data.test.labels)
    assert measured["n"] == 30
    with torch.no_grad():
        control = system.network(bundles.CONTROL)(to_unit(torch.from_numpy(data.test.images))).argmax(1).numpy()
    assert measured["control"] == pytest.approx((control == data.test.labels).mean())
    assert measured["f1"] == pytest.approx((verdict.y1 == data.test.labels).mean())
    assert measured["f2 on masks"] == pytest.approx((verdict.y2 == data.test.labels).mean())
    assert measured["benign rate, paper's rule"] == pytest.approx((verdict.y1 == verdict.y2).mean())
    assert "20 benign validation images" in system.detector("graded").threshold.source


def test_every_threshold_is_of_validation_images_alone(whole, data):
    card, system = whole, bundles.load(whole.folder, torch.device("cpu"))
    _, validation, _ = stages.split(data, TINY.validation, 0)
    verdict = system.detector("graded").inspect(validation.images)
    networks = system.network(bundles.MASK_CLASSIFIER), system.network(bundles.CONTROL)
    scores = controls.scores(verdict, validation.images, *networks)
    saved = card.content[bundles.CONTROL_THRESHOLDS]
    assert saved.keys() == scores.keys() == set(opinions.GRADED)
    for found, at in ((verdict.score, card.content["thresholds"]), *((scores[name], saved[name]) for name in saved)):
        for rate, name in bundles.THRESHOLDS.items():
            assert at[name] == dataclasses.asdict(threshold_at(found, rate))
            assert (found > at[name]["value"]).mean() <= rate
