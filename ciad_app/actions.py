"""The menu bar: every action with its shortcut and its tip, made in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

Key = QKeySequence.StandardKey
Role = QAction.MenuRole
MenuRow = tuple[Any, ...] | None


def action(
    parent: QWidget,
    text: str,
    slot: Callable[[], object],
    tip: str,
    shortcuts: tuple[str | QKeySequence.StandardKey, ...] = (),
    role: QAction.MenuRole = QAction.MenuRole.NoRole,
) -> QAction:
    """Make an action of `parent`, reachable by its shortcuts wherever the focus is; the menu shows the first of them.

    Shortcuts are standard keys or sequences such as "Ctrl+E". `tip` is shown in the status bar, and as tool tip with
    the shortcut. `role` is where macOS moves the action; by default nowhere, whatever its text reminds macOS of.
    """
    made = QAction(text, parent)
    keys: list[QKeySequence] = []
    for shortcut in shortcuts:
        # A platform may have several keys for a standard one, or none.
        meant = [QKeySequence(shortcut)] if isinstance(shortcut, str) else QKeySequence.keyBindings(shortcut)
        keys += [key for key in meant if key not in keys]  # twice, it would be ambiguous
    made.setShortcuts(keys)
    made.setStatusTip(tip)
    made.setToolTip(f"{tip} ({keys[0].toString(QKeySequence.SequenceFormat.NativeText)})" if keys else tip)
    made.setMenuRole(role)
    made.triggered.connect(lambda _checked=False: slot())
    parent.addAction(made)
    return made


def fill(parent: QWidget, menu: QMenu, rows: Sequence[MenuRow]) -> None:
    """Fill a menu: a row is None for a separator, or the arguments of `action` after `parent`."""
    for row in rows:
        if row is None:
            menu.addSeparator()
        else:
            menu.addAction(action(parent, *row))


def choice(
    parent: QWidget, menu: QMenu, chosen: str, options: dict[str, tuple[str, str]], slot: Callable[[str], object]
) -> QActionGroup:
    """Exclusive actions in `menu`; `options` maps a value to text and tip, `slot` gets the value."""
    group = QActionGroup(parent)
    for value, (text, tip) in options.items():
        made = action(parent, text, lambda value=value: slot(value), tip)  # type: ignore[misc]
        made.setCheckable(True)
        made.setChecked(value == chosen)
        made.setData(value)
        group.addAction(made)
        menu.addAction(made)
    return group
