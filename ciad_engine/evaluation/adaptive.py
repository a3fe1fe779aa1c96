"""The attacker who knows the detectors: how many images are evaded within each budget, per image the worst case."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ciad_engine import attacks
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.planning import AttackChoice, Plan
from ciad_engine.evaluation.records import POOLED, Records, about_run, setting
from ciad_engine.evaluation.table import Cell, Column, Subject, Table, filled, rate
from ciad_engine.runs import Row

NAME = "adaptive"
_BUDGET = "eps"
_OF_BUDGET = (_BUDGET, "step")  # settings that the budget decides: attacks that differ in them alone share a column
_TOGETHER = (Column("images", "Images"), Column("evasion_rate", "Evasion rate, worst case"))
_MEANING = (
    "Evasion rate: images that an attack changes within the budget (L∞) so that they fool f1 and are not flagged, of"
    " those that f1 classifies correctly and that are not flagged before. Worst case: an image counts if any attack of"
    " the run evades within this budget or a smaller one, so the rate cannot fall. Each attack alone: with this budget,"
    " smaller ones not counted; an attack without a budget, such as C&W, counts if its image lies within this one."
)


def budgets(plan: Plan) -> list[float]:
    """Return the L-infinity budgets of the attacks of a plan that evades, in grey levels; none of another plan."""
    known = {_budget(choice) for choice in plan.attacks} if plan.evade else set()
    return sorted(budget for budget in known if budget is not None)


def table_of(records: Records) -> Table:
    """Return the evasion rate within each of the `budgets`, of all attacks together and of each alone."""
    plan = records.plan
    kinds = planning.labels(
        [
            (name, {key: value for key, value in settings.items() if key not in _OF_BUDGET})
            for name, settings in planning.for_labels(plan.attacks)
        ]
    )
    alone = {kind: Column(_key(kind), f"Evasion rate, {plan.title(kind)} alone", plan.title(kind)) for kind in kinds}
    # An image counts once every attack of the run has had its turn: until then its worst case is not known.
    done = [{row.position for row in rows} for rows in records.attacked.values()]
    images = records.accepted.intersection(*done)
    lines = []
    for budget in budgets(plan):
        cells = {"images": Cell(len(images)), "evasion_rate": _evaded(images, records.rows, budget)}
        for kind, column in alone.items():
            rows = [
                row
                for label, choice, own in zip(plan.labels, plan.attacks, kinds, strict=True)
                if own == kind and _budget(choice) in (None, budget)
                for row in records.attempts(label)
            ]
            cells[column.key] = _evaded(frozenset(row.position for row in rows), rows, budget)
        lines.append((Subject(POOLED, f"Within {budget:g}/255", "linf", {_BUDGET: budget}), cells))
    title = "The attacker who knows: within which budget are images evaded?" + setting(plan)
    return filled(NAME, title, (*_TOGETHER, *alone.values()), lines, (_MEANING, *about_run(records)))


def _budget(choice: AttackChoice) -> float | None:
    """Return the largest change of a value that an attack allows itself, in grey levels; None if it has no limit."""
    return choice.parameters().get(_BUDGET) if attacks.norm(choice.name) == "linf" else None


def _evaded(images: frozenset[int], rows: Iterable[Row], budget: float) -> Cell:
    """Return the rate of `images` (positions) that any of the rows evades within the budget."""
    within = {row.position for row in rows if row.success and row.linf <= budget}
    return rate(len(within & images), len(images))


def _key(label: str) -> str:
    return f"evasion_rate_{re.sub('[^a-z0-9]+', '_', label.lower()).strip('_')}"
