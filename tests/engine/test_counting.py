"""Counts, probabilities and lists as people write them."""

from __future__ import annotations

import pytest

from ciad_engine.counting import capitalised, counted, listed, percent


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(k, "image") for k in (0, 1, 2, 12_000)] == ["0 images", "1 image", "2 images", "12,000 images"]
    assert [counted(k, "class", "classes") for k in (1, 3)] == ["1 class", "3 classes"]


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<1%"),
        (0.004, "<1%"),
        (0.01, "1%"),
        (0.934, "93%"),
        (0.997, ">99%"),
        (0.9999, "100%"),
        (1.0, "100%"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_a_list_has_its_and_before_the_last() -> None:
    assert [listed(words) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_a_sentence_begins_with_a_capital_and_stays_as_it_is_behind_it() -> None:
    assert capitalised("the MLP on f1's image") == "The MLP on f1's image"
