"""Whether a window can be shown here. Asked before Qt is: where Qt finds no display it ends the program at once."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from pathlib import Path

# Platforms of Qt that show nothing to anybody.
_UNSEEN = ("offscreen", "minimal", "minimalegl")


def problem() -> str:
    """Why no window can be shown, as a sentence, or "" where one can as far as is known."""
    if sys.platform in ("win32", "darwin"):
        return ""
    platform = os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0]
    if platform in _UNSEEN:
        return f"No window can be seen with QT_QPA_PLATFORM={platform}"
    wayland, x11 = os.environ.get("WAYLAND_DISPLAY", ""), os.environ.get("DISPLAY", "")
    if platform and not platform.startswith(("xcb", "wayland")):
        return ""  # such as eglfs, which needs neither
    if platform == "xcb":
        wayland = ""
    elif platform == "wayland":
        x11 = ""
    if not wayland and not x11:
        return "No display found"
    if (wayland and _wayland_answers(wayland)) or (x11 and _x11_answers(x11)):
        return ""
    return f"The display {' or '.join(name for name in (wayland, x11) if name)} could not be opened"


def _wayland_answers(name: str) -> bool:
    path = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), name)  # an absolute name stands for itself
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _x11_answers(name: str) -> bool:
    """True also where the library is missing, with which one could tell."""
    try:
        library = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True
    library.XOpenDisplay.restype = ctypes.c_void_p
    library.XOpenDisplay.argtypes = [ctypes.c_char_p]
    library.XCloseDisplay.argtypes = [ctypes.c_void_p]
    found = library.XOpenDisplay(os.fsencode(name))
    if found:
        library.XCloseDisplay(found)
    return bool(found)
