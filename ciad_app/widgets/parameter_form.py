"""A form generated from a parameter schema: spin boxes, sliders, choices and ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from PySide6.QtCore import QLocale, Qt, Signal
from PySide6.QtGui import QValidator
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QSlider,
    QSpinBox,
    QWidget,
)

from ciad_app.widgets.no_wheel import NoWheel
from ciad_engine.attacks.parameters import Parameter

_UNLIMITED = 10**9
_SLIDER_STEPS = 200
_LONG = 12  # letters of a name that a choice has room for; a longer one is cut
_DECIMALS = 4  # at least: a budget of 0.145 is a budget somebody may want
# A slider helps only where its default is not squeezed into the first few pixels.
_SMALLEST_SHARE = 0.01


def digits_of(value: float) -> int:
    """Digits after the point with which a float is written exactly."""
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def decimals(p: Parameter) -> int:
    """Digits after the point that show default and bounds of a float exactly, and one more to set."""
    return max(_coarse(p), _DECIMALS)


def _coarse(p: Parameter) -> int:
    """The digits a slider sets: "8.9" rather than "8.925"."""
    return min(max(digits_of(x) for x in (p.default, p.low, p.high) if x is not None) + 1, 10)


def has_slider(p: Parameter) -> bool:
    """Whether a linear slider makes sense: a closed range in which the default is visible."""
    if p.kind not in ("int", "float") or p.low is None or p.high is None or not 0 < p.high - p.low < _UNLIMITED:
        return False  # a seed, for one, is not slid to
    return bool((p.default - p.low) / (p.high - p.low) >= _SMALLEST_SHARE or p.default == p.low)


class _Number(QDoubleSpinBox):
    """Shows 0.001 rather than 0.0010000000, though it takes as many digits; knows no separator of thousands."""

    def __init__(self) -> None:
        super().__init__()
        plain = self.locale()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)

    def textFromValue(self, value: float) -> str:
        digits = self.locale().toString(value, "f", self.decimals())
        point = self.locale().decimalPoint()
        return digits.rstrip("0").removesuffix(point) if point in digits else digits

    def _own_point(self, text: str) -> str:
        # Qt would take the other sign for a separator of thousands and read "0,5" as 5.
        point = self.locale().decimalPoint()
        return text.replace("," if point == "." else ".", point)

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        return super().validate(self._own_point(text), position)

    def valueFromText(self, text: str) -> float:
        return super().valueFromText(self._own_point(text))


class ParameterForm(QWidget):
    """One row a parameter: label, editor, and a slider under it where the range allows one.

    Signal `changed` is emitted after every change of a value.
    """

    changed = Signal()

    def __init__(
        self,
        parameters: Sequence[Parameter],
        names: Mapping[str, Sequence[str]] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        """`names` gives words for the numbers 0, 1, ... of an int parameter, e.g. class names."""
        super().__init__(parent)
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
            label = QLabel(p.title)
            label.setBuddy(editor)
            label.setToolTip(p.help)
            label.setWordWrap(True)
            layout.addWidget(label, row, 0)
            layout.addWidget(editor, row, 1)
            if has_slider(p) and p.name not in self._names:
                layout.addWidget(self._slider(p), row + 1, 0, 1, 2)
        layout.setRowStretch(layout.rowCount(), 1)

    def _editor(self, p: Parameter) -> QWidget:
        if p.kind == "choice":
            box = QComboBox()
            box.addItems(p.choices)
            box.setCurrentText(p.default)
            box.currentTextChanged.connect(lambda _: self.changed.emit())
            return box
        if p.name in self._names:
            named = QComboBox()
            for number, name in enumerate(self._names[p.name]):
                named.addItem(name, number)
            if max(map(len, self._names[p.name]), default=0) > _LONG:
                named.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
                named.setMinimumContentsLength(_LONG)
            named.setCurrentIndex(p.default)
            named.currentIndexChanged.connect(lambda _: self.changed.emit())
            return named
        if p.kind == "bool":
            tick = QCheckBox(p.title)
            tick.setChecked(p.default)
            tick.toggled.connect(lambda _: self.changed.emit())
            return tick
        spin: QSpinBox | QDoubleSpinBox
        if p.kind == "int":
            spin = QSpinBox()
            spin.setRange(-_UNLIMITED if p.low is None else int(p.low), _UNLIMITED if p.high is None else int(p.high))
        else:
            spin = _Number()
            spin.setDecimals(decimals(p))
            spin.setRange(-_UNLIMITED if p.low is None else p.low, _UNLIMITED if p.high is None else p.high)
            spin.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        spin.setValue(p.default)
        if p.unit:
            spin.setSuffix(f" {p.unit}")
        spin.valueChanged.connect(lambda _: self.changed.emit())
        return spin

    def _slider(self, p: Parameter) -> QSlider:
        """A slider tied to the spin box of `p`; the spin box holds the value, the slider only moves it."""
        assert p.low is not None
        assert p.high is not None
        low, span = p.low, p.high - p.low
        spin = self._editors[p.name]
        assert isinstance(spin, (QSpinBox, QDoubleSpinBox))
        slider = QSlider(Qt.Orientation.Horizontal)
        steps = int(span) if p.kind == "int" else _SLIDER_STEPS
        slider.setRange(0, steps)
        slider.setPageStep(max(1, steps // 10))
        slider.setAccessibleName(f"{p.title}, slider")
        slider.setToolTip(p.help)
        self._no_wheel.spare(slider)

        def to_slider(value: float) -> None:
            slider.blockSignals(True)  # rounding to a slider step must not come back as a value
            slider.setValue(round((value - low) / span * steps))
            slider.blockSignals(False)

        def to_spin(step: int) -> None:
            value = low + span * step / steps
            if isinstance(spin, QSpinBox):
                spin.setValue(round(value))
            else:
                spin.setValue(round(value, _coarse(p)))

        to_slider(p.default)
        spin.valueChanged.connect(to_slider)
        slider.valueChanged.connect(to_spin)
        self._sliders[p.name] = slider
        return slider

    def editor(self, name: str) -> QWidget:
        """The widget in which the parameter `name` is set."""
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
            elif isinstance(editor, QSpinBox):
                editor.setValue(value)
            elif isinstance(editor, QDoubleSpinBox):
                # A value from elsewhere, such as a plan of the command line, comes back as it is.
                editor.setDecimals(max(editor.decimals(), digits_of(value)))
                editor.setValue(value)

    def reset(self) -> None:
        """Put every value back to its default."""
        self.set_values({p.name: p.default for p in self._parameters})
