"""The figures of one attack, in rows that are always there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QGridLayout, QGroupBox, QLabel, QWidget

from ciad_app.inspect.work import STORED

if TYPE_CHECKING:
    from ciad_engine.attacks.base import AttackResult

_ROWS = (
    ("outcome", "Outcome", "Success is checked on the 8-bit image that can be saved."),
    ("l2", "L2", "Euclidean distance to the benign image, values from 0 to 1."),
    ("linf", "L∞", "Largest change of a value, in units of 1/255."),
    ("l0", "L0", "Changed channel values of 3,072, and changed pixels of 1,024."),
    ("ssim", "SSIM", "Structural similarity to the benign image; 1 is equal."),
    ("cost", "Cost", "Forward and backward passes through the classifier, and steps of the attack."),
    ("seconds", "Time", "Wall time of the attack."),
)
EMPTY = "–"


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def figures(result: AttackResult, classes: Sequence[str]) -> dict[str, str]:
    """The figures of the first image of a result in words, by the names of the rows."""
    forwards, backwards, steps = (int(x[0]) for x in (result.forwards, result.backwards, result.steps))
    before, after = classes[result.label_before[0]], classes[result.label_after[0]]
    success = f"✔ {before} → {after}"
    found = {
        "outcome": success if result.success[0] else f"✘ {result.reason[0] or 'failed'}",
        "l2": f"{result.l2[0]:.3f}",
        "linf": f"{int(result.linf[0])} /255",
        "l0": f"{int(result.l0_values[0]):,} values, {int(result.l0_pixels[0]):,} pixels",
        "ssim": f"{result.ssim[0]:.3f}",
        # A number stays with its word where the line is broken.
        "cost": f"{forwards:,}\N{NO-BREAK SPACE}forward, {backwards:,}\N{NO-BREAK SPACE}backward, "
        f"{steps:,}\N{NO-BREAK SPACE}{'step' if steps == 1 else 'steps'}",
        "seconds": seconds(result.seconds),
    }
    if result.attack == STORED:  # a pair from the results table: its cost stands there
        del found["cost"], found["seconds"]
    return found


class Results(QGroupBox):
    """Seven rows that are empty until an attack has filled them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Result", parent)
        self.values: dict[str, QLabel] = {}
        grid = QGridLayout(self)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (key, title, help) in enumerate(_ROWS):
            label, value = QLabel(title), QLabel(EMPTY)
            value.setAccessibleName(title)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            value.setWordWrap(True)
            value.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            for widget in (label, value):
                widget.setToolTip(help)
            grid.addWidget(label, row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(value, row, 1)
            self.values[key] = value
        self._fit_heights()

    def _fit_heights(self) -> None:
        """Every row has its lines from the start, the two that may need a second one have it, too."""
        for key, label in self.values.items():
            label.setMinimumHeight((2 if key in ("outcome", "cost") else 1) * label.fontMetrics().lineSpacing())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit_heights()

    def show_figures(self, found: dict[str, str] | None, title: str = "") -> None:
        """Fill the rows with the figures of the attack `title`; a row without one, or all for None, shows a dash."""
        # A single "&" would mark the key of the title's menu letter.
        self.setTitle(f"Result of {title}".replace("&", "&&") if title else "Result")
        for key, label in self.values.items():
            label.setText((found or {}).get(key, EMPTY))
