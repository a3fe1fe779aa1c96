"""The page as plain data: what each event allows, without a window."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ciad_app.inspect.collection import Entry
from ciad_app.inspect.state import LOADING, State, Wait

PIXELS = np.zeros((3, 32, 32), np.uint8)
ENTRY = Entry(PIXELS, 3, "image")
STORED = Entry(PIXELS, 3, "image", adversarial=PIXELS)
READY = State(loaded=True, entry=ENTRY)


class Found:
    """Stands for an inspection: decided by what, with an attack or not."""

    def __init__(self, decided: str = "usual", adversarial: object = None) -> None:
        self.decided, self.adversarial = decided, adversarial
        self.benign = self
        self.detector = "first"

    def by(self, detector: str, rule: str) -> Found:
        return Found(f"{detector}:{rule}", self.adversarial)

    def without_attack(self) -> Found:
        return Found(self.decided)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"wait": Wait.LOOK}, ""),
        ({"wait": Wait.ATTACK}, "An attack is running."),
        ({"loading": "other", "unavailable": "broken"}, "Wait until bundle other is loaded."),
        ({"unavailable": "broken", "loaded": False}, "The models could not be loaded: broken"),
        ({"loaded": False}, LOADING),
        ({"entry": None}, "Select an image first."),
    ],
)
def test_why_an_image_cannot_be_attacked(changes, reason):
    assert dataclasses.replace(READY, **changes).why_not_attack == reason


def test_a_detector_that_is_chosen_decides_on_what_is_known():
    known = READY.answered(Found())
    assert known.decided("mask", "graded").found.decided == "mask:graded"
    assert known.decided("", "").found.decided == "first:"
    assert READY.decided("mask", "graded").found is None


def test_a_detector_that_is_chosen_during_an_attack_does_not_decide_on_the_image_before_it():
    attacked = READY.answered(Found(adversarial="before")).attacking()
    assert attacked.decided("mask", "graded").found.decided == "usual"
    assert attacked.found.adversarial is None
    looked = READY.answered(Found()).looking()
    assert looked.decided("mask", "graded").found.decided == "mask:graded"


def test_after_an_attack_that_failed_the_image_is_as_known_as_before():
    known = READY.answered(Found(adversarial="before"))
    back = known.attacking().gave_up()
    assert (back.wait, back.found.adversarial) == (Wait.NOTHING, None)
    assert READY.attacking().gave_up().found is None


def test_after_an_attack_on_a_stored_pair_the_pair_is_to_be_seen_again():
    known = dataclasses.replace(READY, entry=STORED).answered(Found(adversarial="stored"))
    assert known.attacking().gave_up().found is None
    assert known.looking().gave_up().found is known.found
    assert known.gave_up().found is known.found


def test_another_image_gives_up_what_is_waited_for():
    other = READY.answered(Found()).attacking().selected(STORED)
    assert (other.entry, other.found, other.wait) == (STORED, None, Wait.NOTHING)
    assert READY.selected(None).why_not_attack == "Select an image first."


def test_an_image_can_be_looked_at_if_nothing_is_waited_for():
    assert READY.can_look
    for state in (READY.looking(), READY.attacking(), READY.selected(None), dataclasses.replace(READY, loaded=False)):
        assert not state.can_look


def test_an_image_is_incomplete_if_its_verdict_or_that_of_its_stored_version_is_missing():
    assert READY.incomplete
    assert not READY.looking().incomplete
    assert not READY.answered(Found()).incomplete
    stored = READY.selected(STORED)
    assert stored.answered(Found()).incomplete
    assert not stored.answered(Found(adversarial="there")).incomplete
    assert not READY.selected(None).incomplete
