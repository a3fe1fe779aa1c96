"""The attacks of an evaluation as a list of ticks, each with its settings folded under it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QToolButton, QWidget

from ciad_app.widgets.build import in_column, in_row, label
from ciad_app.widgets.parameter_form import attack_form
from ciad_engine import attacks
from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import Parameter, schema
from ciad_engine.attacks.words import GIVEN, ONLY_WITH, TARGET, TARGET_CLASS
from ciad_engine.evaluation import planning

_FIRST = frozenset(name for name, _ in planning.PRESETS["paper"])  # what is ticked before anybody chose


class _AttackRow(QWidget):
    """One attack: tick, a button that unfolds its settings, and a line that says those that are not the defaults.

    The `first` of an attack has a button to add it once more, the others one to remove them.
    """

    def __init__(self, info: type[Attack], classes: Sequence[str], first: bool = True) -> None:
        super().__init__()
        self.info, self.parameters, self._classes = info, schema(info), classes
        self._always: frozenset[str] = frozenset()
        self.tick = QCheckBox(info.title.replace("&", "&&"))  # a single one would underline a letter
        self.tick.setToolTip(f"{info.summary()}\nSource: {info.source}")
        self.form = attack_form(info, classes)
        self.form.setVisible(False)
        self.fold = QToolButton(self)  # with a parent, or `setVisible` would open a window of its own
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setArrowType(Qt.ArrowType.RightArrow)
        self.fold.setToolTip(f"Show the settings of {info.title}")
        self.fold.setAccessibleName(f"Settings of {info.title}")
        self.fold.setVisible(bool(self.parameters))
        self.more, self.less = QToolButton(self), QToolButton(self)
        for button, sign, does, shown in (
            (self.more, "+", f"Add {info.title} once more, with other settings", first),
            (self.less, "−", f"Remove this {info.title}", not first),
        ):
            button.setText(sign)
            button.setAutoRaise(True)
            button.setToolTip(does)
            button.setAccessibleName(does)
            button.setVisible(shown and bool(self.parameters))
        self.summary = label(wrap=True, quiet=True)
        self.summary.setParent(self)
        self.fold.toggled.connect(self._unfold)
        self.form.changed.connect(self._describe)
        self._describe()

        head = in_row((self.tick, 1), self.more, self.less, self.fold)
        in_column(head, self.summary, self.form, parent=self, margins=0, spacing=1)
        for inner in (self.summary, self.form):
            inner.setContentsMargins(22, 0, 4, 2)

    def values(self) -> dict[str, Any]:
        """The settings; those of no effect, because the target is another, are at their defaults, as in a plan."""
        values = self.form.values()
        for name, needed in ONLY_WITH.items():
            if values.get(TARGET) != needed and name in values:
                values[name] = next(p.default for p in self.parameters if p.name == name)
        return values

    def _unfold(self, open_: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow)
        self.form.setVisible(open_)
        self._describe()

    def tell(self, always: Collection[str]) -> None:
        """Say these settings in any case: in them this attack differs from its others."""
        self._always = frozenset(always)
        self._describe()

    def _describe(self) -> None:
        """Say in one line what differs from the defaults ("eps 4 /255"), and what is in `_always`."""
        values = self.form.values()

        def worth_saying(p: Parameter) -> bool:
            if p.name == TARGET_CLASS and TARGET in values and p.name not in self._always:
                return bool(values[TARGET] == GIVEN)  # then even the default is a choice
            return p.name in self._always or bool(values.get(p.name, p.default) != p.default)

        def text(p: Parameter) -> str:
            value = values[p.name]
            if p.name == TARGET_CLASS and 0 <= value < len(self._classes):
                return str(self._classes[value])
            return f"{value:g}" if isinstance(value, float) else str(value)

        said = [p for p in self.parameters if worth_saying(p)]
        self.summary.setText(", ".join(f"{p.title.lower()} {text(p)}{' ' + p.unit if p.unit else ''}" for p in said))
        self.summary.setVisible(bool(self.summary.text()) and not self.fold.isChecked())


class AttackList(QWidget):
    """Which attacks are chosen, and with which settings; one can be there several times, each time with its own."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[_AttackRow] = []  # as they stand, all of one attack together
        self._order: list[_AttackRow] = []  # those chosen last by `choose`; their order belongs to a plan
        self.infos: dict[str, type[Attack]] = {}
        self._classes: Sequence[str] = ()
        self.changed.connect(self._tell_apart)
        self._waiting = label("The attacks are listed as soon as the models are loaded.", wrap=True)
        self._layout = in_column(self._waiting, parent=self, margins=0)

    def set_attacks(self, infos: Sequence[type[Attack]], classes: Sequence[str]) -> None:
        """Show these attacks; ticks and their values are kept, and of an attack without a tick its first values.

        Where a class to aim at is not among `classes`, the attack aims at nothing in particular again.
        """

        def kept(values: Mapping[str, Any]) -> dict[str, Any]:
            gone = values.get(TARGET_CLASS, 0) >= len(classes)
            return {name: value for name, value in values.items() if not gone or name not in (TARGET, TARGET_CLASS)}

        before = [(name, kept(values)) for name, values in self.chosen()] if self._rows else None
        unticked = {row.info.name: kept(row.values()) for row in reversed(self._rows) if not row.tick.isChecked()}
        for row in list(self._rows):
            self._drop(row)
        self.infos, self._classes = {info.name: info for info in infos}, classes
        self._waiting.setVisible(not infos)
        for info in infos:
            self._insert(info, len(self._rows)).tick.setChecked(info.name in _FIRST)
        if before is not None:
            self.choose(before)
            for row in self._rows:
                if not row.tick.isChecked():  # then it is the only one of its attack
                    row.form.set_values(unticked.get(row.info.name, {}))

    def rows(self, name: str) -> list[_AttackRow]:
        """The widgets of one attack, once for each time it is there."""
        return [row for row in self._rows if row.info.name == name]

    def choose(self, choices: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Tick exactly the attacks in `choices` (name, values); values not given go to their defaults.

        They are computed in that order, others that are ticked later after them.
        """
        for name in self.infos:
            wanted = sum(chosen == name for chosen, _ in choices)
            while len(self.rows(name)) < wanted:
                self._insert(self.infos[name], self._rows.index(self.rows(name)[-1]) + 1)
            for row in self.rows(name)[max(1, wanted) :]:
                self._drop(row)
        free = list(self._rows)
        self._order = []
        for name, values in choices:
            for row in [row for row in free if row.info.name == name][:1]:
                free.remove(row)
                row.form.reset()
                row.form.set_values(values)
                self._order.append(row)
        for row in self._rows:
            row.tick.setChecked(row in self._order)
        self.changed.emit()

    def chosen(self) -> list[tuple[str, dict[str, Any]]]:
        """The ticked attacks (name, values) in the order they are computed."""
        rows = [*self._order, *(row for row in self._rows if row not in self._order)]
        return [(row.info.name, row.values()) for row in rows if row.tick.isChecked()]

    def twice(self) -> str:
        """The title of an attack that is chosen twice with the same settings; "" where none is."""
        chosen = self.chosen()
        return next((attacks.title(one[0]) for k, one in enumerate(chosen) if one in chosen[:k]), "")

    def _tell_apart(self) -> None:
        varied = planning.differing((row.info.name, row.values()) for row in self._rows)
        for row in self._rows:
            row.tell({key for name, key in varied if name == row.info.name})

    def _again(self, row: _AttackRow) -> None:
        """Add the attack of `row` once more, with its settings, unfolded: they are to be changed."""
        more = self._insert(row.info, self._rows.index(self.rows(row.info.name)[-1]) + 1)
        more.form.set_values(row.form.values())
        more.tick.setChecked(True)
        more.fold.setChecked(True)
        self.changed.emit()

    def _insert(self, info: type[Attack], place: int) -> _AttackRow:
        row = _AttackRow(info, self._classes, first=not self.rows(info.name))
        row.tick.toggled.connect(lambda _: self.changed.emit())
        row.form.changed.connect(self.changed)
        row.more.clicked.connect(lambda: self._again(row))
        row.less.clicked.connect(lambda: self._remove(row))
        self._rows.insert(place, row)
        self._layout.insertWidget(place + 1, row)  # the first is what is said while there are none
        return row

    def _remove(self, row: _AttackRow) -> None:
        self._drop(row)
        self.changed.emit()

    def _drop(self, row: _AttackRow) -> None:
        self._rows.remove(row)
        self._order = [kept for kept in self._order if kept is not row]
        row.setParent(None)
        row.deleteLater()
