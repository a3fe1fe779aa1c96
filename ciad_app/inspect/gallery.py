"""The loaded images as thumbnails: a model over arrays, a filter, and the list with its controls."""

from __future__ import annotations

import base64
import dataclasses
import functools

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import (
    QAbstractListModel,
    QBuffer,
    QIODevice,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QSignalBlocker,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QLabel, QLineEdit, QListView, QWidget

from ciad_app.inspect.collection import UNKNOWN, Collection, Entry, of_entries
from ciad_app.widgets.build import FollowsFont, choice, in_column
from ciad_engine.counting import counted

Index = QModelIndex | QPersistentModelIndex

ENTRY_ROLE = Qt.ItemDataRole.UserRole  # the Entry of a row; works through the filter
LABEL_ROLE = Qt.ItemDataRole.UserRole + 1
THUMBNAIL = 64  # logical pixels
_SCALE = 2  # drawn at twice the size, so that it stays sharp on a dense screen
_WIDEST = 100  # of a class name; a longer one is cut
_CACHED = 1500  # thumbnails; 10,000 of them would take 600 MB


def to_qimage(pixels: npt.NDArray[np.uint8]) -> QImage:
    """A QImage that owns its memory, from uint8 (3, H, W)."""
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    height, width, _ = rows.shape
    return QImage(rows.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def tip_of(entry: Entry, label: str) -> str:
    """Name, class and what was done to a picture, with the picture as it was."""
    lines = [line for line in (entry.name, label, entry.note) if line]
    if entry.original is None:
        return "\n".join(lines)
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    to_qimage(entry.original.transpose(2, 0, 1)).save(buffer, "PNG")  # type: ignore[call-overload]
    picture = base64.b64encode(buffer.data().data()).decode()
    text = "<br>".join(line.replace("&", "&amp;").replace("<", "&lt;") for line in lines)
    return f'{text}<br>The original:<br><img src="data:image/png;base64,{picture}">'


class GalleryModel(QAbstractListModel):
    """Rows of a Collection; a thumbnail is made when it is first painted and kept for a while."""

    def __init__(self, classes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.classes = classes  # names in label order, empty until they are known
        self.cell = QSize(THUMBNAIL, THUMBNAIL)  # of every item, text included; set by the list
        self.collection = of_entries("", [])
        self._thumbnail = functools.lru_cache(_CACHED)(self._make_thumbnail)

    def show_collection(self, collection: Collection) -> None:
        self.beginResetModel()
        self.collection = collection
        self._thumbnail.cache_clear()
        self.endResetModel()

    def set_classes(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        if len(self.collection):
            self.dataChanged.emit(self.index(0), self.index(len(self.collection) - 1))

    def class_name(self, label: int) -> str:
        """The name of a class, "?" where the label is unknown."""
        if label == UNKNOWN:
            return "?"
        return self.classes[label] if label < len(self.classes) else f"class {label}"

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self.collection)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid() or index.row() >= len(self.collection):
            return None
        row = index.row()
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnail(row)
        if role == Qt.ItemDataRole.SizeHintRole:
            return self.cell  # or the list would take the width of its first image's name for all
        if role == LABEL_ROLE:
            return int(self.collection.labels[row])
        if role == ENTRY_ROLE:
            return self.collection.entry(row)
        label, name = int(self.collection.labels[row]), self.collection.names[row]
        if role == Qt.ItemDataRole.DisplayRole:
            return name if label == UNKNOWN else self.class_name(label)
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{name}, class not known" if label == UNKNOWN else f"{name}, {self.class_name(label)}"
        return None

    def _make_thumbnail(self, row: int) -> QPixmap:
        image = to_qimage(self.collection.images[row])
        pixmap = QPixmap.fromImage(image.scaled(QSize(THUMBNAIL, THUMBNAIL) * _SCALE))  # fast: hard pixels
        pixmap.setDevicePixelRatio(_SCALE)
        return pixmap


class _Filter(QSortFilterProxyModel):
    """Admits one class, and names or classes that contain a text."""

    def __init__(self, model: GalleryModel) -> None:
        super().__init__()
        self._label: int | None = None
        self._text = ""
        self._model = model
        self.setSourceModel(model)

    def admit(self, label: int | None, text: str) -> None:
        # Qt 6.10 brought the pair of calls and deprecated the single one.
        paired = hasattr(self, "beginFilterChange") and hasattr(self, "endFilterChange")
        if paired:
            self.beginFilterChange()
        self._label, self._text = label, text.casefold()
        if paired:
            self.endFilterChange(QSortFilterProxyModel.Direction.Rows)
        else:
            self.invalidateRowsFilter()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:
        # Straight from the arrays: a model index a row would take seconds for 10,000 images.
        collection = self._model.collection
        label = int(collection.labels[row])
        if self._label is not None and label != self._label:
            return False
        return self._text in f"{collection.names[row]} {self._model.class_name(label)}".casefold()


class Gallery(FollowsFont, QWidget):
    """The list of images with the choice of set, class and name."""

    selected = Signal(object)  # Entry: somebody, or `select` and `step`, chose another image. A filter chooses none.
    again = Signal(object)  # Entry: the image that is selected already was clicked, or Enter was pressed on it

    def __init__(self) -> None:
        super().__init__()
        self._collections: dict[str, Collection] = {}
        self._chosen = -1  # row of the collection that was selected last, also while a filter hides it
        self._filtering = False
        self.model = GalleryModel()
        self.filter = _Filter(self.model)

        of_sets = "The loaded sets of images. Open or drop files to add more."
        self.sets = choice("Set of images", of_sets, short=True)
        self.sets.setMinimumContentsLength(10)
        self.classes = choice("Class filter")
        self.classes.addItem("All classes", None)
        self.text = QLineEdit()
        self.text.setPlaceholderText("Filter by name or class")
        self.text.setAccessibleName("Filter by name or class")
        self.text.setClearButtonEnabled(True)
        self.count = QLabel()
        self.count.setAccessibleName("Number of images")

        self.list = QListView()
        self.list.setAccessibleName("Images")
        self.list.setModel(self.filter)
        self.list.setViewMode(QListView.ViewMode.IconMode)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setMovement(QListView.Movement.Static)
        self.list.setUniformItemSizes(True)
        self.list.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setSelectionMode(QListView.SelectionMode.SingleSelection)
        self.list.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.list.setWordWrap(False)
        self.fit_font()
        in_column(self.sets, (self.list, 1), self.count, self.classes, self.text, parent=self, margins=0)
        self.sets.currentTextChanged.connect(self._switch)
        self.classes.currentIndexChanged.connect(self._refilter)
        self.text.textChanged.connect(self._refilter)
        # The selection and not the current index: that one moves already when the list gets the focus.
        self.list.selectionModel().selectionChanged.connect(self._selection_changed)
        self.list.clicked.connect(self._clicked)
        self.list.activated.connect(self._clicked)

    def fit_font(self) -> None:
        """Cells as wide as the longest class name, within reason, and all of one size."""
        metrics = self.list.fontMetrics()
        longest = max((metrics.horizontalAdvance(name) for name in self.model.classes), default=0)
        self.model.cell = QSize(min(max(THUMBNAIL, longest), _WIDEST) + 12, THUMBNAIL + metrics.height() + 6)
        self.list.setGridSize(self.model.cell + QSize(2, 4))

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Name the classes in the list and in the class filter."""
        self.model.set_classes(classes)
        self.fit_font()
        with QSignalBlocker(self.classes):
            while self.classes.count() > 1:
                self.classes.removeItem(1)
            for label, name in enumerate(classes):
                self.classes.addItem(name, label)
        self._refilter()

    def collection(self, title: str) -> Collection | None:
        return self._collections.get(title)

    def add_collection(self, collection: Collection) -> Collection:
        """Add a collection to the choice, in the place of the same one; nothing else changes.

        Another data set of its title stays: then the title gets a number. Returns what is in the choice.
        """
        title, number = collection.title, 1
        while (there := self._collections.get(title)) is not None and there.checksum != collection.checksum:
            number += 1
            title = f"{collection.title} ({number})"
        added = self._collections[title] = dataclasses.replace(collection, title=title)
        if self.sets.findText(title) < 0:
            with QSignalBlocker(self.sets):
                self.sets.addItem(title)
        return added

    def clear(self) -> None:
        """Show no images; all collections are forgotten."""
        self._collections.clear()
        with QSignalBlocker(self.sets):
            self.sets.clear()
        self.model.show_collection(of_entries("", []))
        self._chosen = -1
        self._refilter()

    def show_collection(self, collection: Collection, select: int = 0) -> None:
        """Add a collection as `add_collection` does, and select one of its images."""
        collection = self.add_collection(collection)
        self.sets.setToolTip(collection.title)
        with QSignalBlocker(self.sets), QSignalBlocker(self.text), QSignalBlocker(self.classes):
            self.sets.setCurrentText(collection.title)
            self.text.clear()  # what was just loaded must not be hidden by an old filter
            self.classes.setCurrentIndex(0)
        self.model.show_collection(collection)
        self._chosen = -1
        self._refilter()
        self.select(select)

    def _switch(self, title: str) -> None:
        collection = self._collections.get(title)
        if collection is not None:
            self.show_collection(collection)

    def _refilter(self) -> None:
        # Where the filter hides the selected image, Qt would select its neighbour, which nobody asked for.
        self._filtering = True
        self.filter.admit(self.classes.currentData(), self.text.text())
        kept = self.filter.mapFromSource(self.model.index(self._chosen)) if self._chosen >= 0 else QModelIndex()
        if kept.isValid():
            self.list.selectionModel().setCurrentIndex(kept, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        else:
            self.list.selectionModel().clear()
        self._filtering = False
        shown, whole = self.filter.rowCount(), self.model.rowCount()
        images = counted(whole, "image")
        self.count.setText(images if shown == whole else f"{shown:,} of {images}")

    def select(self, row: int) -> None:
        """Make a row of the collection current and scroll to it."""
        self._make_current(self.filter.mapFromSource(self.model.index(row)))

    def step(self, by: int) -> None:
        """Go to the next (1) or previous (-1) image of those shown; stops at the ends."""
        current = self.list.currentIndex()
        self._make_current(self.filter.index(current.row() + by if current.isValid() else 0, 0))

    def _make_current(self, index: QModelIndex) -> None:
        if index.isValid():
            self.list.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.ClearAndSelect)
            self.list.scrollTo(index)

    def current(self) -> Entry | None:
        index = self.list.currentIndex()
        return index.data(ENTRY_ROLE) if index.isValid() else None

    def _selection_changed(self, selected: QItemSelection, _deselected: QItemSelection) -> None:
        for index in selected.indexes():
            if not self._filtering:
                self._chosen = self.filter.mapToSource(index).row()
                self.selected.emit(index.data(ENTRY_ROLE))

    def _clicked(self, index: QModelIndex) -> None:
        # A click on another image was told by `selected` already; then this finds it in work, and is left alone.
        self.again.emit(index.data(ENTRY_ROLE))
