"""The right side of the page: choose an attack, set it, run it, read what it cost; and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from ciad_app.inspect.results import Results
from ciad_app.widgets.attack_form import attack_form
from ciad_app.widgets.parameter_form import ParameterForm
from ciad_engine.attacks.base import Attack

RULES = (
    ("paper", "Paper's rule: f1 and f2 disagree", "Adversarial where the classifier and the mask name two classes."),
    (
        "graded",
        "Graded score: how much",
        "Adversarial where f1's class surprises f2 more than it does on benign images.",
    ),
)


class _Forms(QStackedWidget):
    """Asks for the height of the form that is seen; Qt's own asks for that of the highest."""

    def heightForWidth(self, width: int) -> int:
        form = self.currentWidget()
        if form is None:
            return 0
        return form.heightForWidth(width) if form.hasHeightForWidth() else form.minimumSizeHint().height()


class AttackPanel(QWidget):
    """Attack, parameters, buttons, rule, figures and history.

    Signals:
        attack_asked, cancel_asked: the buttons.
        rule_changed: the name of the detector's rule.
        chosen: row of the history that was clicked.
    """

    attack_asked = Signal()
    cancel_asked = Signal()
    rule_changed = Signal(str)
    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.attack = QComboBox()
        self.attack.setAccessibleName("Attack")
        self.source = QLabel()
        self.source.setWordWrap(True)
        self.source.setForegroundRole(QPalette.ColorRole.PlaceholderText)  # quieter than what can be set
        self.forms = _Forms()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.forms)

        self.button = QPushButton("Attack")
        self.button.setDefault(True)
        font = self.button.font()
        font.setBold(True)
        self.button.setFont(font)
        self.stop = QPushButton("Cancel")
        self.reset = QPushButton("Defaults")
        self.reset.setToolTip("Put all parameters of this attack back to their defaults.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 2)
        buttons.addWidget(self.stop, 1)
        buttons.addWidget(self.reset, 1)

        self.rule = QComboBox()
        self.rule.setAccessibleName("Rule of the detector")
        for row, (name, title, help) in enumerate(RULES):
            self.rule.addItem(title, name)
            self.rule.setItemData(row, help, Qt.ItemDataRole.ToolTipRole)
        self.rule.setToolTip(RULES[0][2])
        self.results = Results()
        self.history = QListWidget()
        self.history.setAccessibleName("Attacks done on this image")
        self.history.setToolTip("The attacks done on this image. Click one to see it again.")
        self.history.setMinimumHeight(54)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.attack)
        layout.addWidget(self.source)
        layout.addWidget(scroll, 3)
        layout.addLayout(buttons)
        layout.addWidget(self.results)
        for title, widget, stretch in (("Detector", self.rule, 0), ("History of this image", self.history, 2)):
            label = QLabel(title)
            label.setBuddy(widget)
            layout.addWidget(label)
            layout.addWidget(widget, stretch)

        self.attack.currentIndexChanged.connect(self._switch)
        self.button.clicked.connect(self.attack_asked)
        self.stop.clicked.connect(self.cancel_asked)
        self.reset.clicked.connect(self._reset)
        self.rule.currentIndexChanged.connect(self._rule_chosen)
        # The selection and not the current row: that one moves already when the list gets the focus.
        self.history.itemSelectionChanged.connect(self._history_chosen)
        self.history.itemClicked.connect(self._history_chosen)
        self.set_ready("The models are still loading.", None)

    @property
    def rule_name(self) -> str:
        """The chosen rule, as the engine names it."""
        return str(self.rule.currentData())

    def set_attacks(self, attacks: Sequence[type[Attack]], classes: Sequence[str]) -> None:
        """Make the forms of all attacks; called again it keeps the choice."""
        kept = self.attack.currentData()
        self.attack.blockSignals(True)
        self.attack.clear()
        while (form := self.forms.widget(0)) is not None:
            self.forms.removeWidget(form)
            form.deleteLater()
        for row, info in enumerate(attacks):
            self.attack.addItem(info.title, info.name)
            self.attack.setItemData(row, info.summary(), Qt.ItemDataRole.ToolTipRole)
            self.attack.setItemData(row, info.source, Qt.ItemDataRole.UserRole + 1)
            self.forms.addWidget(attack_form(info, classes))
        self.attack.setCurrentIndex(max(self.attack.findData(kept), 0))
        self.attack.blockSignals(False)
        longest = max((info.source for info in attacks), key=len, default="")
        self.source.setText(longest)  # the height of the longest is kept, so that switching moves nothing
        self.source.setMinimumHeight(self.source.heightForWidth(max(self.width(), 240)))
        self._switch(self.attack.currentIndex())

    def _switch(self, row: int) -> None:
        for i in range(self.forms.count()):  # only the form that is seen asks for room
            seen = QSizePolicy.Policy.Preferred if i == row else QSizePolicy.Policy.Ignored
            form = self.forms.widget(i)
            if form is not None:
                form.setSizePolicy(QSizePolicy.Policy.Preferred, seen)
        self.forms.setCurrentIndex(row)
        self.source.setText(self.attack.itemData(row, Qt.ItemDataRole.UserRole + 1) or "")
        self.attack.setToolTip(self.attack.itemData(row, Qt.ItemDataRole.ToolTipRole) or "")

    def _reset(self) -> None:
        form = self.forms.currentWidget()
        if isinstance(form, ParameterForm):
            form.reset()

    def _history_chosen(self) -> None:
        for index in self.history.selectedIndexes():
            self.chosen.emit(index.row())

    def _rule_chosen(self, row: int) -> None:
        self.rule.setToolTip(RULES[row][2])
        self.rule_changed.emit(self.rule_name)

    @property
    def form(self) -> ParameterForm | None:
        """The form of the chosen attack."""
        form = self.forms.currentWidget()
        return form if isinstance(form, ParameterForm) else None

    def request(self) -> tuple[str, dict[str, Any]]:
        """The chosen attack and its parameters."""
        return str(self.attack.currentData()), self.form.values() if self.form else {}

    def choose(self, name: str, settings: dict[str, Any]) -> None:
        """Choose an attack and fill its form."""
        row = self.attack.findData(name)
        if row >= 0:
            self.attack.setCurrentIndex(row)
            if self.form is not None:
                self.form.set_values(settings)

    def set_ready(self, why_no_attack: str, why_no_cancel: str | None) -> None:
        """Enable the buttons, or disable each with its reason ("" enables; None: nothing runs)."""
        self.button.setEnabled(not why_no_attack)
        self.button.setToolTip(why_no_attack or "Attack the selected image (Ctrl+Return).")
        reason = "Nothing is running." if why_no_cancel is None else why_no_cancel
        self.stop.setEnabled(not reason)
        self.stop.setToolTip(reason or "Stop what runs on this page (Escape).")

    def show_rule(self, name: str) -> None:
        """Choose a rule without asking for its verdict."""
        self.rule.blockSignals(True)
        self.rule.setCurrentIndex(max(self.rule.findData(name), 0))
        self.rule.blockSignals(False)
        self.rule.setToolTip(RULES[self.rule.currentIndex()][2])

    def show_history(self, lines: Sequence[str], current: int) -> None:
        """Fill the history and mark one row (-1 for none), without asking for it again."""
        self.history.blockSignals(True)
        self.history.clear()
        self.history.addItems(list(lines))
        self.history.setCurrentRow(current)
        self.history.blockSignals(False)
