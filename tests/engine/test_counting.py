"""Counts with their nouns."""

from __future__ import annotations

from ciad_engine.counting import counted


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(k, "image") for k in (0, 1, 2, 12_000)] == ["0 images", "1 image", "2 images", "12,000 images"]
    assert [counted(k, "class", "classes") for k in (1, 3)] == ["1 class", "3 classes"]
