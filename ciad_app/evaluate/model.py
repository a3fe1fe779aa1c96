"""The rows of an evaluation as a Qt model that sorts and filters itself.

A QSortFilterProxyModel would compare rows through Python, some 450,000 calls for 30,000 rows: seconds in
which the window stands still. A list sorted by key takes some 30 ms.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QFont

from ciad_engine import detectors
from ciad_engine.counting import percent
from ciad_engine.detectors.threshold import RATES
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.records import Thresholds, correct
from ciad_engine.runs import BENIGN, Row, Score

Index = QModelIndex | QPersistentModelIndex

# Signs beside the words: neither colour nor the sign alone carries the meaning.
_ALARM, _QUIET = "▲", "○"


class Filter(enum.Enum):
    """Which rows are shown; the value is the text of the choice."""

    ALL = "All rows"
    SUCCESSFUL = "Successful attacks"
    MISSED = "Missed: f1 fooled, not flagged"
    FALSE_ALARM = "False alarms: benign, flagged"
    FAILED = "Failed attacks"
    BENIGN = "Benign images"


def passes(row: Row, chosen: Filter, flagged: bool | None) -> bool:
    """Whether a row belongs to the choice; `flagged`: by the chosen detector, None if that is not known."""
    if chosen is Filter.SUCCESSFUL:
        return row.success
    if chosen is Filter.MISSED:
        return _fools_f1(row) and flagged is False
    if chosen is Filter.FALSE_ALARM:
        return row.attack == BENIGN and flagged is True
    if chosen is Filter.FAILED:
        return row.attack != BENIGN and not row.success
    return chosen is Filter.ALL or row.attack == BENIGN


def _fools_f1(row: Row) -> bool:
    """Return whether f1 is fooled; in the transferred setting an attack may fool the attacked network alone."""
    return row.fooled and not correct(row)


def is_wrong(row: Row, flagged: bool | None) -> bool:
    """Whether the detector's decision is known to be wrong: a false alarm or a missed adversarial image."""
    return passes(row, Filter.MISSED, flagged) or passes(row, Filter.FALSE_ALARM, flagged)


def decision(row: Row, flagged: bool | None) -> str:
    """The detector's decision as sign and words, and whether it is right."""
    if flagged is None:
        return ""
    said = f"{_ALARM} adversarial" if flagged else f"{_QUIET} benign"
    if row.attack == BENIGN:
        return f"{said} – {'false alarm' if flagged else 'right'}"
    if _fools_f1(row):
        return f"{said} – {'caught' if flagged else 'missed'}"
    return said  # f1 is still right, or the image is the benign one: its own row says whether that was right


def attack_result(row: Row) -> str:
    """What the attack achieved, in words."""
    if row.attack == BENIGN:
        return ""
    if row.success:
        return "✓ fooled" if row.evaded is None else "✓ fooled, not flagged"
    return f"– fooled, but {row.reason}" if row.fooled else f"– {row.reason}"


@dataclasses.dataclass(frozen=True)
class Column:
    title: str
    tip: str
    text: Callable[[RowsModel, Row], str]
    number: Callable[[RowsModel, Row], float] | None = None  # of numbers: what it is sorted by
    widest: str = ""  # a text it is made wide enough for: rows that come later must not need more


def _attacked(text: Callable[[Row], str]) -> Callable[[RowsModel, Row], str]:
    """A text that only rows of attacks have."""
    return lambda _, row: text(row) if row.attack != BENIGN else ""


def _scored(text: Callable[[RowsModel, Row, Score], str]) -> Callable[[RowsModel, Row], str]:
    """A text that only rows have that the chosen detector scored."""
    return lambda model, row: text(model, row, row.scores[model.detector]) if model.detector in row.scores else ""


COL_POSITION, COL_IMAGE, COL_LABEL, COL_ATTACK, COL_Y1, COL_Y2, COL_DECISION, COL_RESULT = range(8)
COL_RECOVERS, COL_SCORE, COL_L2, COL_LINF, COL_SSIM, COL_PIXELS, COL_COST, COL_SECONDS = range(8, 16)

