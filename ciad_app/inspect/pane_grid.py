"""The middle of the page: columns are states of the image, rows are what one asks of it.

original image  adversarial image    difference, magnified
its mask        its mask             change of the mask, which can also be laid over its image
its classes     its classes          change of the probabilities

The first column is called "original", not "benign": a person may open an adversarial image there.
"""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import QRectF, Qt
from PySide6.QtWidgets import QComboBox, QGridLayout, QLabel, QSlider, QWidget

from ciad_app.inspect.session_file import View
from ciad_app.inspect.verdict_bar import NOTHING, Sign
from ciad_app.widgets.build import choice, in_row, label_of, refill
from ciad_app.widgets.colour_bar import ColourBar
from ciad_app.widgets.elided_label import ElidedLabel
from ciad_app.widgets.image_pane import ImagePane, Pixel
from ciad_app.widgets.probability_bars import F2, ProbabilityBars, telling
from ciad_engine import detectors, inspection
from ciad_engine.inspection import Inspection

if TYPE_CHECKING:
    from ciad_engine.detectors.base import Verdict

IMPORTANCE_MAP = "cividis"  # perceptually uniform, the same to colour-blind eyes
COVER = tuple(pg.colormap.get(IMPORTANCE_MAP).map(0.0)[:3].tolist())  # what is unimportant, as in the mask's pane
CHANGE_MAP = "CET-D1A"  # blue - white - red, uniform to either side
GAINS = (1, 2, 4, 8, 16, 32, 64)
MASK_SCALES = (1.0, 0.5, 0.25, 0.1, 0.05)
TITLES = ("Original", "Adversarial")
SELECT = "Select an image in the list on the left"
ATTACK = "Press Attack\n(Ctrl+Return)"
NO_MASK = "This bundle draws no masks"
OF_OVERLAY = (
    "Lay the masks over both images: what f1 needs stays visible, the rest is covered in the colour of unimportant."
)

Pixels = npt.NDArray[np.uint8]


def importance(verdict: Verdict) -> npt.NDArray[np.float32] | None:
    """Where f1 looks, (size, size) in [0, 1]: 1 - mask, as 1 in a LAN's mask means "unimportant"."""
    return None if verdict.masks is None else 1 - verdict.masks[0]


def _headings(verdict: Verdict) -> tuple[str, ...]:
    """What the detector's bars are called, the longest first."""
    return F2 if verdict.detector == detectors.MASK else (verdict.chosen.title, verdict.detector)


