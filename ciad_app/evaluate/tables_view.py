"""The tables of a run, live: one line per measure, one column per attack, as in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHeaderView,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from ciad_app.copying import to_clipboard
from ciad_app.widgets.build import FollowsFont, in_column, in_row, label
from ciad_engine.evaluation.table import Cell, Table, render_html, render_text

_EMPTY = "Tables appear here as soon as the first images are done."
_MARGIN = 8  # pixels beside a cell's text
_INDENT = 4 * "\N{NO-BREAK SPACE}"  # of a detector below a measure


class TableCard(FollowsFont, QWidget):
    """One table with its title and the notes that are its own; as tall as its lines."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = label(wrap=True)
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.grid = QTableWidget()
        self.grid.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.grid.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.grid.verticalHeader().setVisible(False)
        self.grid.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.grid.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        self.grid.setAlternatingRowColors(True)
        self.grid.setShowGrid(False)
        self.grid.setWordWrap(False)
        self._first_width = 0
        self.notes = label(wrap=True, selectable=True)
        in_column(self.title, self.grid, self.notes, None, parent=self, margins=(0, 0, 0, 6), spacing=4)

    def show_table(self, table: Table, notes: Sequence[str]) -> None:
        """Show a table; cells that exist are reused, so nothing flickers while a run fills it.

        `set_first_width` then fits it.
        """
        self.title.setText(table.title)
        self.notes.setText("\n".join(notes))
        self.notes.setVisible(bool(notes))
        self.grid.setAccessibleName(table.title)
        attacks, lines = _lines(table)
        self.grid.setRowCount(len(lines))
        self.grid.setColumnCount(1 + len(attacks))
        self.grid.clearSpans()
        self.grid.setHorizontalHeaderLabels(["", *attacks])
        for line, (heading, tip, cells) in enumerate(lines):
            self._put(line, 0, heading, tip, bold=not cells)
            if not cells and attacks:
                self.grid.setSpan(line, 0, 1, 1 + len(attacks))
            for column, attack in enumerate(attacks, 1):
                text = cells[column - 1].text_with_count() if cells else ""
                self._put(line, column, text, f"{attack}: {tip}" if cells else tip)

    def _put(self, line: int, column: int, text: str, tip: str, bold: bool = False) -> None:
        item = self.grid.item(line, column)
        if item is None:
            item = QTableWidgetItem()
            self.grid.setItem(line, column, item)
        item.setText(text)
        item.setToolTip(tip)
        font = item.font()
        font.setBold(bold)
        item.setFont(font)

    def fit_font(self) -> None:
        """Fit columns and height to the texts, the font and the width."""
        if not self.grid.rowCount():
            return
        metrics = self.grid.fontMetrics()
        height = metrics.height() + 6
        for line in range(self.grid.rowCount()):
            self.grid.setRowHeight(line, height)
        columns = self.grid.columnCount()
        wanted = [self.text_width(column) for column in range(columns)]
        # Attacks share the width evenly, so that their columns stand below each other in all tables. Where it
        # does not suffice the measures' names, whole in their tool tips, give way before a scroll bar appears.
        space, first, each = self.grid.viewport().width(), max(wanted[0], self._first_width), 0
        if columns > 1:
            each = max(wanted[1:])
            first = min(first, max(space - each * (columns - 1), first * 3 // 5))
            each = max(each, (space - first) // (columns - 1))
        for column in range(columns):
            self.grid.setColumnWidth(column, each if column else first)
        too_wide = first + each * (columns - 1) > space > 0
        frame = 2 * self.grid.frameWidth()
        header = self.grid.horizontalHeader().sizeHint().height()
        bar = self.grid.horizontalScrollBar().sizeHint().height() if too_wide else 0
        self.grid.setFixedHeight(header + height * self.grid.rowCount() + frame + bar)

    def text_width(self, column: int) -> int:
        metrics = self.grid.fontMetrics()
        lines = (line for line in range(self.grid.rowCount()) if self.grid.columnSpan(line, 0) == 1)
        items = [self.grid.item(line, column) for line in lines]
        head = self.grid.horizontalHeaderItem(column)
        texts = [item.text() for item in (*items, head) if item is not None]
        return max((metrics.horizontalAdvance(text) for text in texts), default=0) + 2 * _MARGIN

    def wanted_width(self) -> int:
        """How wide it has to be for all of its texts."""
        widths = [self.text_width(column) for column in range(self.grid.columnCount())]
        return max(widths[0], self._first_width) + max(widths[1:], default=0) * (len(widths) - 1)

    def set_first_width(self, width: int) -> None:
        """Make the column of the measures at least this wide."""
        self._first_width = width
        self.fit_font()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_font()


def _lines(table: Table) -> tuple[list[str], list[tuple[str, str, list[Cell]]]]:
    """The attacks, and for each line its heading, its tool tip and its cells.

    If several detectors have a measure, it has a line without cells, and each detector one of its own below it.
    """
    attacks, measures = table.turned()
    lines: list[tuple[str, str, list[Cell]]] = []
    for k, (column, heading, cells) in enumerate(measures):
        detector = heading.removeprefix(f"{column.heading}: ")
        if detector == heading:
            lines.append((heading, column.title, cells))
            continue
        if k == 0 or measures[k - 1][0] is not column:
            lines.append((column.heading, column.title, []))
        lines.append((f"{_INDENT}{detector}", f"{detector}: {column.title}", cells))
    return attacks, lines


class TablesView(QScrollArea):
    """All tables of a run below each other, in a wide window side by side; notes they share come last."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tables: tuple[Table, ...] = ()
        self.cards: list[TableCard] = []
        self._wide = False
        self._beside: TableCard | None = None
        body = QWidget()
        self.empty = QLabel(_EMPTY, body)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.common = label(wrap=True, selectable=True)
        self.common.setParent(body)
        self.common.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.common.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._left, self._right = in_column(None, spacing=6), in_column(None, spacing=6)
        self._columns = in_row((self._left, 1), self._right, spacing=16)
        in_column((self.empty, 1), self._columns, (self.common, 1), parent=body, margins=4)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self._place()

    def show_tables(self, tables: Sequence[Table]) -> None:
        """Show these tables; none clears the view."""
        self.tables = tuple(tables)
        if other := len(self.cards) != len(tables):
            for card in self.cards[len(tables) :]:
                card.setParent(None)
                card.deleteLater()
            missing = len(tables) - len(self.cards)
            self.cards = [*self.cards[: len(tables)], *(TableCard(self.widget()) for _ in range(missing))]
        shared = [note for note in tables[0].notes if all(note in table.notes for table in tables)] if tables else []
        for card, table in zip(self.cards, tables, strict=True):
            card.show_table(table, [note for note in table.notes if note not in shared])
        widest = max((card.text_width(0) for card in self.cards), default=0)
        for card in self.cards:
            card.set_first_width(widest)
        self.common.setText("\n".join(shared))
        wide = self._has_room_for_two()
        if other or wide != self._wide or self._longest() is not self._beside:
            self._wide = wide
            self._place()

    def clear(self, computing: bool) -> None:
        """No tables; `computing` says that they are on their way, which of many rows takes some seconds."""
        self.empty.setText("The tables are being computed …" if computing else _EMPTY)
        self.show_tables(())

    def copy(self) -> None:
        """Put all tables into the clipboard: as text, and as HTML for word processors and spreadsheets."""
        text = "\n\n".join(render_text(table) for table in self.tables)
        to_clipboard(text, "".join(render_html(table) for table in self.tables))

    def _place(self) -> None:
        self.empty.setVisible(not self.cards)
        self.common.setVisible(bool(self.cards))
        # In a wide window the longest, which compares the detectors, stands beside all others.
        self._beside = self._longest()
        right = [self._beside] if self._wide and self._beside is not None else []
        for column, cards in ((self._left, [card for card in self.cards if card not in right]), (self._right, right)):
            for card in self.cards:
                if card not in cards:
                    column.removeWidget(card)
            for place, card in enumerate(cards):
                if column.indexOf(card) != place:
                    card.setVisible(place == 0)
                    column.insertWidget(place, card)
                    QTimer.singleShot(20 * place, card, card.show)  # one after another: each takes the window a while
        self._columns.setStretch(1, int(self._wide))

    def _longest(self) -> TableCard | None:
        return max(self.cards, key=lambda card: card.grid.rowCount(), default=None)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        wide = self._has_room_for_two()
        if wide != self._wide:
            self._wide = wide
            self._place()

    def _has_room_for_two(self) -> bool:
        """Whether all tables can be read whole if two stand side by side."""
        wanted = max((card.wanted_width() for card in self.cards), default=0)
        return len(self.cards) > 1 and self.viewport().width() >= 2 * (wanted + 2 * _MARGIN)
