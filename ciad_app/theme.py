"""How everything looks: style, light or dark, font size."""

from __future__ import annotations

import pyqtgraph
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication

from ciad_app.settings import FONT_SIZES, Settings

_SCHEMES = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark, "system": Qt.ColorScheme.Unknown}
_SYSTEM_SIZE = "ciadSystemFontSize"  # a property of the application, so that two applications do not share it


def prepare(app: QApplication) -> None:
    """Once, before the first widget."""
    # Fusion is the one style that follows dark and light on every platform.
    app.setStyle("Fusion")
    app.setProperty(_SYSTEM_SIZE, app.font().pointSize())
    # pyqtgraph's default is column-major, which shows every image transposed.
    pyqtgraph.setConfigOptions(imageAxisOrder="row-major")


def apply(app: QApplication, settings: Settings) -> None:
    """Colours and font size from the settings, for all widgets there are and will be."""
    app.styleHints().setColorScheme(_SCHEMES[settings.scheme])
    app.setPalette(QPalette())  # the style's own, also after an earlier fallback below
    wants_dark = settings.scheme == "dark"
    if settings.scheme != "system" and is_dark(app) != wants_dark:
        # Platforms without a theme of their own ignore the colour scheme.
        app.setPalette(_dark_palette() if wants_dark else app.style().standardPalette())
    font = QFont(app.font())
    font.setPointSize(settings.font_size or system_font_size(app))
    app.setFont(font)


def is_dark(app: QApplication) -> bool:
    return app.palette().color(QPalette.ColorRole.Window).lightness() < 128


def system_font_size(app: QApplication) -> int:
    """In points. A font given in pixels has no point size; then a usual one."""
    size = app.property(_SYSTEM_SIZE)
    return size if isinstance(size, int) and size > 0 else 10


def font_size(app: QApplication, settings: Settings, step: int) -> int:
    """The font size `step` points from the one in use, within what is allowed."""
    low, high = FONT_SIZES
    return min(max((settings.font_size or system_font_size(app)) + step, low), high)


def _dark_palette() -> QPalette:
    palette = QPalette(QColor(48, 50, 54))  # the button colour; Qt derives the shades of frames from it
    role = QPalette.ColorRole
    for r, colour in {
        role.Window: QColor(37, 39, 43),
        role.WindowText: QColor(232, 232, 232),
        role.Base: QColor(27, 29, 32),
        role.AlternateBase: QColor(44, 46, 50),
        role.Text: QColor(232, 232, 232),
        role.ButtonText: QColor(232, 232, 232),
        role.ToolTipBase: QColor(60, 62, 66),
        role.ToolTipText: QColor(232, 232, 232),
        role.PlaceholderText: QColor(150, 150, 150),
        role.Highlight: QColor(64, 128, 200),
        role.HighlightedText: QColor(255, 255, 255),
        role.Link: QColor(110, 170, 240),
    }.items():
        palette.setColor(r, colour)
    for r in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, r, QColor(128, 128, 128))
    return palette
