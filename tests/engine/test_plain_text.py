"""Names and paths as text: what a stranger chose cannot harm a terminal, a file or a window."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciad_engine.plain_text import REPLACEMENT, plain, plain_data, plain_lines

ANY = st.text(st.characters(codec=None, categories=None))
HOSTILE = st.lists(st.sampled_from(["\udce9", "\ud800", "\x1b[2J", "\x9b31m", "\r", "\n", "\u202e", "é", "模"])).map(
    "".join
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat.png", "cat.png"),
        ("café 模型 👩‍🔬.png", "café 模型 👩‍🔬.png"),
        ("caf\udce9.png", f"caf{REPLACEMENT}.png"),
        ("a\x1b[31mb\x07", f"a{REPLACEMENT}[31mb{REPLACEMENT}"),
        ("a\nb\tc\r\n", "a b c  "),
        ("gpj.\u202etac", f"gpj.{REPLACEMENT}tac"),
        ("\x9b2J\x7f", f"{REPLACEMENT}2J{REPLACEMENT}"),
    ],
)
def test_examples(name: str, text: str) -> None:
    assert plain(name) == text


@given(ANY | HOSTILE)
def test_any_text_becomes_one_line_that_every_file_and_terminal_takes(name: str) -> None:
    text = plain(name)
    text.encode()
    assert len(text) == len(name)
    assert not any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text)
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert plain(text) == text
    assert "\n" not in text
    assert plain_lines(f"{name}\n{name}".replace("\n\n", "\n")).count("\n") >= 1


@given(st.dictionaries(HOSTILE, st.lists(HOSTILE | st.integers() | st.none() | st.floats(allow_nan=False))))
def test_data_become_plain_wherever_text_is_in_them(content: dict[str, list[object]]) -> None:
    found = plain_data(content)
    json.dumps(found, ensure_ascii=False).encode()
    assert all(plain(key) == key for key in found)
    numbers = [[one for one in values if not isinstance(one, str)] for values in content.values()]
    if len(found) == len(content):
        assert [[one for one in values if not isinstance(one, str)] for values in found.values()] == numbers