COLUMNS = (
    Column("#", "Place in the run's order", lambda m, r: f"{r.position + 1:,}", lambda m, r: r.position, "10,000"),
    Column("Image", "What the data set calls the image", lambda m, r: r.name),
    Column("Label", "True class", lambda m, r: m.class_name(r.label)),
    Column(
        "Attack", "The attack that made this row's image; benign: the image as it is",
        lambda m, r: m.attack_title(r.attack), widest="Universal, eps = 10",
    ),
    Column(
        "Classifier f1", "Class by the classifier, and its probability",
        lambda m, r: f"{m.class_name(r.y1)} {percent(r.p1_y1)}",
    ),
    Column(
        "", "Class by the detector chosen above, and its probability",  # its title is the detector's
        _scored(lambda m, r, s: "" if s.label is None else f"{m.class_name(s.label)}{_percent(s.probability)}"),
    ),
    Column(
        "Decision", "By the detector's usual rule: adversarial if its class is not f1's; and whether that is right",
        lambda m, r: decision(r, m.flagged(r)), widest="▲ adversarial – false alarm mm",  # shown in bold
    ),
    Column(
        "Attack's result", "Whether the attack fooled the attacked network, or why not", lambda m, r: attack_result(r),
        widest="– no adversarial image found",
    ),
    Column(
        "Restores", "Whether the detector's class is the true class",
        _scored(lambda m, r, s: "" if s.label is None else "✓ yes" if s.label == r.label else "– no"),
        widest="✓ yes mm",
    ),
    Column(
        "Score", "Graded score: -log of the detector's probability of f1's class; higher is more adversarial",
        _scored(lambda m, r, s: f"{s.value:.2f}"), lambda m, r: m.score(r), "10.00 mm",
    ),
    Column(
        "L2", "Euclidean distance to the benign image, images in [0, 1]",
        _attacked(lambda r: f"{r.l2:.3f}"), lambda m, r: r.l2, "10.000",
    ),
    Column(
        "L∞", "Largest change of a value, in units of 1/255",
        _attacked(lambda r: str(r.linf)), lambda m, r: r.linf, "255 mm",
    ),
    Column(
        "SSIM", "Structural similarity to the benign image; 1 is equal",
        _attacked(lambda r: "" if r.ssim is None else f"{r.ssim:.3f}"), lambda m, r: 2.0 if r.ssim is None else r.ssim,
    ),
    Column(
        "Pixels", "Changed pixels", _attacked(lambda r: f"{r.l0_pixels:,}"), lambda m, r: r.l0_pixels, "1,024 mm"
    ),
    Column(
        "Passes", "Forward and backward passes of the network spent on this image",
        _attacked(lambda r: f"{r.forwards + r.backwards:,}"), lambda m, r: r.forwards + r.backwards, "100,000",
    ),
    Column(
        "Seconds", "Wall time of the batch, attack and detectors together, divided by its images",
        lambda m, r: f"{r.seconds:.3f}", lambda m, r: r.seconds, "100.000",
    ),
)  # fmt: skip


