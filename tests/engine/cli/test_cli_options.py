"""Flags generated from the attacks' schema, and the settings that come out of them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from ciad_engine import attacks
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.attacks.parameters import check, parameter
from ciad_engine.cli import options
from ciad_engine.cli.options import WrongUse

CLASSES = ("beech", "oak")  # of the bundle


@dataclasses.dataclass(frozen=True)
class Push:
    name = "push"
    eps: float = parameter(8.0, "Budget", "Largest change of a value.", low=0, high=255, unit="/255")
    steps: int = parameter(10, "Steps", "How many steps, 100 % of them taken.", low=1, high=100)
    keep: bool = parameter(True, "Keep", "Keep the best.")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class Pull:
    name = "pull"
    steps: int = parameter(20, "Steps", "How many steps.", low=1, high=1000)
    keep: bool = parameter(True, "Keep", "Keep the best.")
    towards: str = parameter("random", "Towards", "Which class.", choices=("random", "next"))
    seed: int = parameter(0, "Seed", "Seed of the random class.", low=0)

    def __post_init__(self) -> None:
        check(self)


@pytest.fixture(autouse=True)
def two_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "_OWN", {"push": Push, "pull": Pull})


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seed", type=options.seed, default=7)
    options.add_attack_settings(parser)
    return parser.parse_args(words)


def test_settings_arrive_with_their_kinds() -> None:
    attack = options.create_attack(parse("--eps", "4", "--steps", "3", "--keep", "no"), "push", CLASSES)
    assert attack == Push(eps=4.0, steps=3, keep=False)
    attack = options.create_attack(parse("--towards", "next", "--set", "pull.seed=3"), "pull", CLASSES)
    assert attack == Pull(towards="next", seed=3)


def test_a_target_class_says_that_it_is_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "_OWN", {"fgsm": FGSM})
    for words in (["--target-class", "Oak"], ["--set", "fgsm.target_class=oak"], ["--target-class", "1"]):
        made = options.create_attack(parse(*words), "fgsm", CLASSES)
        assert made is not None
        assert (made.target, made.target_class) == ("given", 1)
    made = options.create_attack(parse("--target-class", "oak", "--target", "next"), "fgsm", CLASSES)
    assert made is not None
    assert made.target == "next"


def test_set_leaves_the_spaces_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "_OWN", {"fgsm": FGSM})
    classes = ("oak", " oak", "white  oak ")
    for text, number in (("oak", 0), (" oak", 1), ("  oak ", 0), ("white  oak ", 2), (" 2", 2)):
        made = options.create_attack(parse("--set", f" fgsm . target_class ={text}"), "fgsm", classes)
        assert made is not None
        assert made.target_class == number
    made = options.create_attack(parse("--set", "fgsm.eps = 4", "--set", "fgsm.target = next "), "fgsm", classes)
    assert made is not None
    assert (made.eps, made.target) == (4.0, "next")


@pytest.mark.parametrize("name", ["cat", "2", "-1", ""])
def test_a_target_class_is_one_of_the_bundles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "_OWN", {"fgsm": FGSM})
    with pytest.raises(WrongUse, match=rf"^fgsm: target_class: '{name}' is none of beech, oak \(or 0 to 1\)\.$"):
        options.create_attack(parse(f"--target-class={name}"), "fgsm", CLASSES)


def test_nothing_said_means_defaults() -> None:
    assert options.create_attack(parse(), "push", CLASSES) == Push()
    assert options.create_attack(parse(), None, CLASSES) is None


def test_several_attacks_share_the_command_line() -> None:
    arguments = parse("--eps", "4", "--set", "push.steps=2", "--set", "pull.steps=500")
    assert options.attack_settings(arguments, ["push", "pull"], CLASSES) == {
        "push": {"eps": 4.0, "steps": 2},
        "pull": {"steps": 500},
    }


@pytest.mark.parametrize(
    ("words", "names", "sentence"),
    [
        (["--eps", "1"], ["pull"], "--eps is a setting of push, not of pull."),
        (["--eps", "1"], [], "--eps is a setting of push, not of a plain inspection."),
        (
            ["--steps", "1"],
            ["push", "pull"],
            "--steps is a setting of push and pull; choose one: --set push.steps=...",
        ),
        (["--eps", "much"], ["push"], "push: eps = 'much' is not a number from 0 to 255 grey levels."),
        (["--steps", "1.5"], ["push"], "push: steps = '1.5' is not a whole number from 1 to 100."),
        (["--keep", "maybe"], ["push"], "push: keep = 'maybe' is neither yes nor no."),
        (["--set", "push.eps"], ["push"], "--set push.eps: write it as ATTACK.NAME=VALUE, for instance fgsm.eps=4."),
        (["--set", "eps=1"], ["push"], "--set eps=1: write it as ATTACK.NAME=VALUE, for instance fgsm.eps=4."),
        (["--set", "pull.steps=1"], ["push"], "--set pull.steps=1: the attack 'pull' is not among push."),
        (["--set", "pull.steps=1"], [], "--set pull.steps=1: the attack 'pull' is not asked for."),
        (["--set", "push.x=1"], ["push"], "--set push.x=1: push has no setting 'x'; it has eps, steps, keep."),
        ([], ["kick"], "attack: 'kick' is none of push, pull."),
    ],
)
def test_what_makes_no_sense_is_said(words: list[str], names: list[str], sentence: str) -> None:
    with pytest.raises(WrongUse) as caught:
        options.attack_settings(parse(*words), names, CLASSES)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", ["256", "-1", "nan", "inf"])
def test_a_value_out_of_range_is_wrong_use(value: str) -> None:
    with pytest.raises(WrongUse, match=r"eps = .* is not a number from 0 to 255 grey levels"):
        options.create_attack(parse(f"--eps={value}"), "push", CLASSES)


def test_help_is_made_from_the_schema() -> None:
    parser = argparse.ArgumentParser()
    options.add_attack_settings(parser)
    text = " ".join(parser.format_help().split())
    assert "--eps X push: Largest change of a value, from 0 to 255 grey levels (default: 8)" in text
    assert "push: How many steps, 100 % of them taken, from 1 to 100 (default: 10); pull: How many steps" in text
    assert "--towards CHOICE pull: Which class, one of random, next (default: random)" in text
    assert "--keep yes|no push, pull: Keep the best (default: yes)" in text


def test_a_commands_own_flag_wins() -> None:
    assert parse("--seed", "9").seed == 9
    assert options.attack_settings(parse("--seed", "9"), ["pull"], CLASSES) == {"pull": {}}


def test_labels_by_name_and_number() -> None:
    classes = ("airplane", "cat")
    assert options.label_number(None, classes) is None
    assert options.label_number("CAT", classes) == 1
    assert options.label_number("0", classes) == 0
    assert options.label_number("CAT", (*classes, "CAT")) == len(classes)
    for wrong in ("dog", "2", "-1", "²", ""):
        with pytest.raises(WrongUse, match="airplane, cat"):
            options.label_number(wrong, classes)


def test_patterns_are_expanded_and_names_kept(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "[1].png"):
        (tmp_path / name).touch()
    assert options.expand([str(tmp_path / "?.png")]) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert options.expand([str(tmp_path / "[1].png")]) == [str(tmp_path / "[1].png")]
    assert options.expand([str(tmp_path / "none*.png")]) == [str(tmp_path / "none*.png")]


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many", ""])
def test_numbers_of_images_are_positive(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.positive(text)
    assert options.positive("12") == 12


@pytest.mark.parametrize("text", ["-1", "4294967296", "x"])
def test_seeds_fit_every_generator(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.seed(text)
    assert options.seed("4294967295") == 4294967295
