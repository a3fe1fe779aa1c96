"""The right side of the page: choose an attack, set it, run it, read what it cost; and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QListWidget,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QWidget,
)

from ciad_app.actions import action
from ciad_app.inspect.results import Results
from ciad_app.widgets.build import button, choice, in_column, in_row, label, label_of, refill
from ciad_app.widgets.parameter_form import ParameterForm, attack_form
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
    """Attack, parameters, buttons, detector, figures and history."""

    attack_asked = Signal()
    cancel_asked = Signal()
    detector_changed = Signal()  # another detector or rule is chosen
    settings_changed = Signal()  # of the chosen attack
    chosen = Signal(int)  # row of the history that was clicked
    compared = Signal(int, int)  # rows of the history
    removed = Signal(int)  # row of the history

    def __init__(self) -> None:
        super().__init__()
        self._detectors: dict[str, DetectorInfo] = {}
        self._wished = ""  # the rule that was chosen last, also while a detector is chosen that has none such
        self._attacks: tuple[type[Attack], ...] = ()
        self._classes: tuple[str, ...] = ()
        self.attack = choice("Attack")
        self.source = label(wrap=True, quiet=True)
        self.forms = _Forms()
        scroll = QScrollArea()
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keyboard goes through what is in it
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.forms)

        self.button = button("Attack", slot=self.attack_asked.emit)
        font = self.button.font()
        font.setBold(True)
        self.button.setFont(font)
        self.stop = button("Cancel", slot=self.cancel_asked.emit)
        self.reset = button("Defaults", "Put all parameters of this attack back to their defaults.", self._reset)
        self.knows = QCheckBox("The attacker knows the detector")
        help = "The detector that decides. Another one decides at once, from what is known already."
        self.detector, self.rule = choice("Detector", help, short=True), choice("Rule of the detector", short=True)
        decides = QGridLayout()
        decides.setVerticalSpacing(2)
        for place, (title, box, stretch) in enumerate((("Detector", self.detector, 4), ("Rule", self.rule, 3))):
            decides.addWidget(label_of(box, title), 0, place)
            decides.addWidget(box, 1, place)
            decides.setColumnStretch(place, stretch)
        self.results = Results()
        self.history = QListWidget()
        self.history.setAccessibleName("Attacks done on this image")
        self.history.setToolTip(
            "The attacks done on this image. Click one to see it again, a second one with Ctrl to compare the two."
        )
        self.history.setSelectionMode(QListWidget.SelectionMode.ExtendedSelection)
        self.history.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        remove = action(self.history, "&Remove", self._remove, "Forget this attack", ("Del",))
        remove.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        self.history.setMinimumHeight(54)
        self.history.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # the tool tip has it whole
        buttons = in_row((self.button, 2), (self.stop, 1), (self.reset, 1))
        past = label_of(self.history, "History of this image")
        in_column(
            self.attack, self.source, (scroll, 3), self.knows, buttons, decides, self.results, past, (self.history, 2),
            parent=self, margins=0, spacing=6,
        )  # fmt: skip

        self.attack.currentIndexChanged.connect(self._switch)
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
        """Offer the detectors of another bundle, silently; its first one decides, by its usual rule."""
        self._detectors, self._wished = {info.name: info for info in found}, ""
        refill(self.detector, {info.name: info.title for info in found}, found[0].name if found else None)
        self._offer_rules()

    def _offer_rules(self) -> None:
        """Offer the detector's rules, silently; the one chosen last counts if there is such, else the usual one."""
        self._offer_to_evade()
        info = self._detectors.get(self.deciding[0])
        rules = info.rules if info else ()
        refill(self.rule, {name: _RULES[name][0] for name in rules}, self._wished)
        for place, name in enumerate(rules):
            self.rule.setItemData(place, _RULES[name][1], Qt.ItemDataRole.ToolTipRole)
        self.rule.setToolTip(self.rule.currentData(Qt.ItemDataRole.ToolTipRole) or "")

    def _detector_chosen(self) -> None:
        self._offer_rules()
        self.detector_changed.emit()

    def set_attacks(self, attacks: Sequence[type[Attack]], classes: Sequence[str]) -> None:
        """Make the forms of all attacks; called again with the same ones it keeps choice and settings."""
        if (tuple(attacks), tuple(classes)) == (self._attacks, self._classes):
            return
        self._attacks, self._classes = tuple(attacks), tuple(classes)
        refill(self.attack, {info.name: info.title for info in attacks})
        while (form := self.forms.widget(0)) is not None:
            self.forms.removeWidget(form)
            form.deleteLater()
        for place, info in enumerate(attacks):
            self.attack.setItemData(place, info.summary(), Qt.ItemDataRole.ToolTipRole)
            form = attack_form(info, classes)
            form.changed.connect(self.settings_changed)
            self.forms.addWidget(form)
        self._order()
        longest = max((info.source for info in attacks), key=len, default="")
        self.source.setText(longest)  # the height of the longest is kept, so that switching moves nothing
        self.source.setMinimumHeight(self.source.heightForWidth(max(self.width(), 240)))
        self._switch(self.attack.currentIndex())

    def _order(self) -> None:
        """Put the forms, which are made last, behind the choice of the attack in the order of Tab."""
        before: QWidget = self.attack
        forms = (self.forms.widget(place) for place in range(self.forms.count()))
        editors = [widget for form in forms if isinstance(form, ParameterForm) for widget in form.in_order()]
        for widget in (*editors, self.knows):
            self.setTabOrder(before, widget)
            before = widget

    def _switch(self, place: int) -> None:
        for i in range(self.forms.count()):  # only the form that is seen asks for room
            seen = QSizePolicy.Policy.Preferred if i == place else QSizePolicy.Policy.Ignored
            if (form := self.forms.widget(i)) is not None:
                form.setSizePolicy(QSizePolicy.Policy.Preferred, seen)
        self.forms.setCurrentIndex(place)
        if not 0 <= place < len(self._attacks):
            return
        info = self._attacks[place]
        self.source.setText(info.source)
        self.attack.setToolTip(info.summary())
        self._offer_to_evade()

    def _offer_to_evade(self) -> None:
        """Offer that the attacker knows the detector if the chosen attack can evade the chosen one."""
        place, detector = self.attack.currentIndex(), self._detectors.get(self.deciding[0])
        unable = ""
        if 0 <= place < len(self._attacks) and not self._attacks[place].evades:
            others = ", ".join(other.title for other in self._attacks if other.evades)
            unable = f"{self._attacks[place].title} cannot evade a detector." + (f" Choose {others}." if others else "")
        elif detector and not detector.evadable:
            unable = f"No attack can evade {detector.title}: it gives every image the same class."
        self.knows.setEnabled(not unable)
        self.knows.setToolTip(unable or _KNOWS)

    def _reset(self) -> None:
        if self.form is not None:
            self.form.reset()

    def _history_chosen(self) -> None:
        rows = [index.row() for index in self.history.selectedIndexes()]
        if len(rows) == 1:
            self.chosen.emit(rows[0])
        elif len(rows) == 2:
            self.compared.emit(*rows)

    def _remove(self) -> None:
        for index in sorted(self.history.selectedIndexes(), key=lambda index: -index.row()):
            self.removed.emit(index.row())

    def _rule_chosen(self) -> None:
        self._wished = self.deciding[1]
        self.rule.setToolTip(self.rule.currentData(Qt.ItemDataRole.ToolTipRole) or "")
        self.detector_changed.emit()

    @property
    def form(self) -> ParameterForm | None:
        form = self.forms.currentWidget()
        return form if isinstance(form, ParameterForm) else None

    def request(self) -> tuple[str, dict[str, Any]]:
        return str(self.attack.currentData()), self.form.values() if self.form else {}

    def choose(self, name: str, settings: dict[str, Any]) -> None:
        place = self.attack.findData(name)
        if place >= 0:
            self.attack.setCurrentIndex(place)
            if self.form is not None:
                self.form.set_values(settings)

    def choose_to_evade(self, evade: Sequence[str]) -> None:
        """Let the attacker know a detector ("NAME:RULE"), which decides then, too; or none."""
        for text in evade:
            detector, _, rule = text.partition(":")
            self.decide_by(detector, rule)
        self.knows.setChecked(bool(evade))

    def decide_by(self, detector: str, rule: str) -> None:
        """Choose a detector and a rule of it; what the bundle does not have changes nothing."""
        for box, name in ((self.detector, detector), (self.rule, rule)):
            if (place := box.findData(name)) >= 0:
                box.setCurrentIndex(place)

    def set_ready(self, why_no_attack: str, why_no_cancel: str | None) -> None:
        """Enable the buttons, or disable each with its reason ("" enables; None: nothing runs)."""
        self.button.setEnabled(not why_no_attack)
        self.button.setToolTip(why_no_attack or "Attack the selected image (Ctrl+Return).")
        reason = "Nothing is running." if why_no_cancel is None else why_no_cancel
        self.stop.setEnabled(not reason)
        self.stop.setToolTip(reason or "Stop what runs on this page (Escape).")

    def show_history(self, lines: Sequence[str], current: int) -> None:
        """Fill the history and mark one row (-1 for none), without asking for it again."""
        with QSignalBlocker(self.history):
            self.history.clear()
            self.history.addItems(list(lines))
            for place, line in enumerate(lines):
                self.history.item(place).setToolTip(line)
            self.history.setCurrentRow(current)
