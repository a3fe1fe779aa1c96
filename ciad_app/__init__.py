"""The window of CIAD: everything that is seen. It imports the engine and is imported by nobody."""

# Debian's names of the system libraries that Qt needs and its wheel does not bring: those of `packaging/system.py`,
# which is not there where the program was installed from a wheel.
QT_LIBRARIES = (
    "libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libx11-6 libx11-xcb1 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0 "
    "libxkbcommon0"
)
INSTALL_QT = f"\nOn Debian and Ubuntu install what Qt needs with:\n  sudo apt-get install -y {QT_LIBRARIES}"