class RowsModel(QAbstractTableModel):
    """All rows of one run; shows those that pass the filter, in the order of the sorted column.

    Rows are only ever added, or replaced as a whole.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []
        self._shown: list[int] = []  # indices into `_rows`, in the order shown
        self._known: set[tuple[str, int]] = set()
        self._filter = Filter.ALL
        self._column, self._order = -1, Qt.SortOrder.AscendingOrder  # -1: as they came
        self.classes: tuple[str, ...] = ()  # in label order
        self._thresholds: Mapping[str, Thresholds] = {}
        self.detectors: tuple[str, ...] = ()  # those that scored the rows, in the order they are shown
        self.detector = detectors.MASK  # the one whose columns are shown

    @property
    def rows(self) -> Sequence[Row]:
        """All rows in the order they came, shown or not; their images are left in the database."""
        return self._rows

    def row_at(self, line: int) -> Row:
        return self._rows[self._shown[line]]

    def choose_detector(self, name: str) -> None:
        if name != self.detector:
            self.detector = name
            self._refilter()
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, COL_Y2, COL_Y2)

    def flagged(self, row: Row) -> bool | None:
        """Whether the chosen detector flags the row's image, by its usual rule; None if that is not known."""
        score = row.scores.get(self.detector)
        if score is None:
            return None
        if score.label is not None:
            return score.label != row.y1
        threshold = self._thresholds.get(self.detector, {}).get(RATES[0])
        return None if threshold is None else score.value > threshold.value

    def score(self, row: Row) -> float:
        """The chosen detector's score of the row's image; -1, below all others, without one."""
        return row.scores[self.detector].value if self.detector in row.scores else -1.0

    def class_name(self, label: int) -> str:
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def attack_title(self, label: str) -> str:
        return "benign" if label == BENIGN else planning.title(label, self.classes)

    def set_rows(
        self, rows: Sequence[Row], classes: Sequence[str] = (), thresholds: Mapping[str, Thresholds] | None = None
    ) -> None:
        """Hold these rows and no others; `thresholds` decide for detectors without a class of their own."""
        self.beginResetModel()
        self.classes, self._thresholds, self._known = tuple(classes), thresholds or {}, set()
        self._rows = self._new(rows)
        self._shown = self._arranged(range(len(self._rows)))
        self.endResetModel()

    def append(self, rows: Sequence[Row]) -> None:
        """Add a batch; rows already held are passed over."""
        fresh = self._new(rows)
        start = len(self._rows)
        self._rows.extend(fresh)
        added = [start + i for i, row in enumerate(fresh) if self._passes(row)]
        if added:
            line = len(self._shown)
            self.beginInsertRows(QModelIndex(), line, line + len(added) - 1)
            self._shown.extend(added)
            self.endInsertRows()
            if self._column >= 0:
                self._rearrange()

    def set_filter(self, chosen: Filter) -> None:
        if chosen is not self._filter:
            self._filter = chosen
            self._refilter()

    def _refilter(self) -> None:
        self.beginResetModel()
        self._shown = self._arranged(range(len(self._rows)))
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, numbers as numbers; -1 brings the order in which they were computed."""
        self._column, self._order = column, order
        self._rearrange()

    def sort_value(self, row: Row, column: int) -> float | str:
        number = COLUMNS[column].number
        return COLUMNS[column].text(self, row).casefold() if number is None else number(self, row)

    def _passes(self, row: Row) -> bool:
        return self._filter is Filter.ALL or passes(row, self._filter, self.flagged(row))

    def _new(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that are not held yet, without their images. The first ever tells the detectors."""
        if rows and not self._known:
            self.detectors = tuple(detectors.in_order(rows[0].scores))
            if self.detector not in self.detectors and self.detectors:
                self.detector = self.detectors[0]
        fresh = []
        for row in rows:
            if (row.attack, row.position) not in self._known:
                self._known.add((row.attack, row.position))
                # 30,000 images would hold 90 MB here; the database hands one out when it is opened.
                fresh.append(row if row.image is None else dataclasses.replace(row, image=None))
        return fresh

    def _arranged(self, indices: Sequence[int]) -> list[int]:
        chosen = sorted(i for i in indices if self._passes(self._rows[i]))
        if self._column >= 0:
            down = self._order == Qt.SortOrder.DescendingOrder
            chosen.sort(key=lambda i: self.sort_value(self._rows[i], self._column), reverse=down)
        return chosen

    def _rearrange(self) -> None:
        """Sort what is shown; selection and current row stay on their rows."""
        self.layoutAboutToBeChanged.emit()
        kept = [(index, self._shown[index.row()]) for index in self.persistentIndexList()]
        self._shown = self._arranged(self._shown)
        if kept:
            lines = {row: line for line, row in enumerate(self._shown)}
            self.changePersistentIndexList(
                [index for index, _ in kept], [self.index(lines[row], index.column()) for index, row in kept]
            )
        self.layoutChanged.emit()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self._shown)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(COLUMNS):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return detectors.title(self.detector) if section == COL_Y2 else COLUMNS[section].title
        if role == Qt.ItemDataRole.ToolTipRole:
            return COLUMNS[section].tip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= len(self._shown):
            return None
        row, column = self.row_at(index.row()), index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return COLUMNS[column].text(self, row)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        if role == Qt.ItemDataRole.FontRole and column == COL_DECISION and is_wrong(row, self.flagged(row)):
            font = QFont()
            font.setBold(True)
            return font
        return None


def _percent(probability: float | None) -> str:
    """A probability after a class; nothing if an old run did not store it."""
    return "" if probability is None else f" {percent(probability)}"


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignLeft if COLUMNS[column].number is None else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter
