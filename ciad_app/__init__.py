"""The window of CIAD: everything that is seen. It imports the engine and is imported by nobody."""

# Debian's names of the system libraries that Qt needs and its wheel does not bring.
QT_LIBRARIES = "libegl1 libgl1 libxkbcommon0 libxcb-cursor0 libdbus-1-3 libfontconfig1"
