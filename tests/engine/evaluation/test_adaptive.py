"""The table about the attacker who knows: against rows written by hand, and a plain recount of a computed run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from ciad_engine import bundles, cli, resources
from ciad_engine.attacks.words import FLAGGED, FOOLED, OWN_CLASS
from ciad_engine.cli import evaluate
from ciad_engine.errors import RunError, SettingError
from ciad_engine.evaluation import adaptive, planning, records, runner, tables
from ciad_engine.evaluation.records import Records
from ciad_engine.evaluation.table import Cell
from ciad_engine.runs import Database, Row
from tests.engine.evaluation import tiny
from tests.engine.evaluation.test_tables import rate
from tests.engine.evaluation.tiny import row

MASK = bundles.Evaded("mask", "disagreement", 0.5, "")
ATTACKS = (
    planning.choose("pgd", eps=2, step=0.5),
    planning.choose("pgd", eps=8),
    planning.choose("square", eps=8),
    planning.choose("cw"),
)
# Of class 0. f1 misclassifies image 5 before any attack, and the detector flags image 6.
BENIGN = [*(row(k) for k in range(5)), row(5, y1=6, y2=6), row(6, y2=5)]


def after(label: str, *evaded: int, linf: int, flagged: int | None = None) -> list[Row]:
    """Rows of an attack that evades on these images, and fools f1 on another."""
    rows = []
    for k in range(7):
        success = k in evaded
        found = row(k, label, label_before=BENIGN[k].y1, fooled=success or k == flagged, evaded=success)
        rows.append(dataclasses.replace(found, linf=linf if found.fooled else 0))
    return rows


def made(*attacked: list[Row], evade: tuple[bundles.Evaded, ...] = (MASK,), attacks=ATTACKS) -> Records:
    plan = planning.Plan("tiny", "ab" * 32, "data", "cd" * 32, False, attacks, 7, 0, evade=evade)
    run = records.Run(plan.key(), "", planning.to_json(plan), {}, "CPU", "finished", 0.0)
    return Records(run, plan, [*BENIGN, *(row for rows in attacked for row in rows)], {})


def by_hand() -> list[list[Row]]:
    weak, strong, square, cw = planning.labels([(a.name, a.parameters()) for a in ATTACKS])
    further = after(cw, 2, 3, linf=9)
    further[3] = dataclasses.replace(further[3], linf=8)
    return [
        after(weak, 0, linf=2),
        after(strong, 1, 6, linf=8, flagged=2),
        after(square, 1, linf=8),
        further,
    ]


def found(of: Records) -> dict[str, dict[str, Cell]]:
    """The table's cells by row and column."""
    table = adaptive.table_of(of)
    return {
        subject.title: dict(zip((column.key for column in table.columns), cells, strict=True))
        for subject, cells in zip(table.subjects, table.cells, strict=True)
    }


def test_the_worst_case_is_of_each_image_and_includes_smaller_budgets() -> None:
    assert found(made(*by_hand())) == {
        "Within 2/255": {
            "images": Cell(5),
            "evasion_rate": rate(1, 5),
            "evasion_rate_pgd": rate(1, 5),
            "evasion_rate_square": Cell(None, 0, rate=True),  # not run with this budget
            "evasion_rate_cw": rate(0, 5),
        },
        "Within 8/255": {
            "images": Cell(5),
            "evasion_rate": rate(3, 5),  # 0 within a smaller budget, 1 by two attacks, 3 by C&W, which moves 2 too far
            "evasion_rate_pgd": rate(1, 5),  # with this budget alone; what is flagged before the attack does not count
            "evasion_rate_square": rate(1, 5),
            "evasion_rate_cw": rate(1, 5),
        },
    }


def test_an_image_counts_once_every_attack_had_its_turn() -> None:
    attacked = by_hand()
    attacked[-1] = attacked[-1][1:]  # C&W has not come to the first image yet
    within = found(made(*attacked))["Within 8/255"]
    assert (within["images"], within["evasion_rate"]) == (Cell(4), rate(2, 4))
    assert (within["evasion_rate_pgd"], within["evasion_rate_cw"]) == (rate(1, 5), rate(1, 4))


