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
    with pytest.raises(SettingError, match=r"JSMA has no budget.* FGSM, BIM, PGD, .*Square") as caught:
        smallest.find(system, known, "jsma", {}, (), Job())
    assert "Universal" not in str(caught.value)


def test_an_attack_that_is_fitted_is_refused(system, known):
    with pytest.raises(SettingError, match="Universal makes one change for all images: choose FGSM"):
        smallest.find(system, known, "universal", {}, (), Job())


@pytest.fixture
def scripted(monkeypatch, system, known):
    """Make the outcome of each attack, by strength and whether it evades: fooled or not, flagged or not, change."""
    real = inspection.attacked(system, known, smallest.attacks.create("fgsm", eps=255.0))
    calls = []

    def use(outcome):
        def attacked(system, known, attack, job, evade):
            calls.append((attack.eps, tuple(evade)))
            fooled, flagged, change = outcome(attack.eps, bool(evade))
            changed = np.where(known.image < 128, known.image + change, known.image - change).astype(np.uint8)
            result = dataclasses.replace(
                real.attack, candidates=changed[None], settings={"eps": attack.eps}, fooled=np.array([fooled])
            )
            verdict = Verdict(np.array([flagged])) if fooled else None
            return dataclasses.replace(known, attack=result, adversarial=verdict, evade=tuple(evade))

        monkeypatch.setattr(inspection, "attacked", attacked)
        return calls

    return use


@dataclasses.dataclass
class Verdict:
    adversarial: np.ndarray


def test_it_ends_when_larger_strengths_can_do_no_more(system, known, scripted):
    calls = scripted(lambda strength, _: (False, False, min(strength, 4)))  # e.g. BIM with two steps of 2
    found = smallest.find(system, known, "bim", {}, (), Job())
    assert [strength for strength, _ in calls] == [1, 2, 3, 4, 5, 6]
    assert found == Smallest(None, None, 6)
    assert smallest.sentence(found, "mask") == (
        "No strength up to 6 of 255 fools f1 with this attack. Beyond 6 its settings let this attack change no more."
    )


def test_steps_that_are_kept_end_the_search_of_a_real_attack(system, known):
    settings = {"step": 0.01, "iterations": 100}
    found = smallest.find(system, known, "bim", settings, (), Job())
    assert found.reached < 255


def test_an_attack_that_gives_the_image_back_when_it_fails_is_tried_at_all_strengths(system, known, scripted):
    calls = scripted(lambda *_: (False, False, 0))
    assert smallest.find(system, known, "fgsm", {}, (), Job()) == Smallest(None, None)
    assert len(calls) == len(STRENGTHS)


def test_only_the_attack_that_is_to_pass_evades(system, known, scripted):
    calls = scripted(lambda strength, evades: (strength >= (5 if evades else 3), strength < 8, strength))
    found = smallest.find(system, known, "pgd", {}, ("mask",), Job())
    assert (found.fooling.attack.settings["eps"], found.fooling.evade) == (3, ())
    assert (found.passing.attack.settings["eps"], found.passing.evade) == (8, ("mask",))
    assert [strength for strength, evade in calls if not evade] == [1, 2, 3]
    assert [strength for strength, evade in calls if evade] == list(range(1, 9))


def test_without_a_detector_to_evade_each_strength_is_tried_once(system, known, scripted):
    calls = scripted(lambda strength, _: (strength >= 3, strength < 5, strength))
    smallest.find(system, known, "pgd", {}, (), Job())
    assert calls == [(float(strength), ()) for strength in (1, 2, 3, 4, 5)]


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
        "f1 is fooled at strength 3 of 255; f2 on the mask first misses it at 8.",
        "f1 is fooled at strength 3 of 255; f2 on the mask flags every image that fools f1.",
        "No strength up to 255 of 255 fools f1 with this attack.",
    ]
