"""The smallest change that fools f1, and that also gets past a detector."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ciad_engine import compute, inspection, smallest, systems
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.smallest import STRENGTHS, Smallest
from tests import untrained


@pytest.fixture(scope="module")
def system(untrained_bundle):
    return systems.load(untrained_bundle, compute.choose_device("cpu"))


@pytest.fixture(scope="module")
def known(system):
    image = untrained.noise(1)[0]
    return inspection.inspect(system, image, "noise", int(system.inspect(image[None]).y1[0]))


def test_it_is_the_first_strength_that_does_it(system, known):
    found = smallest.find(system, known, "fgsm", {}, (), Job())
    every = [inspection.attacked(system, known, smallest.attacks.create("fgsm", eps=float(s))) for s in STRENGTHS]
    fooling = [each for each in every if each.adversarial is not None]
    passing = [each for each in fooling if not each.adversarial.adversarial[0]]
    assert found.fooling.attack.settings["eps"] == fooling[0].attack.settings["eps"]
    assert np.array_equal(found.fooling.attacked_image, fooling[0].attacked_image)
    assert (found.passing is None) == (not passing)
    if passing:
        assert found.passing.attack.settings["eps"] == passing[0].attack.settings["eps"]


def test_other_settings_of_the_attack_are_kept(system, known):
    found = smallest.find(system, known, "pgd", {"eps": 99.0, "iterations": 3, "restarts": 1}, (), Job())
    assert found.fooling.attack.settings["iterations"] == 3


def test_an_attack_without_a_budget_is_refused(system, known):
    with pytest.raises(SettingError, match="JSMA has no budget"):
        smallest.find(system, known, "jsma", {}, (), Job())


def test_it_can_be_cancelled(system, known):
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        smallest.find(system, known, "fgsm", {}, (), job)


def test_the_sentence(system, known):
    found = inspection.attacked(system, known, smallest.attacks.create("fgsm", eps=3.0))
    stronger = dataclasses.replace(found, attack=dataclasses.replace(found.attack, settings={"eps": 8.0}))
    said = [
        smallest.sentence(each, "f2 on the mask")
        for each in (Smallest(found, stronger), Smallest(found, None), Smallest(None, None))
    ]
    assert said == [
        "f1 is fooled from 3 of 255, f2 on the mask from 8.",
        "f1 is fooled from 3 of 255; f2 on the mask flags every image that fools it.",
        "No change of up to 255 of 255 fools f1 with this attack.",
    ]