def test_an_image_of_the_target_class_was_not_tried_by_that_attack_alone() -> None:
    attacked = by_hand()
    attacked[2][0] = dataclasses.replace(attacked[2][0], reason=OWN_CLASS)
    within = found(made(*attacked))["Within 8/255"]
    assert (within["evasion_rate"], within["evasion_rate_square"]) == (rate(3, 5), rate(1, 4))


def test_attacks_that_differ_in_more_than_the_budget_have_their_own_columns() -> None:
    variants = ("orthogonal", "selective")
    attacks = tuple(planning.choose("opgd", eps=eps, step=eps / 8, variant=v) for v in variants for eps in (4, 8))
    labels = planning.labels([(a.name, a.parameters()) for a in attacks])
    attacked = [after(label, *range(k), linf=4) for k, label in enumerate(labels)]
    table = found(made(*attacked, attacks=attacks))
    assert list(table) == ["Within 4/255", "Within 8/255"]
    keys = [f"evasion_rate_opgd_variant_{v}" for v in variants]
    assert [table["Within 4/255"][key] for key in keys] == [rate(0, 5), rate(2, 5)]
    assert [table["Within 8/255"][key] for key in keys] == [rate(1, 5), rate(3, 5)]
    assert table["Within 4/255"]["evasion_rate"] == rate(3, 5)  # an attack with more budget found images within this


@pytest.mark.parametrize(
    ("evade", "images"),
    [
        ((MASK,), {0, 1, 2, 3, 4}),
        ((bundles.Evaded("mask", "graded", 1.5, ""),), {0, 1, 2, 4, 6}),  # at the threshold it is not flagged
        ((bundles.Evaded("mask", "graded", 1.5, ""), MASK), {0, 1, 2, 4}),
        ((bundles.Evaded("confidence", "graded", 0.1, ""),), set()),
        ((), {0, 1, 2, 3, 4, 6}),
    ],
)
def test_images_that_are_flagged_before_the_attack_are_not_accepted(
    evade: tuple[bundles.Evaded, ...], images: set[int]
) -> None:
    scored = [row(2, score=1.5), row(3, score=1.6)]
    rows = [*BENIGN[:2], *scored, *BENIGN[4:]]
    assert dataclasses.replace(made(evade=evade), rows=rows).accepted == images


def test_only_attacks_with_a_budget_that_know_a_detector_have_the_table() -> None:
    attacked = by_hand()
    assert [table.name for table in tables.tables_of(made(*attacked))][-1] == "adaptive"
    for other in (made(*attacked, evade=()), made(attacked[-1], attacks=ATTACKS[-1:])):
        assert "adaptive" not in [table.name for table in tables.tables_of(other)]


def test_a_computed_run_recounted(tmp_path: Path) -> None:
    system, data = tiny.system(), tiny.data()
    chosen = (
        *(planning.choose("pgd", eps=eps, step=eps / 4, iterations=4) for eps in (3, 24)),
        planning.choose("square", eps=24, queries=10),
        planning.choose("cw", iterations=20, search_steps=2, initial_c=10),
    )
    plan = tiny.plan(data, system, attacks=chosen, evade=("mlp",))
    with Database(tmp_path / "runs.sqlite") as database:
        of = records.load(database, runner.run(plan, system, data, database))
    images = {r.position for r in of.benign if r.y1 == r.label == r.scores["mlp"].label}
    assert 0 < len(images) < sum(r.y1 == r.label for r in of.benign), "the test needs an image that is flagged before"
    rates = []
    for budget in (3, 24):
        hits = {r.position for rows in of.attacked.values() for r in rows if r.success and r.linf <= budget}
        rates.append(found(of)[f"Within {budget}/255"]["evasion_rate"])
        assert rates[-1] == rate(len(hits & images), len(images))
    assert rates[0].value < rates[1].value


