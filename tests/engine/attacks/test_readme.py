"""The table of attacks in the README is made of the attacks themselves."""

from pathlib import Path

from ciad_engine import attacks

from . import test_contract

README = Path(__file__).resolve().parents[3] / "README.md"
DISTANCES = {"linf": "L∞", "l2": "L2", "l0": "L0"}


def test_the_readme_lists_every_attack():
    text = README.read_text(encoding="utf-8")
    lines = [line for line in text.partition("## Attacks")[2].splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | {cls.title} | {DISTANCES[cls.norm]} | {cls.source} |"
        for name, cls in ((name, attacks.get(name)) for name in attacks._REGISTRY)
    ]
    assert lines == expected


def test_every_attack_is_held_to_the_contract():
    assert {*test_contract.SMALL, *test_contract.ELSEWHERE} == set(attacks._REGISTRY)
