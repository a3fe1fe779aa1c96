"""A form generated from a parameter schema: spin boxes, sliders, choices and ticks; and the form of an attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QGridLayout, QSlider, QSpinBox, QWidget

from ciad_app.widgets.build import label_of
from ciad_app.widgets.number_box import NumberBox, WholeBox, digits_of
from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import Parameter, schema
from ciad_engine.attacks.words import ONLY_WITH, TARGET, TARGET_CLASS

GREY_LEVELS = "/255"  # a unit
_COARSER = (16, 18, 20, 22, 24, 28, 32, 48, 64, 128)  # stops of a budget's slider, until the highest
_UNLIMITED = 10**9
_SLIDER_STEPS = 200
_LONG = 12  # letters of a name that a choice has room for; a longer one is cut
_DECIMALS = 4  # at least: a budget of 0.145 is a budget somebody may want
# A slider helps only where its default is not squeezed into the first few pixels.
_SMALLEST_SHARE = 0.01


def decimals(p: Parameter) -> int:
    """Digits after the point that show default and bounds of a float exactly, and one more to set."""
    return max(_coarse(p), _DECIMALS)


def _coarse(p: Parameter) -> int:
    """The digits a slider sets: "8.9" rather than "8.925"."""
    return min(max(digits_of(x) for x in (p.default, p.low, p.high) if x is not None) + 1, 10)


def stops(p: Parameter) -> list[float]:
    """Return the values at which a slider of the parameter stops, in order.

    Of a budget in grey levels these are whole ones, each up to 16: there attacks begin to work and to be seen, so these
    take most of the slider. Else they are evenly spread.
    """
    assert p.low is not None
    assert p.high is not None
    if p.unit == GREY_LEVELS and p.high > _COARSER[0]:
        far = [value for value in _COARSER if p.low <= value < p.high]
        return [p.low, *range(int(p.low) + 1, _COARSER[0]), *far, p.high]
    steps = int(p.high - p.low) if p.kind == "int" else _SLIDER_STEPS
    values = [p.low + (p.high - p.low) * step / steps for step in range(steps + 1)]
    return [round(value) if p.kind == "int" else round(value, _coarse(p)) for value in values]


def has_slider(p: Parameter) -> bool:
    """Whether a linear slider makes sense: a closed range in which the default is visible."""
    if p.kind not in ("int", "float") or p.low is None or p.high is None or not 0 < p.high - p.low < _UNLIMITED:
        return False  # a seed, for one, is not slid to
    return bool((p.default - p.low) / (p.high - p.low) >= _SMALLEST_SHARE or p.default == p.low)


class NoWheel(QObject):
    """Lets the wheel scroll what a setting stands in instead of changing a value nobody chose to change."""

    def spare(self, editor: QWidget) -> None:
        """The wheel changes `editor` only while it has the keyboard, which the wheel no longer gives it."""
        editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        editor.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class ParameterForm(QWidget):
    """One row a parameter: label, editor, and a slider under it if the range allows one."""

    changed = Signal()  # after every change of a value

    def __init__(self, parameters: Sequence[Parameter], names: Mapping[str, Sequence[str]] | None = None) -> None:
        """`names` gives words for the numbers 0, 1, ... of an int parameter, e.g. class names."""
        super().__init__()
        self._parameters = tuple(parameters)
        self._names = names or {}
        self._editors: dict[str, QWidget] = {}
        self._sliders: dict[str, QSlider] = {}
        self._no_wheel = NoWheel(self)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(4)
        layout.setColumnStretch(0, 1)
        for p in self._parameters:
            row = layout.rowCount()
            editor = self._editor(p)
            editor.setAccessibleName(p.title)
            editor.setAccessibleDescription(p.help)
            editor.setToolTip(p.help)
            self._no_wheel.spare(editor)
            self._editors[p.name] = editor
            if p.kind == "bool":
                layout.addWidget(editor, row, 0, 1, 2)
                continue
            title = label_of(editor, p.title)
            title.setToolTip(p.help)
            title.setWordWrap(True)
            layout.addWidget(title, row, 0)
            layout.addWidget(editor, row, 1)
            if has_slider(p) and p.name not in self._names:
                layout.addWidget(self._slider(p), row + 1, 0, 1, 2)
        layout.setRowStretch(layout.rowCount(), 1)

    def in_order(self) -> list[QWidget]:
        """Return what can have the keyboard's focus, from top to bottom."""
        both = (each for name in self._editors for each in (self._editors[name], self._sliders.get(name)))
        return [widget for widget in both if widget is not None]

    def _editor(self, p: Parameter) -> QWidget:
        if p.kind == "choice" or p.name in self._names:
            names = self._names.get(p.name, p.choices)
            box = QComboBox()
            box.addItems(list(names))
            if p.name in self._names and max(map(len, names), default=0) > _LONG:
                box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
                box.setMinimumContentsLength(_LONG)
            box.setCurrentIndex(p.default if p.name in self._names else names.index(p.default))
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
            return box
        if p.kind == "bool":
            tick = QCheckBox(p.title)
            tick.setChecked(p.default)
            tick.toggled.connect(lambda _: self.changed.emit())
            return tick
        low, high = -_UNLIMITED if p.low is None else p.low, _UNLIMITED if p.high is None else p.high
        spin: QSpinBox | NumberBox
        if p.kind == "int":
            spin = WholeBox()
            spin.setRange(int(low), int(high))
        else:
            spin = NumberBox(decimals(p))
            spin.setRange(low, high)
        spin.setValue(p.default)
        if p.unit:
            spin.setSuffix(f" {p.unit}")
        spin.valueChanged.connect(lambda _: self.changed.emit())
        return spin

    def _slider(self, p: Parameter) -> QSlider:
        """A slider tied to the spin box of `p`; the spin box holds the value, the slider only moves it."""
        places, spin = np.array(stops(p)), self._editors[p.name]
        assert isinstance(spin, (QSpinBox, QDoubleSpinBox))
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, len(places) - 1)
        slider.setPageStep(max(1, len(places) // 10))
        slider.setAccessibleName(f"{p.title}, slider")
        slider.setToolTip(p.help)
        self._no_wheel.spare(slider)

        def to_slider(value: float) -> None:
            with QSignalBlocker(slider):  # the nearest stop must not come back as a value
                slider.setValue(int(np.abs(places - value).argmin()))

        def to_spin(place: int) -> None:
            spin.setValue(places[place].item())

        to_slider(p.default)
        spin.valueChanged.connect(to_slider)
        slider.valueChanged.connect(to_spin)
        self._sliders[p.name] = slider
        return slider

    def editor(self, name: str) -> QWidget:
        return self._editors[name]

    def slider(self, name: str) -> QSlider | None:
        """The slider of the parameter `name`, if it has one."""
        return self._sliders.get(name)

    def values(self) -> dict[str, Any]:
        """The values as an attack's `build` takes them."""
        found: dict[str, Any] = {}
        for name, editor in self._editors.items():
            if isinstance(editor, QComboBox):
                found[name] = editor.currentIndex() if name in self._names else editor.currentText()
            elif isinstance(editor, QCheckBox):
                found[name] = editor.isChecked()
            elif isinstance(editor, (QSpinBox, QDoubleSpinBox)):
                found[name] = editor.value()
        return found

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Put values into the form; unknown names, and classes that are not there, are left out."""
        for name, value in values.items():
            editor = self._editors.get(name)
            if isinstance(editor, QComboBox) and name in self._names:
                if 0 <= value < editor.count():
                    editor.setCurrentIndex(value)
            elif isinstance(editor, QComboBox):
                editor.setCurrentText(value)
            elif isinstance(editor, QCheckBox):
                editor.setChecked(value)
            elif isinstance(editor, (QSpinBox, QDoubleSpinBox)):
                editor.setValue(value)

    def reset(self) -> None:
        self.set_values({p.name: p.default for p in self._parameters})


def attack_form(attack: type[Attack], classes: Sequence[str]) -> ParameterForm:
    """The form of an attack; a class to aim at is chosen by name, and it and the seed only where they are asked for."""
    parameters = schema(attack)
    form = ParameterForm(parameters, {TARGET_CLASS: classes})
    names = {p.name for p in parameters}
    for name, needed in ONLY_WITH.items():
        if TARGET in names and name in names:
            _only_for(form, name, needed)
    return form


def _only_for(form: ParameterForm, name: str, needed: str) -> None:
    """Enable the parameter `name` while the target is `needed`."""
    aim, editor = form.editor(TARGET), form.editor(name)
    help = editor.toolTip()

    def follow() -> None:
        wanted = form.values()[TARGET] == needed
        editor.setEnabled(wanted)
        editor.setToolTip(help if wanted else f"Choose the target '{needed}' to set this. {help}")

    if isinstance(aim, QComboBox):
        aim.currentTextChanged.connect(lambda _: follow())
    follow()
