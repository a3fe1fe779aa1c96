"""Points in time as files store them: ISO 8601 with an offset from UTC."""

from __future__ import annotations

from datetime import UTC, datetime

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def instant(text: object) -> datetime:
    """Return a moment to sort by: two texts with different offsets compare as the moments that they mean.

    A time without an offset is taken as UTC; what is no time comes before all that are.
    """
    try:
        found = datetime.fromisoformat(str(text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return _LONG_AGO


def local(text: str) -> datetime | None:
    """Return the moment in the time zone of this machine, so that a list reads in its order; None if it is none."""
    found = instant(text)
    try:
        return None if found == _LONG_AGO else found.astimezone()
    except (OSError, OverflowError, ValueError):  # beyond what the system's clock knows
        return found
