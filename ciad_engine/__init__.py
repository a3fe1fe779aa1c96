"""The engine of CIAD: everything that computes, and nothing that is seen (no Qt below here).

Importing this package imports no torch, so that `ciad --version` and the first window are quick.
"""

from ciad_engine._version import __version__

__all__ = ["__version__"]
