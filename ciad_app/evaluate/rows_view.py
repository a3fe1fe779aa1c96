"""The rows of a run under a filter; a double click or Enter opens one."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QLabel, QSizePolicy, QTableView, QWidget

from ciad_app.evaluate.model import COL_IMAGE, COL_LABEL, COL_Y1, COL_Y2, COLUMNS, Filter, RowsModel
from ciad_app.widgets.build import FollowsFont, choice, in_column, in_row, label, label_of, refill
from ciad_engine import detectors
from ciad_engine.counting import counted

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


class RowsView(FollowsFont, QWidget):
    """Table of all rows with a choice of which are shown."""

    opened = Signal(object)  # Row: it was double-clicked, or Enter was pressed on it

    def __init__(self, model: RowsModel) -> None:
        super().__init__()
        self._model = model
        self._fitted = False
        self.filter = choice("Which rows are shown")
        refill(self.filter, {one: one.value for one in Filter})
        self.detector = choice("Detector", "Whose class, score and decision the rows show")
        self.detector.setSizeAdjustPolicy(self.detector.SizeAdjustPolicy.AdjustToContents)
        self.count = QLabel()
        hint = label("Double-click or Enter: see the images on Inspect", quiet=True)
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
        self._fit_rows()
        header = self.table.horizontalHeader()
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)  # as they come
        header.setSortIndicatorClearable(True)
        header.setHighlightSections(False)
        self.table.setSortingEnabled(True)
        shown, by = label_of(self.filter, "Sho&w"), label_of(self.detector, "&Detector")
        top = in_row(shown, self.filter, by, self.detector, self.count, (hint, 1))
        in_column(top, (self.table, 1), parent=self, margins=(0, 4, 0, 0))

        self.filter.currentIndexChanged.connect(lambda _: model.set_filter(self.filter.currentData()))
        self.detector.currentIndexChanged.connect(lambda _: model.choose_detector(self.detector.currentData()))
        self.table.doubleClicked.connect(lambda index: self.opened.emit(model.row_at(index.row())))
        self.table.entered_row.connect(lambda line: self.opened.emit(model.row_at(line)))
        model.rowsInserted.connect(self._changed)
        model.modelReset.connect(self._changed)
        self._changed()

    def _changed(self) -> None:
        titles = {name: detectors.title(name) for name in self._model.detectors}
        if [self.detector.itemData(k) for k in range(self.detector.count())] != list(titles):
            refill(self.detector, titles, self._model.detector)
        shown, all_ = self._model.rowCount(), len(self._model.rows)
        rows = counted(all_, "row")
        self.count.setText(rows if shown == all_ else f"{shown:,} of {rows}")
        if shown and not self._fitted:
            self._fitted = True  # once: a person may have changed them since
            self._fit_columns()

    def _fit_columns(self) -> None:
        metrics = self.table.fontMetrics()
        for place, each in enumerate(COLUMNS):
            if each.widest:
                self.table.setColumnWidth(place, metrics.horizontalAdvance(each.widest) + _PADDING)
        longest = max((metrics.horizontalAdvance(name) for name in self._model.classes), default=0)
        probability = metrics.horizontalAdvance(" >99%")
        for place, more in ((COL_LABEL, 0), (COL_Y1, probability), (COL_Y2, probability)):
            self.table.setColumnWidth(place, min(longest, _MAX_CLASS) + more + _PADDING)
        names = [row.name for row in self._model.rows[:_SAMPLED_ROWS]]
        widest = max((metrics.horizontalAdvance(name) for name in names), default=0)
        self.table.setColumnWidth(COL_IMAGE, min(widest, _MAX_NAME) + _PADDING)

    def _fit_rows(self) -> None:
        self.table.verticalHeader().setDefaultSectionSize(self.table.fontMetrics().height() + 8)

    def fit_font(self) -> None:
        self._fit_rows()
        self._fit_columns()
