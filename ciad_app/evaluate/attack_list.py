"""The attacks of an evaluation as a list of ticks, each with its settings folded under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from ciad_app.widgets.attack_form import GIVEN, TARGET, TARGET_CLASS, attack_form
from ciad_app.worker import AttackInfo
from ciad_engine.attacks.parameters import Parameter
from ciad_engine.evaluation.plan import PRESETS

_FIRST = frozenset(name for name, _ in PRESETS["paper"])  # what is ticked before anybody chose


def describe(parameters: Sequence[Parameter], values: Mapping[str, Any], classes: Sequence[str] = ()) -> str:
    """What differs from the defaults in one line ("eps 4 /255"); empty where nothing does."""

    def worth_saying(p: Parameter) -> bool:
        if p.name == TARGET_CLASS and TARGET in values:
            return bool(values[TARGET] == GIVEN)  # then even the default is a choice
        return bool(values.get(p.name, p.default) != p.default)

    def text(p: Parameter) -> str:
        value = values[p.name]
        if p.name == TARGET_CLASS and 0 <= value < len(classes):
            return str(classes[value])
        return f"{value:g}" if isinstance(value, float) else str(value)

    changed = [f"{p.title.lower()} {text(p)}{' ' + p.unit if p.unit else ''}" for p in parameters if worth_saying(p)]
    return ", ".join(changed)


class _AttackRow(QWidget):
    """One attack: tick, a button that unfolds its settings, and a line that says those that are not the defaults."""

    def __init__(self, info: AttackInfo, classes: Sequence[str]) -> None:
        super().__init__()
        self.info, self._classes = info, classes
        self.tick = QCheckBox(info.title.replace("&", "&&"))  # a single one would underline a letter
        self.tick.setToolTip(f"{info.help}\nSource: {info.source}")
        self.form = attack_form(info, classes)
        self.form.setVisible(False)
        self.fold = QToolButton(self)  # with a parent, or `setVisible` would open a window of its own
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setArrowType(Qt.ArrowType.RightArrow)
        self.fold.setToolTip(f"Show the settings of {info.title}")
        self.fold.setAccessibleName(f"Settings of {info.title}")
        self.fold.setVisible(bool(info.parameters))
        self.summary = QLabel(self)
        self.summary.setWordWrap(True)
        self.summary.setForegroundRole(QPalette.ColorRole.PlaceholderText)  # quieter than what can be set
        self.fold.toggled.connect(self._unfold)
        self.form.changed.connect(self._describe)
        self._describe()

        head = QHBoxLayout()
        head.addWidget(self.tick, 1)
        head.addWidget(self.fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(head)
        layout.addWidget(self.summary)
        layout.addWidget(self.form)
        for inner in (self.summary, self.form):
            inner.setContentsMargins(22, 0, 4, 2)

    def _unfold(self, open_: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow)
        self.form.setVisible(open_)
        self._describe()

    def _describe(self) -> None:
        self.summary.setText(describe(self.info.parameters, self.form.values(), self._classes))
        self.summary.setVisible(bool(self.summary.text()) and not self.fold.isChecked())


class AttackList(QWidget):
    """Which attacks are chosen, and with which settings. `changed` after every change."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[str, _AttackRow] = {}
        self._order: tuple[str, ...] = ()  # of the attacks chosen last by `choose`; it belongs to a plan
        self._waiting = QLabel("The attacks are listed as soon as the models are loaded.")
        self._waiting.setWordWrap(True)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self._waiting)

    def set_attacks(self, infos: Sequence[AttackInfo], classes: Sequence[str]) -> None:
        """Show these attacks; ticks and values of those shown before are kept."""
        before = self.chosen() if self._rows else None
        for row in self._rows.values():
            row.setParent(None)
            row.deleteLater()
        self._rows = {}
        self._waiting.setVisible(not infos)
        for info in infos:
            row = _AttackRow(info, classes)
            row.tick.setChecked(info.name in _FIRST)
            row.tick.toggled.connect(lambda _: self.changed.emit())
            row.form.changed.connect(self.changed)
            self._rows[info.name] = row
            self._layout.addWidget(row)
        if before is not None:
            self.choose(before)

    def row(self, name: str) -> _AttackRow:
        """The widgets of one attack."""
        return self._rows[name]

    def title(self, name: str) -> str:
        """The attack's name for people; its registry name where it is not known."""
        return self._rows[name].info.title if name in self._rows else name

    def choose(self, choices: Mapping[str, Mapping[str, Any]]) -> None:
        """Tick exactly the attacks in `choices` (name -> values); values not given go to their defaults.

        They are computed in that order, others that are ticked later after them.
        """
        self._order = tuple(choices)
        for name, row in self._rows.items():
            row.tick.setChecked(name in choices)
            if name in choices:
                row.form.reset()
                row.form.set_values(choices[name])
        self.changed.emit()

    def chosen(self) -> dict[str, dict[str, Any]]:
        """The ticked attacks in the order they are computed, name -> values."""
        names = [*(name for name in self._order if name in self._rows), *self._rows]
        return {name: self._rows[name].form.values() for name in names if self._rows[name].tick.isChecked()}