class _Heading(QWidget):
    """The name of a column with the detector's sign, and a caption under it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.sign = Sign(20)
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.RichText)  # follows a change of the font size, as a set font would not
        self.name(title)
        self.caption = ElidedLabel(" ")  # a long name is cut rather than widening the column
        self.caption.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        in_row(self.sign, self.title, (self.caption, 1), parent=self, margins=0)

    def name(self, title: str) -> None:
        self.named = title
        self.flash("")

    def flash(self, title: str) -> None:
        """Show another title for a while; "" ends it."""
        self.title.setText(f"<b><big>{html.escape(title or self.named)}</big></b>")

    def say(self, kind: str, caption: str, tip: str = "") -> None:
        self.sign.set_kind(kind)
        self.caption.setText(caption)
        self.caption.setToolTip(tip or caption)


class PaneGrid(QWidget):
    """Six linked panes, their captions and colour bars, and the probability bars below them."""

    def __init__(self) -> None:
        super().__init__()
        self._image: Pixels | None = None
        self._found: Inspection | None = None
        self._changed: Pixels | None = None  # the image after an attack
        self._pixel: Pixel | None = None
        self._blinking = False

        light, mask = (0.0, 255.0), (0.0, 1.0)
        self.panes = (
            ImagePane("Original image", SELECT, light),
            ImagePane("Adversarial image", ATTACK, light),
            ImagePane("Magnified difference", ATTACK, light),
            ImagePane("Where f1 looks in the original image", SELECT, mask, IMPORTANCE_MAP),
            ImagePane("Where f1 looks in the adversarial image", ATTACK, mask, IMPORTANCE_MAP),
            ImagePane("Change of where f1 looks", ATTACK, (-0.5, 0.5), CHANGE_MAP),
        )
        self.benign, self.adversarial, self.difference = self.panes[:3]
        self.benign_mask, self.adversarial_mask, self.mask_change = self.panes[3:]
        self.benign_bars = ProbabilityBars("Probabilities of the original image", SELECT)
        self.adversarial_bars = ProbabilityBars("Probabilities of the adversarial image", ATTACK)
        self.change_bars = ProbabilityBars("Change of the probabilities in percentage points", ATTACK, signed=True)

        self.headings = (_Heading(TITLES[0]), _Heading(TITLES[1]))
        of_gain = "How many times the change of each value is magnified; grey means unchanged."
        self.gain = choice("Magnification of the difference", of_gain)
        refill(self.gain, {factor: f"×{factor}" for factor in GAINS}, 16)
        of_scale = "The change of importance that gets the strongest colour."
        self.mask_scale = choice("Scale of the change of importance", of_scale)
        refill(self.mask_scale, {scale: f"scale ±{scale:g}" for scale in MASK_SCALES}, 0.5)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setSingleStep(5)
        self.opacity.setAccessibleName("Opacity of the masks over the images")
        self.opacity.setToolTip(OF_OVERLAY)
        self.percent = QLabel()
        self.percent.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.importance_bar = ColourBar(IMPORTANCE_MAP, "importance = 1 − mask: 0 unimportant", "1 important")
        self.change_bar = ColourBar(CHANGE_MAP, "", "")
        self.status = ElidedLabel()
        self.status.setAccessibleName("Values under the cursor")

        self._lay_out()
        for pane in self.panes:
            pane.pixel_changed.connect(self._point_at)
            pane.view_changed.connect(self.show_part)
            pane.reset_asked.connect(lambda: self.show_part(None))
        self.gain.currentIndexChanged.connect(self._show_difference)
        self.mask_scale.currentIndexChanged.connect(self._rescale_masks)
        self.opacity.valueChanged.connect(self._show_images)
        self._rescale_masks()
        self._show_images()
        self._point_at(None)

    def _lay_out(self) -> None:
        over = label_of(self.opacity, "Laid over the images")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(4)
        for column, heading in enumerate(self.headings):
            grid.addWidget(heading, 0, column)
        grid.addWidget(_with_choice("Difference", self.gain, large=True), 0, 2)
        for i, pane in enumerate(self.panes):
            grid.addWidget(pane, 1 if i < 3 else 3, i % 3)
        grid.addLayout(in_row(QLabel("Where f1 looks"), None, over, (self.opacity, 1), self.percent), 2, 0, 1, 2)
        grid.addWidget(_with_choice("Change", self.mask_scale), 2, 2)
        grid.addWidget(self.importance_bar, 4, 0, 1, 2)
        grid.addWidget(self.change_bar, 4, 2)
        grid.addWidget(self.status, 5, 0, 1, 3)
        for column, bars in enumerate((self.benign_bars, self.adversarial_bars, self.change_bars)):
            grid.addWidget(bars, 6, column)
            grid.setColumnStretch(column, 1)
            grid.setColumnMinimumWidth(column, 150)
        for row, stretch in ((1, 10), (3, 10), (6, 9)):
            grid.setRowStretch(row, stretch)
        # Equal height of both rows and a fixed height of captions: linked panes show the same part.
        for row in (0, 2):
            grid.setRowMinimumHeight(row, self.gain.sizeHint().height())

    def show_image(self, pixels: Pixels | None, caption: str, tip: str = "", adversarial: Pixels | None = None) -> None:
        """Show an image that nobody has looked at yet, or with None nothing; all else says what is missing.

        If its adversarial version is stored, that is shown at once, too: only masks and classes need networks.
        """
        self._image, self._found = pixels, None
        for heading, title in zip(self.headings, TITLES, strict=True):
            heading.name(title)
        if pixels is not None:
            self._set_size(pixels)
        self.headings[0].say(NOTHING, caption, tip)
        self.benign_mask.set_image(None)
        self.benign_bars.clear()
        self.await_attack(ATTACK)
        if pixels is not None and adversarial is not None:
            self._changed = adversarial
            self._show_difference()
        self._show_images()
        self.await_look(SELECT if pixels is None else "Looking …")

    def await_look(self, hint: str) -> None:
        """Say in the empty panes and bars what of the engine they wait for."""
        looked_at = [(self.benign_mask, self.benign_bars)]
        if self._changed is not None:
            looked_at += [(self.adversarial_mask, self.adversarial_bars), (self.mask_change, self.change_bars)]
        for pane, bars in looked_at:
            pane.set_hint(hint)
            bars.set_hint(hint)

    def await_attack(self, hint: str) -> None:
        """Empty what belongs to the adversarial image, with a hint in its place."""
        self._changed = None
        self.headings[1].say(NOTHING, "")
        self._found = None if self._found is None else self._found.without_attack()
        for pane in (self.adversarial, self.difference, self.adversarial_mask, self.mask_change):
            pane.set_hint(hint)
            pane.set_image(None)
        for bars in (self.adversarial_bars, self.change_bars):
            bars.set_hint(hint)
            bars.clear()
        self._point_at(self._pixel)

    def show_inspection(self, found: Inspection, titles: tuple[str, str] = TITLES) -> None:
        """Show what is known of the image, and of its adversarial version if there is one, under these titles."""
        for heading, title in zip(self.headings, titles, strict=True):
            heading.name(title)
        self._image, self._found, self._changed = found.image, found, found.attacked_image
        self._set_size(found.image)
        before, after = found.benign, found.adversarial
        columns = [p for verdict in (before, after) if verdict is not None for p in (verdict.p1[0], verdict.p2[0])]
        rows, second = telling(columns, () if found.label is None else (found.label,)), _headings(before)
        self._show_images()
        self.headings[0].sign.set_kind(inspection.headline(before, None if found.label is None else False))
        mask = importance(before)
        self.opacity.setEnabled(mask is not None)
        self.opacity.setToolTip(NO_MASK if mask is None else OF_OVERLAY)
        if mask is None:
            self.benign_mask.set_hint(NO_MASK)
        self.benign_mask.set_image(mask)
        self.benign_bars.show_values(found.classes, before.p1[0], before.p2[0], rows, second)
        changed = found.attacked_image
        if after is None or changed is None:
            reason = "" if found.attack is None else str(found.attack.reason[0])
            self.await_attack(f"The attack failed:\n{reason}" if found.attack is not None else ATTACK)
            return
        word = inspection.headline(after, inspection.is_adversarial(found))
        self.headings[1].say(word, f"f1 says {found.classes[after.y1[0]]}")
        self._show_difference()
        changed_mask = importance(after)
        for pane in (self.adversarial_mask, self.mask_change) if changed_mask is None else ():
            pane.set_hint(NO_MASK)
        self.adversarial_mask.set_image(changed_mask)
        self.mask_change.set_image(None if mask is None or changed_mask is None else changed_mask - mask)
        self.adversarial_bars.show_values(found.classes, after.p1[0], after.p2[0], rows, second)
        moved = (after.p1[0] - before.p1[0], after.p2[0] - before.p2[0])
        self.change_bars.show_values(found.classes, *moved, rows, second)
        self._point_at(self._pixel)

    def show_pair(self, first: Inspection, second: Inspection, titles: tuple[str, str]) -> None:
        """Compare two attacks on one image: the adversarial image of the first stands in the original's place."""
        if first.attacked_image is not None and first.adversarial is not None:
            pair = dataclasses.replace(second, image=first.attacked_image, benign=first.adversarial)
            self.show_inspection(pair, titles)
            kind = inspection.headline(first.adversarial, inspection.is_adversarial(first))
            self.headings[0].say(kind, f"f1 says {first.classes[first.adversarial.y1[0]]}")

    def dim(self, on: bool) -> None:
        """Dim what the attack made: it was made with other settings than those that are chosen."""
        for pane in (self.adversarial, self.difference, self.adversarial_mask, self.mask_change):
            pane.dim(on)
        for bars in (self.adversarial_bars, self.change_bars):
            bars.setEnabled(not on)
        tip = "Made with other settings: press Attack." if on else ""
        self.headings[1].setToolTip(tip)

    def blink(self, on: bool) -> None:
        """Show the adversarial image and its mask in the place of the original ones, to and fro."""
        self._blinking = on
        self.headings[0].flash(self.headings[1].named if on and self._changed is not None else "")
        self._show_images()
        if self._found is not None:
            other = self._found.adversarial if on else None
            self.benign_mask.set_image(importance(other or self._found.benign))

    def show_part(self, part: QRectF | None) -> None:
        """Show the same part of the image in all panes, None for the whole."""
        for pane in self.panes:
            pane.show_part(part)

    @property
    def view(self) -> View:
        """Return how the panes show it, without the detector; can be set."""
        part = self.benign.part
        return View("", "", self.gain.currentData(), self.mask_scale.currentData(), self.opacity.value(), part)

    @view.setter
    def view(self, view: View) -> None:
        for box, value in ((self.gain, view.gain), (self.mask_scale, view.mask_scale)):
            if (place := box.findData(value)) >= 0:
                box.setCurrentIndex(place)
        self.opacity.setValue(view.opacity)
        self.show_part(None if view.part is None else QRectF(*view.part))

    def _show_images(self) -> None:
        """Show both images, under their masks as far as the slider says and the masks are known."""
        self.percent.setMinimumWidth(self.percent.fontMetrics().horizontalAdvance("100%"))  # the slider stays in place
        self.percent.setText(f"{self.opacity.value()}%")
        before, after = (None, None) if self._found is None else (self._found.benign, self._found.adversarial)
        panes, images = (self.benign, self.adversarial), (self._image, self._changed)
        if self._blinking and self._changed is not None:
            images, before = (self._changed, self._changed), after
        for pane, image, verdict in zip(panes, images, (before, after), strict=True):
            if image is not None and verdict is not None and verdict.masks is not None:
                image = inspection.overlay(image, verdict.masks[0], self.opacity.value() / 100, COVER)
            pane.set_image(None if image is None else image.transpose(1, 2, 0))

    def _show_difference(self) -> None:
        if self._image is not None and self._changed is not None:
            shown = inspection.difference(self._image, self._changed, self.gain.currentData())
            self.difference.set_image(shown.transpose(1, 2, 0))
            self.difference.set_note(f"×{self.gain.currentData()}")

    def _set_size(self, image: Pixels) -> None:
        """All panes at once, the empty ones too: linked, they show the same part."""
        for pane in self.panes:
            pane.set_size(image.shape[-1])

    def _rescale_masks(self) -> None:
        scale = self.mask_scale.currentData()
        self.mask_change.set_levels((-scale, scale))
        self.mask_change.set_note(f"±{scale:g}")
        self.change_bar.set_ends(f"−{scale:g} less", f"+{scale:g} more")

    def _point_at(self, pixel: Pixel | None) -> None:
        self._pixel = pixel
        for pane in self.panes:
            pane.mark(pixel if pane.array is not None else None)
        text = self.values_at(pixel)
        self.status.setText(text)
        self.status.setToolTip(text)

    def values_at(self, pixel: Pixel | None) -> str:
        """The values of all panes at (row, column) in words."""
        if pixel is None or self._image is None:
            return "Point at a pixel for its values; wheel zooms, drag pans, double click shows the whole image."
        row, column = pixel
        benign = self._image[:, row, column].astype(np.int64)
        parts = [f"row {row}, column {column}", f"original {_triple(benign)}"]
        if self._changed is not None:
            adversarial = self._changed[:, row, column].astype(np.int64)
            parts += [f"adversarial {_triple(adversarial)}", f"difference {_triple(adversarial - benign, '+d')}"]
        masks = [pane.array for pane in (self.benign_mask, self.adversarial_mask) if pane.array is not None]
        values = [float(mask[pixel]) for mask in masks]
        if values:
            parts.append("importance " + " → ".join(f"{value:.2f}" for value in values))
        if values[1:]:
            parts[-1] += f" ({values[1] - values[0]:+.2f})"
        return " · ".join(parts)


def _triple(values: npt.NDArray[np.int64], form: str = "d") -> str:
    return ", ".join(format(int(v), form) for v in values)


def _with_choice(title: str, box: QComboBox, large: bool = False) -> QWidget:
    holder = QWidget()
    in_row((label_of(box, f"<b><big>{title}</big></b>" if large else title), 1), box, parent=holder, margins=0)
    return holder
