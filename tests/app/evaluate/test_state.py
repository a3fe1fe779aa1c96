"""The page as plain data: what each event allows, without a window."""

from __future__ import annotations

import dataclasses

import pytest

from ciad_app.evaluate.state import NO_DATABASE, NO_MODELS, State

READY = State(models="", database="", has_data=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"running": True, "loading": "other"}, "An evaluation is running."),
        ({"loading": "other", "models": NO_MODELS}, "Wait until bundle other is loaded."),
        ({"models": NO_MODELS, "database": NO_DATABASE, "has_data": False}, NO_MODELS),
        ({"database": NO_DATABASE, "has_data": False}, NO_DATABASE),
        ({"has_data": False, "wrong": "No attack."}, "No images are loaded: choose them under Images."),
        ({"wrong": "No attack."}, "No attack."),
    ],
)
def test_why_nothing_can_be_started(changes, reason):
    assert dataclasses.replace(READY, **changes).why_not_start == reason


def test_a_run_that_was_chosen_is_shown_when_its_rows_are_there():
    chosen = READY.chose("a")
    assert (chosen.run, chosen.shown, chosen.can_export) == ("a", False, False)
    assert chosen.read("a").can_export


def test_late_rows_of_an_old_run_change_nothing():
    chosen = READY.chose("a").chose("b")
    assert chosen.read("a") == chosen
    assert chosen.read("b").shown


def test_start_while_a_run_is_being_read_gives_up_that_run():
    started = READY.chose("a").started()
    assert (started.run, started.running) == ("", True)
    assert started.read("a") == started  # its rows come too late
    assert started.began("b").read("b").shown


def test_no_other_run_can_be_chosen_while_one_is_computed():
    running = READY.started().began("a").read("a")
    assert not running.can_choose_run
    assert running.chose("b") == running
    ended = running.ended()
    assert (ended.run, ended.shown, ended.can_choose_run) == ("a", True, True)


def test_the_run_that_is_shown_stays_until_the_evaluation_began():
    shown = READY.chose("a").read("a")
    assert shown.started().ended() == shown  # cancelled or failed before
    assert shown.started().ended().began("b") == shown
    began = shown.started().began("b")
    assert (began.run, began.shown) == ("b", False)


def test_a_run_that_was_removed_is_not_shown_any_more():
    shown = READY.chose("a").read("a")
    assert shown.removed("a") == READY
    assert shown.removed("b") == shown
    running = READY.started().began("a")
    assert running.removed("a") == running
