"""README's table of attacks and ATTACKS.md say what the attacks themselves say."""

import runpy
from dataclasses import fields
from pathlib import Path

from ciad_engine import attacks
from ciad_engine.attacks.words import NORMS

from . import test_contract

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"


def test_the_readme_lists_every_attack():
    text = README.read_text(encoding="utf-8")
    lines = [line for line in text.partition("## Attacks")[2].splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | {cls.title} | {NORMS[cls.norm]} | {cls.source} |"
        for name, cls in ((name, attacks.get(name)) for name in attacks.own())
    ]
    assert lines == expected


def test_the_page_of_attacks_is_up_to_date():
    made = runpy.run_path(str(ROOT / "packaging" / "attack_docs.py"))["page"]()
    assert (ROOT / "ATTACKS.md").read_text(encoding="utf-8") == made, "run packaging/attack_docs.py"
    for name in attacks.own():
        section = made.partition(f"\n`{name}`: ")[2].partition("\n## ")[0]
        for setting in [field for field in fields(attacks.get(name)) if field.metadata]:
            told = f"| `--{setting.name.replace('_', '-')}` | "
            assert told in section or (setting.name.startswith("target") and told in made), (name, setting.name)
    # An attack with other targets than the rest says so itself.
    section = made.partition("## Universal")[2].partition("\n## ")[0]
    assert "| `--target` | untargeted | untargeted, next, least-likely, random, given |" in section
    assert made.count("| `--target` |") == 2


def test_every_attack_is_held_to_the_contract():
    assert {*test_contract.SMALL, *test_contract.ELSEWHERE} == set(attacks.own())
