"""Errors whose text is written for the person who meets them.

Every message says what happened, to which file or setting, and what to do about it. The command
line prints it and exits with 1, the window shows it as it is; any other exception is a bug.
"""

from __future__ import annotations


class CiadError(Exception):
    """Base of all errors with a message for a person."""


class ImageError(CiadError):
    """A picture cannot be read or used."""


class DataError(CiadError):
    """A data set is missing, damaged or not what it claims to be."""


class BundleError(CiadError):
    """A trained system on disk is missing, damaged or from another format version."""


class SettingError(CiadError, ValueError):
    """A parameter is out of its range or does not fit the others. Names field, value and range."""


class OutputError(CiadError):
    """A file or folder cannot be written, or may not be replaced."""


class RunError(CiadError):
    """The results database or a run in it cannot be used."""


def said(error: BaseException) -> str:
    """Return what an error says, one of another package too, whose own text may fail."""
    try:
        return str(error)
    except BaseException:
        return "(its text cannot be read)"


# What reading damaged or hostile data raises, beside the errors of the system. Each reader of our own files turns it
# into a CiadError that names the file.
DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
