"""What Ctrl+C copies."""

from __future__ import annotations

from PySide6.QtWidgets import QApplication, QTableWidget, QTableWidgetItem

from ciad_app import copying
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from tests.app.steps import actions


def test_copy_takes_the_selected_text_or_what_the_page_shows(window, monkeypatch, qtbot):
    clipboard, copy = QApplication.clipboard(), actions(window)["Copy"]
    pictures, tables = [], []
    monkeypatch.setattr(window.page(InspectPage), "copy", lambda: pictures.append(1))
    focus = {"widget": None}
    monkeypatch.setattr(QApplication, "focusWidget", lambda *_: focus["widget"])
    copy.trigger()
    assert pictures == [1]
    inspect, evaluate = window.page(InspectPage), window.page(EvaluatePage)
    focus["widget"] = inspect.verdict.sentence
    inspect.verdict.sentence.setText("The verdict")
    inspect.verdict.sentence.setSelection(4, 7)
    copy.trigger()
    assert clipboard.text() == "verdict"
    window.show_page(EvaluatePage)
    monkeypatch.setattr(evaluate.results.tables, "copy", lambda: tables.append(1))
    focus["widget"] = evaluate.panel.start
    copy.trigger()
    assert "no tables" in evaluate.results.state.text()
    evaluate.results.tables.tables = ("a table",)
    copy.trigger()
    assert tables == [1]
    assert pictures == [1]
    assert window.pages.currentIndex() == 1


def test_selected_cells_are_copied_with_tabs(qtbot):
    table = QTableWidget(2, 2)
    qtbot.addWidget(table)
    for i in range(4):
        table.setItem(i // 2, i % 2, QTableWidgetItem(str(i)))
    assert copying.selected_text(table) == ""
    table.selectAll()
    assert copying.selected_text(table) == "0\t1\n2\t3"
