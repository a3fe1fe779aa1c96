"""Durations as people say them."""

from __future__ import annotations

import time
from collections.abc import Callable

_SETTLE = 2.0  # seconds before a remaining time is worth showing


def duration(seconds: float) -> str:
    """For what one waits for: "12 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Pace:
    """The remaining time of work whose units all take about as long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text: str | None = None
        self._started, self._first, self._last = 0.0, 0, 0  # when this stretch was first seen, and how far it was

    def left(self, done: int, total: int, text: str) -> str:
        """Return e.g. "about 3 min left" if `done` of `total` units are done; "" as long as it is not known."""
        if text != self._text or done < self._last:  # the next stretch of work, or a continued one
            self._text, self._started, self._first = text, self._clock(), done
        self._last = done
        seconds, count = self._clock() - self._started, done - self._first
        if seconds < _SETTLE or count <= 0 or done >= total:
            return ""
        return f"about {duration(seconds * (total - done) / count)} left"
