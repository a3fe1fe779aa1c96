"""Durations in words, and the remaining time of work at an even pace."""

from __future__ import annotations

import pytest

from ciad_app.durations import Pace, duration


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "1 s"), (89, "89 s"), (90, "2 min"), (5399, "1 h 30 min"), (4800, "80 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_remaining_time_is_known_after_two_seconds():
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.left(10, 110, "Counting") == ""
    now[0] += 1
    assert pace.left(50, 110, "Counting") == ""
    now[0] += 9
    assert pace.left(10, 110, "Counting") == ""
    assert pace.left(35, 110, "Counting") == ""  # it went back, so it was begun anew
    now[0] += 5
    assert pace.left(60, 110, "Counting") == "about 5 s left"
    assert pace.left(110, 110, "Counting") == ""
    now[0] += 1200
    assert pace.left(60, 110, "Other work") == ""
    now[0] += 600
    assert pace.left(70, 110, "Other work") == "about 40 min left"
