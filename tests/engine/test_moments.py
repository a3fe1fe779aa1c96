"""Times with different offsets compare as the moments that they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciad_engine import moments

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=OFFSETS)


@given(TIMES, TIMES)
def test_texts_sort_as_their_moments(one: datetime, other: datetime) -> None:
    texts = one.isoformat(), other.isoformat()
    assert (moments.instant(texts[0]) < moments.instant(texts[1])) == (one < other)
    assert moments.local(texts[0]) == one


@given(st.text() | st.none() | st.integers())
def test_what_is_no_time_comes_first(text: object) -> None:
    assert moments.instant(text) <= datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "at", None, "9999-99-99", "0001-01-01T00:00:00+14:00"])
def test_no_time(text: object) -> None:
    assert moments.instant(text) < moments.instant("1970-01-01T00:00:00")
    assert moments.local(str(text)) is None
