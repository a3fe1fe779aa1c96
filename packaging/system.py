"""Find or install what the program needs from the operating system: Qt's libraries and, on Debian, Python's venv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# What Qt loads from the system, and the Debian/Ubuntu package that holds it.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}
# The same for windows on an X11 display; without a display Qt draws offscreen and needs none of them.
DISPLAY_LIBRARIES = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}


class Stop(Exception):  # noqa: N818 - it carries a sentence for a person
    """Ends the script with one clear sentence and exit code 1."""


def say(text: str) -> None:
    print(text, flush=True)


def provide_system_packages(command: str, need_venv: bool) -> None:
    """List the system packages that are missing, or install them if nobody can be asked (root in CI)."""
    if not sys.platform.startswith("linux"):
        return
    missing = missing_libraries()
    packages = sorted(missing.values())
    no_venv = need_venv and not has_ensurepip()
    if no_venv:
        packages.append("python{}.{}-venv".format(*sys.version_info))
    if not packages:
        return
    names = ", ".join([*missing, *(["Python's venv module"] if no_venv else [])])
    if shutil.which("apt-get") is None:
        sentence = f"Missing on this system: {names}; install them with the system's package manager."
    else:
        sentence = f"Missing on this system: {names}; install them with:\n  {apt_line(packages)}"
        if os.geteuid() == 0 and (sys.stdin is None or not sys.stdin.isatty()):
            apt_install(packages)
            return
    if command == "install" and not no_venv:  # `ciad` works without Qt's libraries
        print(sentence, file=sys.stderr)
        return
    raise Stop(sentence)


def apt_line(packages: list[str]) -> str:
    return "sudo apt-get install --no-install-recommends " + " ".join(packages)


def apt_install(packages: list[str]) -> None:
    say("Installing system packages: " + " ".join(packages))
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for step in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *step], env=environment, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Stop(f"`apt-get {step[0]}` failed (its messages are above); by hand:\n  {apt_line(packages)}")


def missing_libraries() -> dict[str, str]:
    """Return the libraries that Qt would not find here, with their packages."""
    try:
        import ctypes
    except ImportError:  # a Python built without it: Qt itself will report what it misses
        return {}
    wanted = dict(LIBRARIES)
    if os.environ.get("DISPLAY"):
        wanted.update(DISPLAY_LIBRARIES)
    missing = {}
    for library, package in wanted.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = package
    return missing


def has_ensurepip() -> bool:
    """Return whether `venv` works: Debian's Python lacks ensurepip until its python3-venv package is installed."""
    from importlib.util import find_spec

    return find_spec("ensurepip") is not None
