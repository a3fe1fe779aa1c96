"""Every notation of a number is understood, or refused with the right reason."""

from __future__ import annotations

import argparse
import contextlib
import io
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciad_engine import attacks, cli, compute, typed_numbers
from ciad_engine.attacks.parameters import schema
from ciad_engine.cli import masks, options
from ciad_engine.errors import SettingError
from ciad_engine.typed_numbers import NotANumberError

CLASSES = ("beech", "oak")
FULL_WIDTH = str.maketrans("0123456789+-.e", "０１２３４５６７８９＋－．ｅ")
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, st.sampled_from("reg%f"), st.booleans(), st.sampled_from(["", " ", "\u00a0"]), st.booleans())
def test_all_notations_of_a_number_are_understood(value, notation, plus, space, wide):
    text = {"r": repr, "e": "{:e}".format, "g": "{:.17G}".format, "%": "{:.3f}".format,
            "f": lambda v: format(Decimal(repr(v)), "f")}[notation](value)  # fmt: skip
    wanted = float(text)
    if wanted == 0 != value:
        return
    text = space + ("+" if plus and not text.startswith("-") else "") + text + space
    assert typed_numbers.number(text.translate(FULL_WIDTH) if wide else text) == wanted


@given(st.integers(-(10**40), 10**40), st.sampled_from(["{}", "{}.0", "{:_}", "{}e0", "{}0e-1", "{}."]))
def test_whole_numbers_keep_all_their_digits(value, notation):
    assert typed_numbers.whole(notation.format(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("1 000", 1000), ("- 12 345", -12345), ("−5", -5), (" +7 ", 7), ("0" * 5000 + "8", 8),
     ("1E+2", 100), ("0e999999999999999999999", 0), ("-0", 0), ("٣", 3)],
)  # fmt: skip
def test_whole_numbers(text, value):
    assert typed_numbers.whole(text) == value
    assert isinstance(typed_numbers.whole(text), int)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1e400", "it is too large"), ("-1e400", "it is too large"), ("9" * 5000, "it is too large"),
        ("1e999999999999999999999", "it is too large"), ("1e-400", "it is too close to 0"),
        ("-0.0" + "0" * 5000 + "1", "it is too close to 0"), ("nan", "it has to be finite"),
        ("-inf", "it has to be finite"), ("Infinity", "it has to be finite"), ("0,5", "write a point, not a comma"),
        ("1,000", "write a point, not a comma"), ("0.0.1", ""), ("", ""), ("8/255", ""), ("0x10", ""), ("5²", ""),
        ("½", ""), ("1 2", ""), ("1e", ""), ("--5", ""), ("five", ""), ("1.2.3,4", ""),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_the_reason(text, why):
    for read in (typed_numbers.number, typed_numbers.whole):
        with pytest.raises(NotANumberError) as caught:
            read(text)
        assert caught.value.why == (f": {why}" if why else "")
        assert len(str(caught.value)) < 120


@pytest.mark.parametrize("text", ["1.000", "12.345", "-1.0000", "1.000.000"])
def test_a_whole_number_with_what_may_be_separators_is_refused(text):
    with pytest.raises(NotANumberError, match="not a number"):
        typed_numbers.whole(text)
    if text.count(".") == 1:
        assert typed_numbers.number(text) == float(text)


@given(st.text(max_size=12) | st.from_regex(r"[-+ ]?[\d.,_ eE+-]{1,12}", fullmatch=True))
def test_any_text_is_a_number_or_refused(text):
    for read in (typed_numbers.number, typed_numbers.whole):
        with contextlib.suppress(NotANumberError):
            assert np.isfinite(float(read(text)))