def test_an_attack_on_a_surrogate_is_judged_by_the_detector_it_stands_for(tmp_path: Path) -> None:
    system, data = tiny.system(), tiny.data()
    pgd = planning.choose("pgd", eps=24, step=6, iterations=4)
    surrogate = bundles.evaded(system.card, "mask:graded")
    plan = tiny.plan(data, system, attacks=(pgd, dataclasses.replace(pgd, surrogate=surrogate)), evade=("mlp",))
    assert planning.from_json(planning.to_json(plan)) == plan
    assert [plan.title(label) for label in plan.labels] == ["PGD (L∞)", "PGD (L∞), surrogate = mask:graded"]
    with Database(tmp_path / "runs.sqlite") as database:
        of = records.load(database, runner.run(plan, system, data, database))
    known, following = of.attacked.values()
    assert [r.l2 for r in known] != [r.l2 for r in following]
    fooled = [r for r in following if r.fooled]
    assert {r.evaded for r in fooled} == {True, False}
    for r in fooled:
        assert r.evaded == (r.scores["mlp"].label == r.y1)
        assert r.reason == (FOOLED if r.evaded else FLAGGED)
    twin = dataclasses.replace(surrogate, networks="others")
    other = dataclasses.replace(plan, attacks=(pgd, dataclasses.replace(pgd, surrogate=twin)))
    assert other.key() != plan.key()
    with Database(tmp_path / "runs.sqlite") as database, pytest.raises(RunError, match="detectors of bundle"):
        runner.run(other, system, data, database)


def test_a_surrogate_is_a_command_and_needs_what_it_stands_for() -> None:
    card, data = tiny.system().card, tiny.data()
    chosen = planning.preset("adaptive") + planning.transferred(bundles.evaded(card, "mask"))
    plan = planning.make(card, data, chosen, 7, 3, evade=("mlp",))
    assert adaptive.budgets(plan) == [2, 3, 4, 8, 16]
    words = shlex.split(planning.command(plan, "tiny"))
    assert words[-6:] == ["--preset", "adaptive", "--evade", "mlp:disagreement", "--surrogate", "mask:disagreement"]
    with pytest.raises(SettingError, match="surrogate: it stands for a detector"):
        planning.make(card, data, chosen, 7, 3)


def test_the_preset_of_the_attacker_who_knows() -> None:
    card, data, chosen = tiny.system().card, tiny.data(), planning.preset("adaptive")
    plan = planning.make(card, data, chosen, 7, 3, evade=("mask",))
    assert adaptive.budgets(plan) == [2, 3, 4, 8, 16]
    by_budget: dict[object, set[tuple[str, object]]] = {}
    for choice in chosen:
        settings = choice.parameters()
        by_budget.setdefault(settings.get("eps"), set()).add((choice.name, settings.get("variant")))
    assert by_budget.pop(None) == {("cw", None)}
    every = {("pgd", None), ("opgd", "orthogonal"), ("opgd", "selective"), ("square", None)}
    assert set(map(frozenset, by_budget.values())) == {frozenset(every)}
    _, *words = shlex.split(planning.command(plan, "tiny"))
    assert words[-4:] == ["--preset", "adaptive", "--evade", "mask:disagreement"]
    said = cli._parser(words).parse_args(words)
    assert (evaluate._choices(said, card.classes), said.evade) == (plan.attacks, ["mask:disagreement"])


def test_the_checks_of_the_page_are_commands() -> None:
    page = resources.path("docs", "adaptive.md").read_text(encoding="utf-8")
    (begin,) = re.findall(r"Begin each with `(.*?)`", page)
    checks = re.findall(r"`(--attacks .*?)`", page)
    assert len(checks) == 4
    preset = set(planning.preset("adaptive"))
    for check in checks:
        words = shlex.split(f"{begin} {check}")[1:]
        chosen = evaluate._choices(cli._parser(words).parse_args(words), planning.CIFAR10.classes)
        assert chosen
        assert not set(chosen) & preset, check
