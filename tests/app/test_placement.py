"""A window's place on screens that may be others than when it was closed."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QRect

from ciad_app.placement import placed

LEFT, RIGHT = QRect(0, 0, 1366, 740), QRect(1366, 0, 1920, 1040)


@pytest.mark.parametrize(
    ("wanted", "screens", "expected"),
    [
        (QRect(100, 50, 1180, 600), [LEFT, RIGHT], QRect(100, 50, 1180, 600)),
        (QRect(1500, 100, 1180, 760), [LEFT, RIGHT], QRect(1500, 100, 1180, 760)),
        (
            QRect(1500, 100, 1180, 760),
            [LEFT],
            QRect(93, 0, 1180, 740),
        ),  # its screen is gone
        (QRect(0, 0, 1180, 900), [LEFT], QRect(0, 0, 1180, 740)),  # higher than the screen
        (QRect(-200, -30, 1180, 700), [LEFT], QRect(0, 0, 1180, 700)),
        (QRect(400, 300, 1180, 700), [LEFT], QRect(186, 40, 1180, 700)),
        (QRect(1300, 0, 1180, 700), [LEFT, RIGHT], QRect(1366, 0, 1180, 700)),  # its middle is on the right screen
    ],
)
def test_all_of_the_window_is_on_one_screen(wanted, screens, expected):
    assert placed(wanted, screens) == expected