def refusal(*words: str) -> str:
    """What the command says that refuses these words, with exit code 2; "" if it goes on to look for its data."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = cli.main(["evaluate", "--data", "/nowhere", *words])
    said = " ".join(err.getvalue().split())
    assert code == (1 if "/nowhere" in said else 2), said
    return "" if code == 1 else said.partition("error: ")[2]


NEGATIVE = [
    "-1", "-1e-3", "-.5", "-1E+5", "-inf", "-nan", "-Infinity", "-1_000", "-8/255", "-1,5", "-１", "-٣", "-½", "-∞",
]  # fmt: skip


@pytest.mark.parametrize("text", [*NEGATIVE, "- 5", "1e400", "1e-400", "9" * 5000])
def test_a_negative_number_is_never_a_missing_argument(text):
    parser = options.Parser(allow_abbrev=False)
    parser.add_argument("-q", action="store_true")
    parser.add_argument("--eps")
    parser.add_argument("words", nargs="*")
    assert parser.parse_args(["--eps", text, "-q"]) == argparse.Namespace(eps=text, q=True, words=[])
    inner = parser.add_subparsers().add_parser("inner")
    assert isinstance(inner, options.Parser)


@pytest.mark.parametrize("words", [("--eps",), ("--eps", "-q"), ("--eps", "--limit", "1")])
def test_a_missing_argument_is_one(words):
    assert "argument --eps: expected one argument" in refusal("--attacks", "fgsm", *words)


@pytest.mark.parametrize("text", ["-1e-3", "-inf", "1e400", "9" * 5000, "abc", "0,5"])
def test_every_number_of_the_command_line_says_what_is_wrong(text):
    for words in (("--eps", text), ("--set", f"fgsm.eps={text}"), ("--limit", text), ("--seed", text)):
        said = refusal("--attacks", "fgsm", *words)
        assert "number from" in said
        assert "expected one argument" not in said
        assert len(said) < 200


@pytest.mark.parametrize("text", ["8", "8e0", "+8", "0.8E1", "８", "8/255", "8 /255", " 8 "])
def test_every_number_of_the_command_line_is_understood(text):
    parser = options.Parser()
    options.add_attack_settings(parser)
    for words in (["--eps", text], ["--set", f"fgsm.eps={text}"]):
        made = options.create_attack(parser.parse_args(words), "fgsm", CLASSES)
        assert made == attacks.create("fgsm", eps=8)
    if "/" not in text:
        assert options.positive(text) == options.seed(text) == masks._percent(text) == 8


@pytest.mark.parametrize("text", ["1", "+1", "1.0", "1e0", "１"])
def test_a_class_is_given_by_any_notation_of_its_number(text):
    assert options.label_number(text, CLASSES) == 1


@pytest.mark.parametrize("text", ["9" * 5000, "²", "-1", "1e400", "nan"])
def test_other_class_numbers_are_refused(text):
    with pytest.raises(options.WrongUse, match="is none of beech, oak"):
        options.label_number(text, CLASSES)


@pytest.mark.parametrize("text", ["cuda:" + "9" * 5000, "cuda:²", "cuda:-1", "cuda:1e400", "cuda:nan", "x" * 5000])
def test_other_devices_are_refused(text):
    with pytest.raises(SettingError, match="device: ") as caught:
        compute.choose_device(text)
    assert len(str(caught.value)) < 200


REFUSED = [10**5000, -(10**400), float("nan"), float("inf"), Fraction(10**400), 1j, True, None]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))  # pytest cannot write the first
def test_settings_refuse_numbers_that_are_out_of_range(value):
    with pytest.raises(SettingError, match=r"eps = .* is not a number from 0 to 255 grey levels"):
        attacks.create("fgsm", eps=value)
    with pytest.raises(SettingError, match=r"iterations = .* is not a whole number"):
        attacks.create("cw", iterations=value)


def test_settings_take_numbers_of_numpy():
    made = attacks.create("cw", iterations=np.int64(7), confidence=np.float32(0.5))
    assert made == attacks.create("cw", iterations=7, confidence=0.5)
    assert all(type(getattr(made, p.name)) is type(p.default) for p in schema(type(made)))
