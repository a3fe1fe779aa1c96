"""The figures of one attack, in rows that are always there."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QGroupBox, QLabel

from ciad_app.widgets.build import FollowsFont, label
from ciad_engine.counting import counted
from ciad_engine.inspection import Inspection

_ROWS = (
    ("outcome", "Outcome", "Success is checked on the 8-bit image that can be saved."),
    ("l2", "L2", "Euclidean distance to the benign image, values from 0 to 1."),
    ("linf", "L∞", "Largest change of a value, in units of 1/255."),
    ("l0", "L0", "Changed channel values, and changed pixels."),
    ("ssim", "SSIM", "Structural similarity to the benign image; 1 is equal."),
    ("cost", "Cost", "Forward and backward passes through the classifier, and steps of the attack."),
    ("seconds", "Time", "Wall time of the attack."),
    ("notes", "Notes", "What makes the result doubtful, such as gradients that vanish."),
)
EMPTY = "–"


def seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def figures(found: Inspection) -> dict[str, str]:
    """The figures of an attacked image in words, by the names of the rows; empty if the image was not attacked.

    The cost of a stored pair is not known here: it stands in the results table.
    """
    result, moved = found.attack, found.distances
    words: dict[str, str] = {}
    if result is not None:
        before, after = found.classes[result.label_before[0]], found.classes[result.label_after[0]]
        fooled = f"{before} → {after}"
        if result.success[0]:
            words["outcome"] = f"✔ {fooled}"
        else:
            reason = str(result.reason[0]) or "failed"
            words["outcome"] = f"✘ {fooled}, but {reason}" if result.fooled[0] else f"✘ {reason}"
        counts = tuple(int(x[0]) for x in (result.forwards, result.backwards, result.steps))
        # A number stays with its word where the line is broken.
        each = zip(counts, ("forward", "backward", "step" if counts[-1] == 1 else "steps"), strict=True)
        words["cost"] = ", ".join(f"{count:,}\N{NO-BREAK SPACE}{word}" for count, word in each)
        words["seconds"] = seconds(result.seconds)
        words["notes"] = " ".join(result.notes)
    elif found.adversarial is not None:
        now, before = int(found.adversarial.y1[0]), found.classes[found.reference]
        changed = now != found.reference
        words["outcome"] = f"✔ {before} → {found.classes[now]}" if changed else f"✘ f1 still says {before}"
    if moved is not None:
        words["l2"] = f"{moved['l2']:.3f}"
        words["linf"] = f"{moved['linf']} /255"
        words["l0"] = f"{counted(int(moved['l0_values']), 'value')}, {counted(int(moved['l0_pixels']), 'pixel')}"
        words["ssim"] = f"{moved['ssim']:.3f}"
    return words


class Results(FollowsFont, QGroupBox):
    """Rows that are empty until an attack has filled them; one more if there are notes."""

    def __init__(self) -> None:
        super().__init__("Result")
        self.values: dict[str, QLabel] = {}
        self._labels: dict[str, QLabel] = {}
        grid = QGridLayout(self)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for row, (key, title, help) in enumerate(_ROWS):
            name, value = label(title), label(EMPTY, wrap=True, selectable=True)
            value.setAccessibleName(title)
            value.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            for widget in (name, value):
                widget.setToolTip(help)
            grid.addWidget(name, row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(value, row, 1)
            self.values[key] = value
            self._labels[key] = name
        self._show_notes(False)
        self.fit_font()

    def fit_font(self) -> None:
        """Every row has its lines from the start, the two that may need a second one have it, too."""
        for key, value in self.values.items():
            value.setMinimumHeight((2 if key in ("outcome", "cost") else 1) * value.fontMetrics().lineSpacing())

    def show_figures(self, words: dict[str, str], title: str = "") -> None:
        """Fill the rows with the figures of the attack `title`; a row without one shows a dash."""
        # A single "&" would mark the key of the title's menu letter.
        self.setTitle(f"Result of {title}".replace("&", "&&") if title else "Result")
        for key, value in self.values.items():
            value.setText(words.get(key) or EMPTY)
        self._show_notes(bool(words.get("notes")))

    def _show_notes(self, shown: bool) -> None:
        """The row of the notes is there only if there are any, which is rare."""
        for widget in (self._labels["notes"], self.values["notes"]):
            widget.setVisible(shown)
