"""The right side of the page: choose an attack, set it, run it, read what it cost; and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
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
from ciad_app.worker import DetectorInfo
from ciad_engine import detectors
from ciad_engine.attacks.base import Attack

# Title and tool tip of each rule.
_RULES = {
    detectors.DISAGREEMENT: (
        "Disagreement",
        "The paper's rule: adversarial if the detector's class is not the classifier's.",
    ),
    detectors.GRADED: (
        "Graded score",
        "Adversarial if the classifier's class surprises the detector more than it does on benign images.",
    ),
}
_KNOWS = "The attack must fool the classifier and also keep the chosen detector from flagging the image."


class _Forms(QStackedWidget):
    """Asks for the height of the form that is seen; Qt's own asks for that of the highest."""

    def heightForWidth(self, width: int) -> int:
        form = self.currentWidget()
        if form is None:
            return 0
        return form.heightForWidth(width) if form.hasHeightForWidth() else form.minimumSizeHint().height()


class AttackPanel(QWidget):
    """Attack, parameters, buttons, detector, figures and history.

    Signals:
        attack_asked, cancel_asked: the buttons.
        detector_changed: another detector or rule is chosen.
        chosen: row of the history that was clicked.
    """

    attack_asked = Signal()
    cancel_asked = Signal()
    detector_changed = Signal()
    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rules: dict[str, tuple[str, ...]] = {}  # by detector
        self._wished = ""  # the rule that was chosen last, also while a detector is chosen that has none such
        self._evading: dict[str, str] = {}  # titles, by name, of the attacks that can evade a detector
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

        self.knows = QCheckBox("The attacker knows the detector")
        self.detector, self.rule = QComboBox(), QComboBox()
        self.detector.setAccessibleName("Detector")
        self.detector.setToolTip("The detector that decides. Another one decides at once, from what is known already.")
        self.rule.setAccessibleName("Rule of the detector")
        for choice in (self.detector, self.rule):
            choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        decides = QGridLayout()
        decides.setVerticalSpacing(2)
        for column, (title, choice) in enumerate((("Detector", self.detector), ("Rule", self.rule))):
            label = QLabel(title)
            label.setBuddy(choice)
            decides.addWidget(label, 0, column)
            decides.addWidget(choice, 1, column)
        decides.setColumnStretch(0, 4)
        decides.setColumnStretch(1, 3)
        self.results = Results()
        self.history = QListWidget()
        self.history.setAccessibleName("Attacks done on this image")
        self.history.setToolTip("The attacks done on this image. Click one to see it again.")
        self.history.setMinimumHeight(54)
        self.history.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # the tool tip has it whole

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.attack)
        layout.addWidget(self.source)
        layout.addWidget(scroll, 3)
        layout.addWidget(self.knows)
        layout.addLayout(buttons)
        layout.addLayout(decides)
        layout.addWidget(self.results)
        label = QLabel("History of this image")
        label.setBuddy(self.history)
        layout.addWidget(label)
        layout.addWidget(self.history, 2)

        self.attack.currentIndexChanged.connect(self._switch)
        self.button.clicked.connect(self.attack_asked)
        self.stop.clicked.connect(self.cancel_asked)
        self.reset.clicked.connect(self._reset)
        self.detector.currentIndexChanged.connect(self._detector_chosen)
        self.rule.currentIndexChanged.connect(self._rule_chosen)
        # The selection and not the current row: that one moves already when the list gets the focus.
        self.history.itemSelectionChanged.connect(self._history_chosen)
        self.history.itemClicked.connect(self._history_chosen)
        self.set_ready("The models are still loading.", None)

    @property
    def deciding(self) -> tuple[str, str]:
        """The chosen detector and rule, as the engine names them; ("", "") if the bundle has none."""
        return str(self.detector.currentData() or ""), str(self.rule.currentData() or "")

    @property
    def evade(self) -> tuple[str, ...]:
        """The detector that the attack has to evade, as "NAME:RULE", if any."""
        return (":".join(self.deciding),) if self.knows.isEnabled() and self.knows.isChecked() else ()

    def set_detectors(self, found: Sequence[DetectorInfo]) -> None:
        """Offer these detectors, silently; called again it keeps the choice."""
        kept, self._rules = self.detector.currentData(), {info.name: info.rules for info in found}
        self.detector.blockSignals(True)
        self.detector.clear()
        for info in found:
            self.detector.addItem(info.title, info.name)
        self.detector.setCurrentIndex(max(self.detector.findData(kept), 0))
        self.detector.blockSignals(False)
        self._offer_rules()

    def _offer_rules(self) -> None:
        """Offer the detector's rules, silently; the one chosen last counts if there is such, else the usual one."""
        rules = self._rules.get(self.deciding[0], ())
        self.rule.blockSignals(True)
        self.rule.clear()
        for row, name in enumerate(rules):
            title, help = _RULES[name]
            self.rule.addItem(title, name)
            self.rule.setItemData(row, help, Qt.ItemDataRole.ToolTipRole)
        self.rule.setCurrentIndex(max(self.rule.findData(self._wished), 0))
        self.rule.blockSignals(False)
        self.rule.setToolTip(self.rule.currentData(Qt.ItemDataRole.ToolTipRole) or "")

    def _detector_chosen(self) -> None:
        self._offer_rules()
        self.detector_changed.emit()

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
        self._evading = {info.name: info.title for info in attacks if info.evades}
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
        able = self.attack.itemData(row) in self._evading
        self.knows.setEnabled(able)
        others = ", ".join(self._evading.values())
        unable = f"{self.attack.itemText(row)} cannot evade a detector." + (f" Choose {others}." if others else "")
        self.knows.setToolTip(_KNOWS if able else unable)

    def _reset(self) -> None:
        form = self.forms.currentWidget()
        if isinstance(form, ParameterForm):
            form.reset()

    def _history_chosen(self) -> None:
        for index in self.history.selectedIndexes():
            self.chosen.emit(index.row())

    def _rule_chosen(self) -> None:
        self._wished = self.deciding[1]
        self.rule.setToolTip(self.rule.currentData(Qt.ItemDataRole.ToolTipRole) or "")
        self.detector_changed.emit()

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

    def show_history(self, lines: Sequence[str], current: int) -> None:
        """Fill the history and mark one row (-1 for none), without asking for it again."""
        self.history.blockSignals(True)
        self.history.clear()
        self.history.addItems(list(lines))
        for row, line in enumerate(lines):
            self.history.item(row).setToolTip(line)
        self.history.setCurrentRow(current)
        self.history.blockSignals(False)
