from __future__ import annotations

from ciad_app.widgets.elided_label import ElidedLabel


def test_a_long_text_asks_for_no_more_room_than_was_agreed_and_is_cut(qtbot):
    label = ElidedLabel(most=20)
    qtbot.addWidget(label)
    label.setText("short")
    short = label.sizeHint().width()
    label.setText("a very long text, such as the name of an image that somebody gave it " * 3)
    assert short < label.sizeHint().width() <= 20 * label.fontMetrics().averageCharWidth()
    assert label.minimumSizeHint().width() == 0
    label.resize(120, 20)
    assert label.shown().endswith("…")
    assert label.fontMetrics().horizontalAdvance(label.shown()) <= 120
    assert not label.grab().isNull()
    assert label.text().startswith("a very long text")
