"""ROC curves and histograms of scores of the shown run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPalette, QPen, QPixmap, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QLabel, QListView, QListWidget, QListWidgetItem, QWidget

from ciad_app.widgets.build import choice, in_column, in_row, label_of, refill
from ciad_engine import detectors
from ciad_engine.evaluation.curves import Curve, edges, score_plot
from ciad_engine.evaluation.records import POOLED, Thresholds
from ciad_engine.figures.chart import Plot, line_style

_EMPTY = "Curves appear here as soon as the first attacks have succeeded."
_VEIL = 70  # of 255: how dense the colour under a histogram's outline is
_WIDTH = 2.2  # pixels of a line
_ROOM = 5  # curves whose names find room in the plot, below the curves
_LINE = QSize(36, 12)  # pixels of a piece of line beside a name
_LONGER = 1.5  # dashes of the charts in files, in pixels


class CurvesView(QWidget):
    """Left the ROC curves of every attack by one detector, right one attack's scores before and after it.

    Many curves are named in a list below the plots, where a click chooses the attack; a few in the plot itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._curves: tuple[Curve, ...] = ()
        self._thresholds: Mapping[str, Thresholds] = {}
        self.empty = QLabel(_EMPTY)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.detector = choice("", "The detector whose score separates adversarial from benign images")
        self.attack = choice("", "The attack whose images the histogram counts")
        self.roc = _plot("ROC curves", "False positive rate", "True positive rate")
        self.roc.setRange(xRange=(0, 1), yRange=(0, 1), padding=0.01)
        self.scores = _plot("Histogram of the scores", "Score: -log p of f1's class", "Rate of the images")
        # Where no curve passes; that of the histogram below the labels of its vertical lines.
        self._legends = [
            plot.addLegend(offset=offset) for plot, offset in ((self.roc, (-12, -12)), (self.scores, (-12, 36)))
        ]

        self.names = QListWidget()
        self.names.setAccessibleName("ROC curves by attack")
        self.names.setFlow(QListView.Flow.LeftToRight)
        self.names.setWrapping(True)
        self.names.setResizeMode(QListView.ResizeMode.Adjust)
        self.names.setIconSize(_LINE)
        for bar in (self.names.setHorizontalScrollBarPolicy, self.names.setVerticalScrollBarPolicy):
            bar(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # it is as high as its rows
        self.names.setToolTip("Area under the ROC curve (AUROC); click an attack to see its scores")
        self.names.itemClicked.connect(lambda item: self.attack.setCurrentIndex(self.names.row(item)))

        self._body = QWidget()
        left = in_column(in_row(label_of(self.detector, "Dete&ctor"), (self.detector, 1)), (self.roc, 1))
        right = in_column(in_row(label_of(self.attack, "&Attack"), (self.attack, 1)), (self.scores, 1))
        in_column((in_row((left, 1), (right, 1)), 1), self.names, parent=self._body, margins=0)
        in_column((self.empty, 1), (self._body, 1), parent=self, margins=4)
        self.detector.currentIndexChanged.connect(lambda _: self._draw())
        self.attack.currentIndexChanged.connect(lambda _: self._draw())
        self._restyle()
        self.show_curves((), {})

    def show_curves(self, found: Sequence[Curve], thresholds: Mapping[str, Thresholds]) -> None:
        """Show these curves, and each detector's thresholds. No curve clears the view.

        What is chosen stays chosen where it is still there.
        """
        self._curves, self._thresholds = tuple(found), thresholds
        for box, entries, first in (
            (self.detector, {curve.detector: detectors.title(curve.detector) for curve in found}, detectors.MASK),
            (self.attack, {curve.label: curve.title for curve in found}, POOLED),
        ):
            refill(box, entries, box.currentData() if box.currentData() in entries else first)
        self.empty.setVisible(not found)
        self._body.setVisible(bool(found))
        self._draw()

    def clear(self, computing: bool) -> None:
        """No curves; `computing` says that they are on their way."""
        self.empty.setText("The curves are being computed …" if computing else _EMPTY)
        self.show_curves((), {})

    def _draw(self) -> None:
        """Draw what is chosen; behind another tab not before somebody looks, for it takes a while."""
        if not self.isVisible():
            return
        shown = [curve for curve in self._curves if curve.detector == self.detector.currentData()]
        for plot, legend in zip((self.roc, self.scores), self._legends, strict=True):
            plot.clear()
            legend.clear()
        self.roc.addItem(_line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "#999999", (2, 4), 1.0), ignoreBounds=True)
        self.names.clear()
        for k, curve in enumerate(shown):
            colour, dashes = line_style(k, curve.pooled)
            ink = self._ink().name() if curve.pooled else colour  # grey is hard to see on dark
            line = _line(curve.false, curve.true, ink, dashes, name=f"{curve.title}: AUROC {curve.auroc.text()}")
            self.roc.addItem(line)
            area = dataclasses.replace(curve.auroc, low=None).text()  # its interval is in the tooltip
            item = QListWidgetItem(_piece(line.opts["pen"]), f"{curve.title}: AUROC {area}")
            item.setToolTip(line.name())
            self.names.addItem(item)
        self._legends[0].setVisible(len(shown) <= _ROOM)
        self.names.setVisible(len(shown) > _ROOM)
        self.names.setCurrentRow(self.attack.currentIndex())
        self._fit_names()
        chosen = next((curve for curve in shown if curve.label == self.attack.currentData()), None)
        if chosen is not None:
            self._draw_scores(score_plot(chosen, edges(shown), self._thresholds.get(chosen.detector, {})))

    def _fit_names(self) -> None:
        """In columns, and as high as they need."""
        if not self.names.count():
            return
        sizes = [self.names.sizeHintForIndex(self.names.model().index(k, 0)) for k in range(self.names.count())]
        cell = QSize(max(size.width() for size in sizes) + 12, max(size.height() for size in sizes))
        self.names.setGridSize(cell)
        across = max(1, (self.width() - 24) // cell.width())
        rows = -(-self.names.count() // across)
        self.names.setFixedHeight(rows * cell.height() + 2 * self.names.frameWidth())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_names()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._draw()

    def _draw_scores(self, plot: Plot) -> None:
        for one in plot.series:
            veil, pen = QColor(one.colour), _pen(one.colour, one.dashes)
            veil.setAlpha(_VEIL)
            self.scores.addItem(pg.PlotDataItem(one.x, one.y, fillLevel=0, brush=veil, pen=pen, name=one.label))
        for value, rate in plot.marks:
            mark = pg.InfiniteLine(
                value,
                pen=pg.mkPen(self._ink(), width=1, style=Qt.PenStyle.DashLine),
                label=rate,
                labelOpts={"position": 0.94, "color": self._ink(), "anchors": [(0, 0.5), (0, 0.5)]},
            )
            mark.setToolTip(f"Threshold at a false positive rate of {rate} on validation images")
            self.scores.addItem(mark, ignoreBounds=True)
        self.scores.setRange(xRange=plot.x_range, yRange=plot.y_range, padding=0.01)

    def _ink(self) -> QColor:
        return self.palette().color(QPalette.ColorRole.Text)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._restyle()
            self._draw()

    def _restyle(self) -> None:
        """pyqtgraph does not follow the theme or the font size by itself."""
        for plot, legend in zip((self.roc, self.scores), self._legends, strict=True):
            plot.setBackground(self.palette().color(QPalette.ColorRole.Base))
            legend.setLabelTextColor(self._ink())
            legend.setLabelTextSize(f"{self.font().pointSize()}pt")
            for side in ("left", "bottom"):
                axis = plot.getAxis(side)
                axis.setPen(self._ink())
                axis.setTextPen(self._ink())
                axis.setTickFont(self.font())
                axis.label.setFont(self.font())


def _plot(name: str, across: str, up: str) -> pg.PlotWidget:
    plot = pg.PlotWidget()
    plot.setAccessibleName(name)
    plot.setLabel("bottom", across)
    plot.setLabel("left", up)
    plot.showGrid(x=True, y=True, alpha=0.15)
    plot.getAxis("left").enableAutoSIPrefix(False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.setMouseEnabled(False, False)  # a wheel over a plot would lose what is shown
    return plot


def _line(
    x: np.ndarray, y: np.ndarray, colour: str, dashes: Sequence[float], width: float = _WIDTH, name: str | None = None
) -> pg.PlotDataItem:
    return pg.PlotDataItem(x, y, pen=_pen(colour, dashes, width), name=name, antialias=True)


def _piece(pen: QPen) -> QIcon:
    """A piece of a line with this pen, to stand beside a name."""
    pixmap = QPixmap(_LINE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setPen(pen)
    painter.drawLine(0, _LINE.height() // 2, _LINE.width(), _LINE.height() // 2)
    painter.end()
    return QIcon(pixmap)


def _pen(colour: str, dashes: Sequence[float], width: float = _WIDTH) -> QPen:
    pen: QPen = pg.mkPen(colour, width=width)
    if dashes:
        pen.setDashPattern([_LONGER * length / width for length in dashes])
    return pen
