"""The quiz: its rules as plain data, and its window."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from PySide6.QtCore import Qt

from ciad_app.inspect.quiz import Quiz
from ciad_app.inspect.quiz_state import STRENGTHS, Tally
from tests.app.inspect.steps import TIMEOUT, settle, show_set


def test_two_correct_answers_make_the_attack_weaker_and_a_wrong_one_stronger():
    tally = Tally(place=5)
    assert tally.text == "Strength 8 of 255"
    tally = tally.answered(True)
    assert tally.strength == 8
    tally = tally.answered(True)
    assert tally.strength == 6
    tally = tally.answered(True).answered(False)
    assert tally.strength == 8
    assert (tally.asked, tally.correct) == (4, 3)
    assert tally.text == "3 of 4 correct · strength 8 of 255"


def test_the_strength_stays_within_its_range():
    always, never = Tally(), Tally()
    for _ in range(100):
        always, never = always.answered(True), never.answered(False)
    assert never.strength == STRENGTHS[-1]
    assert always.strength == STRENGTHS[0]


def test_it_settles_where_the_class_is_right_most_of_the_time():
    """Someone who sees attacks of 6 and more, and guesses below."""
    draw, tally, seen = random.Random(0), Tally(), []
    for _ in range(400):
        seen.append(tally.strength)
        tally = tally.answered(tally.strength >= 6 or draw.random() < 0.5)
    assert 3 <= np.median(seen[50:]) <= 6


@pytest.fixture
def quiz(page, known, qtbot):
    """A quiz with its first question."""
    show_set(page, known)
    settle(page, qtbot)
    page._quiz()
    (made,) = page.findChildren(Quiz)
    qtbot.waitUntil(lambda: made.asking, timeout=TIMEOUT)
    yield made
    made.close()


def test_it_asks_counts_and_explains(quiz, qtbot):
    sides = {0: Qt.Key.Key_Left, 1: Qt.Key.Key_Right}
    found, side = quiz.found, quiz.attacked_side
    shown = [pane.array.transpose(2, 0, 1) for pane in quiz.panes]
    assert np.array_equal(shown[side], found.attacked_image)
    assert np.array_equal(shown[1 - side], found.image)
    assert quiz.difference.array is None
    quiz.activateWindow()
    quiz.choices[1].setFocus()  # a button that would take an arrow for the way to the next one
    qtbot.keyClick(quiz.choices[1], sides[side])
    assert quiz.explanation.text().startswith(f"Correct: the {('left', 'right')[side]} one was attacked.")
    assert "No value changed by more than 16 of 255" in quiz.explanation.text()
    assert found.classes[int(found.adversarial.y1[0])] in quiz.explanation.text()
    assert quiz.difference.array is not None
    assert quiz.score.text().startswith("1 of 1 correct")
    qtbot.keyClick(quiz, sides[side])  # once is enough
    assert quiz.tally.asked == 1
    qtbot.keyClick(quiz, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: quiz.asking and quiz.found is not found, timeout=TIMEOUT)
    quiz.choices[1 - quiz.attacked_side].click()
    assert quiz.explanation.text().startswith("Wrong: ")
    assert quiz.score.text().startswith("1 of 2 correct")


def test_both_sides_come_up(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page._quiz()
    (quiz,) = page.findChildren(Quiz)
    sides = set()
    for _ in range(12):
        qtbot.waitUntil(lambda: quiz.asking, timeout=TIMEOUT)
        sides.add(quiz.attacked_side)
        quiz.answer(0)
        quiz.ask()
    assert sides == {0, 1}
    quiz.close()


def test_no_image_that_can_be_attacked_is_said(page, known, qtbot):
    show_set(page, dataclasses.replace(known, labels=(known.labels + 1) % 10))  # f1 is wrong about all of them
    settle(page, qtbot)
    page._quiz()
    (quiz,) = page.findChildren(Quiz)
    qtbot.waitUntil(lambda: "could be attacked" in quiz.explanation.text(), timeout=TIMEOUT)
    assert quiz.next.isEnabled()
    assert not quiz.asking
    quiz.close()


def test_a_cancelled_question_can_be_asked_again(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page._quiz()
    (quiz,) = page.findChildren(Quiz)
    quiz._task.cancel()
    qtbot.waitUntil(lambda: quiz.next.isEnabled() or quiz.asking, timeout=TIMEOUT)
    if not quiz.asking:
        assert quiz.explanation.text() == "Cancelled."
        quiz.next.click()
        qtbot.waitUntil(lambda: quiz.asking, timeout=TIMEOUT)
    quiz.close()


def test_closing_while_an_attack_is_made_drops_it(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page._quiz()
    page.findChildren(Quiz)[0].close()
    qtbot.waitUntil(lambda: not page.engine.busy, timeout=TIMEOUT)
