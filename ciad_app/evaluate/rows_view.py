"""The rows of a run under a filter; a double click or Enter opens one."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QModelIndex, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ciad_app.evaluate.model import (
    COL_ATTACK,
    COL_COST,
    COL_DECISION,
    COL_IMAGE,
    COL_L2,
    COL_LABEL,
    COL_LINF,
    COL_PIXELS,
    COL_POSITION,
    COL_RECOVERS,
    COL_RESULT,
    COL_SCORE,
    COL_SECONDS,
    COL_Y1,
    COL_Y2,
    Filter,
    RowsModel,
)
from ciad_engine import detectors

# What columns are made wide enough for: rows that come later must not need more.
_WIDEST = {
    COL_POSITION: "10,000",
    COL_ATTACK: "Universal, eps = 10",
    COL_RESULT: "– no adversarial image found",
    COL_DECISION: "▲ adversarial – false alarm mm",  # shown in bold
    COL_RECOVERS: "✓ yes mm",
    COL_SCORE: "10.00 mm",
    COL_L2: "10.000",
    COL_LINF: "255 mm",
    COL_PIXELS: "1,024 mm",
    COL_COST: "100,000",
    COL_SECONDS: "100.000",
}
_PADDING = 12  # pixels beside a cell's text
_SAMPLED_ROWS = 200  # the width for image names comes from these
_MAX_NAME, _MAX_CLASS = 260, 160  # pixels


class _Table(QTableView):
    entered_row = Signal(int)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.entered_row.emit(self.currentIndex().row())
            event.accept()
        else:
            super().keyPressEvent(event)


class RowsView(QWidget):
    """Table of all rows with a choice of which are shown.

    Signal `opened(Row)`: a row was double-clicked, or Enter was pressed on it.
    """

    opened = Signal(object)

    def __init__(self, model: RowsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = model
        self._fitted = False
        self.filter = QComboBox()
        self.filter.setAccessibleName("Which rows are shown")
        for choice in Filter:
            self.filter.addItem(choice.value, choice)
        label = QLabel("Sho&w")
        label.setBuddy(self.filter)
        self.detector = QComboBox()
        self.detector.setAccessibleName("Detector")
        self.detector.setToolTip("Whose class, score and decision the rows show")
        self.detector.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        by = QLabel("&Detector")
        by.setBuddy(self.detector)
        self.count = QLabel()
        hint = QLabel("Double-click or Enter: see the images on Inspect")
        hint.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        hint.setIndent(12)
        hint.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)  # may be cut, never in the way
        self.table = _Table()
        self.table.setAccessibleName("Rows of the evaluation")
        self.table.setModel(model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # what tells names apart is often their end
        self.table.setTabKeyNavigation(False)
        self.table.verticalHeader().setVisible(False)
        self.table.verticalHeader().setDefaultSectionSize(self.table.fontMetrics().height() + 8)
        header = self.table.horizontalHeader()
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)  # as they come
        header.setSortIndicatorClearable(True)
        header.setHighlightSections(False)
        self.table.setSortingEnabled(True)

        top = QHBoxLayout()
        top.addWidget(label)
        top.addWidget(self.filter)
        top.addWidget(by)
        top.addWidget(self.detector)
        top.addWidget(self.count)
        top.addWidget(hint, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.table, 1)

        self.filter.currentIndexChanged.connect(self._filtered)
        self.detector.currentIndexChanged.connect(lambda _: model.choose_detector(self.detector.currentData()))
        self.table.doubleClicked.connect(self._double_clicked)
        self.table.entered_row.connect(lambda line: self.opened.emit(model.row_at(line)))
        model.rowsInserted.connect(self._changed)
        model.modelReset.connect(self._changed)
        self._changed()

    def _filtered(self) -> None:
        self._model.set_filter(self.filter.currentData())

    def _double_clicked(self, index: QModelIndex) -> None:
        self.opened.emit(self._model.row_at(index.row()))

    def _list_detectors(self) -> None:
        """Offer the detectors of the rows; the one whose columns are shown is the current one."""
        if [self.detector.itemData(k) for k in range(self.detector.count())] != list(self._model.detectors):
            self.detector.blockSignals(True)
            self.detector.clear()
            for name in self._model.detectors:
                self.detector.addItem(detectors.title(name), name)
            self.detector.setCurrentIndex(self.detector.findData(self._model.detector))
            self.detector.blockSignals(False)

    def _changed(self) -> None:
        self._list_detectors()
        shown, all_ = self._model.rowCount(), len(self._model.rows)
        self.count.setText(f"{shown:,} of {all_:,} rows" if shown != all_ else f"{all_:,} rows")
        if shown and not self._fitted:
            self._fitted = True  # once: a person may have changed them since
            self._fit_columns()

    def _fit_columns(self) -> None:
        metrics = self.table.fontMetrics()
        for column, text in _WIDEST.items():
            self.table.setColumnWidth(column, metrics.horizontalAdvance(text) + _PADDING)
        longest = max((metrics.horizontalAdvance(name) for name in self._model.classes), default=0)
        probability = metrics.horizontalAdvance(" >99%")
        for column, more in ((COL_LABEL, 0), (COL_Y1, probability), (COL_Y2, probability)):
            self.table.setColumnWidth(column, min(longest, _MAX_CLASS) + more + _PADDING)
        names = [row.name for row in self._model.rows[:_SAMPLED_ROWS]]
        widest = max((metrics.horizontalAdvance(name) for name in names), default=0)
        self.table.setColumnWidth(COL_IMAGE, min(widest, _MAX_NAME) + _PADDING)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.table.verticalHeader().setDefaultSectionSize(self.table.fontMetrics().height() + 8)
            self._fit_columns()
