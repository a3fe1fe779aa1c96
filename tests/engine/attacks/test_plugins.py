"""Attacks of other packages: found through an entry point, and used like our own."""

import sys

import pytest

from ciad_engine import attacks
from ciad_engine.cli import options
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import planning, runner
from ciad_engine.runs import Database
from tests.engine.evaluation import tiny

MODULE = '''
import dataclasses
from typing import ClassVar
import torch
from ciad_engine.attacks.base import Attack, Found
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.attacks.parameters import parameter

@dataclasses.dataclass(frozen=True)
class Invert(Attack):
    """Every value at the other end of its range, blended."""

    name: ClassVar[str] = "invert"
    title: ClassVar[str] = "Inversion"
    source: ClassVar[str] = "this test"
    norm: ClassVar[str] = "linf"
    amount: float = parameter(1.0, "Amount", "How much.", low=0, high=1)

    def find(self, model, images, goal, job):
        changed = torch.lerp(images, 1 - images, self.amount)
        return Found(changed, torch.ones(len(images), dtype=torch.int64), [NO_ADVERSARIAL] * len(images))

class Wrong:
    name = "wrong"

@dataclasses.dataclass(frozen=True)
class Untitled(Attack):
    name: ClassVar[str] = "untitled"
    find = Invert.find
'''
ENTRIES = """[ciad.attacks]
invert = toy_attack:Invert
wrong = toy_attack:Wrong
other = toy_attack:Invert
gone = toy_attack:Gone
untitled = toy_attack:Untitled
two words = toy_attack:Invert
fgsm = toy_attack:Invert
"""


def forget():
    attacks._entries.cache_clear()
    attacks._other.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with attacks; forgotten afterwards."""
    (tmp_path / "toy_attack.py").write_text(MODULE)
    about = tmp_path / "toy_attack-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-attack\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield
    monkeypatch.undo()
    forget()
    sys.modules.pop("toy_attack", None)


def test_without_a_package_there_are_our_own_alone():
    forget()
    assert "invert" not in attacks.names()


def test_an_evaluation_with_it(package, tmp_path):
    assert "invert" in attacks.names()
    data, system = tiny.data(), tiny.system()
    chosen = (planning.choose("fgsm"), planning.choose("invert", amount=0.5))
    plan = planning.make(system.card, data, chosen, 8, 0)
    with Database(tmp_path / "runs.sqlite") as database:
        key = runner.run(plan, system, data, database)
        assert database.run(key).versions["toy-attack"] == "1.0"
        rows = [row for row in database.rows(key) if row.attack == "invert"]
        assert len(rows) == 8
        assert any(row.success for row in rows)
        (table,) = [table for table in tiny.all_tables(database, key) if table.name == "attacks"]
    assert "Inversion (L∞)" in [subject.title for subject in table.subjects]
    assert planning.title("invert amount = 0.5") == "Inversion (L∞), amount = 0.5"


def test_its_settings_are_flags(package):
    import argparse

    parser = argparse.ArgumentParser()
    options.add_attack_settings(parser)
    arguments = parser.parse_args(["--amount", "0.25"])
    made = options.create_attack(arguments, "invert", ())
    assert made is not None
    assert made.amount == 0.25
    for words in ([], ["--set", "gone.x=1"], ["--eps", "1"]):
        with pytest.raises(options.WrongUse, match="'gone' of the package toy-attack cannot be loaded"):
            options.create_attack(parser.parse_args(words), "gone", ())


def test_a_broken_package_stops_nothing_else(package, caplog):
    found = attacks.usable()
    assert set(found) == {*attacks.own(), "invert"}
    attacks.usable()
    assert sorted(record.args[0].split("'")[1] for record in caplog.records) == [
        "gone",
        "other",
        "two words",
        "untitled",
        "wrong",
    ]


def test_ours_cannot_be_replaced(package):
    assert attacks.names().count("fgsm") == 1
    assert attacks.get("fgsm").__module__ == "ciad_engine.attacks.catalogue"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "'wrong' of the package toy-attack is not an"),
        ("other", "'other' of the package toy-attack is not an"),
        ("gone", "'gone' of the package toy-attack cannot be loaded"),
        ("two words", "'two words' of the package toy-attack has a space in its name"),
        ("untitled", "'untitled' of the package toy-attack has no title"),
        ("nonsense", "'nonsense' is none of fgsm, .*, gone, invert, other, two words, untitled, wrong"),
    ],
)
def test_what_cannot_be_used_is_named(package, name, message):
    with pytest.raises(SettingError, match=message):
        attacks.get(name)
