"""How long an evaluation takes, from what the same attacks took before."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ciad_app.durations import duration
from ciad_engine.errors import RunError
from ciad_engine.evaluation import planning
from ciad_engine.runs import BENIGN, Database, Row


@dataclasses.dataclass(frozen=True)
class Rate:
    seconds: float  # an image
    exact: bool  # measured with the very settings asked for


def measured(
    database: Database,
    attacks: Sequence[tuple[str, Mapping[str, Any]]],
    attacked: str,
    device: str,
    evade: Sequence[str] = (),
) -> dict[str, Rate]:
    """The newest rates of these attacks (name, settings), by label, and of the benign images, on this device.

    If an attack was not run with these settings, or against detectors other than `evade` ("NAME:RULE" each), its newest
    run with others stands in.
    """
    wanted = dict(zip(planning.labels(attacks), attacks, strict=True))
    rates: dict[str, Rate] = {}
    for run in database.runs():
        try:
            plan = planning.of_run(run)
        except RunError:  # a damaged run, or one of another version
            continue
        if run.device != device or plan.attacked != attacked:
            continue
        ran = [(choice.name, choice.parameters()) for choice in plan.attacks]
        same = [one.text for one in plan.evade] == list(evade)
        for label in (BENIGN, *wanted):
            there, exact = (BENIGN, True) if label == BENIGN else _likest(*wanted[label], ran)
            exact = exact and (same or label == BENIGN)
            known = rates.get(label)
            if there is None or (known and (known.exact or not exact)):
                continue
            rows = []
            with contextlib.suppress(RunError):  # damaged rows
                rows = database.rows(run.key, there)
            if rows:
                rates[label] = Rate(sum(row.seconds for row in rows) / len(rows), exact)
        if all(label in rates and rates[label].exact for label in (BENIGN, *wanted)):
            break
    return rates


def _likest(
    name: str, settings: Mapping[str, Any], ran: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[str | None, bool]:
    """The label of this attack among those a run computed, or None, and whether its settings are just these."""
    labels = [(label, own) for label, (other, own) in zip(planning.labels(ran), ran, strict=True) if other == name]
    exact = [label for label, own in labels if dict(own) == dict(settings)]
    return (exact[0], True) if exact else (labels[0][0] if labels else None, False)


def estimate(attacks: Mapping[str, str], limit: int, rates: Mapping[str, Rate]) -> str:
    """The cost of an evaluation in one sentence; `attacks` are label -> title of the attack without its settings.

    An attack that is there several times is told once, so that the sentence stays short.
    """
    if not attacks:
        return "Choose at least one attack."
    known = {name: rates[name].seconds * limit for name in attacks if name in rates}
    unknown = dict.fromkeys(title for name, title in attacks.items() if name not in rates)
    sums: dict[str, float] = {}
    for name, seconds in known.items():
        sums[attacks[name]] = sums.get(attacks[name], 0.0) + seconds
    parts = [f"{title}: {duration(seconds)}" for title, seconds in sums.items()]
    total = sum(known.values()) + (rates[BENIGN].seconds * limit if BENIGN in rates else 0.0)
    if not known:
        return f"{limit * (1 + len(attacks)):,} rows. An estimate appears after the first images."
    rough = "" if all(rates[name].exact for name in known) else " (measured with other settings)"
    if unknown:
        return f"At least {duration(total)}. {'; '.join(parts)}{rough}; not yet measured here: {', '.join(unknown)}."
    return f"About {duration(total)}. {'; '.join(parts)}{rough}."


class Remaining:
    """The remaining time of a running evaluation, stage by stage: C&W is hundreds of times slower than FGSM."""

    def __init__(
        self, stages: Sequence[str], limit: int, rates: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`stages`: the attacks' labels in the order computed, the benign images ("") first; `limit` images each."""
        self.stages, self.limit, self.total = tuple(stages), limit, limit * len(stages)  # total: of the rows
        self._before = dict(rates)
        self._spent: dict[str, tuple[float, int]] = {}
        self._clock = clock
        self._begun: dict[str, tuple[float, int]] = {}  # when a stage was first seen, and how many rows were done

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            seconds, count = self._spent.get(row.attack, (0.0, 0))
            self._spent[row.attack] = (seconds + row.seconds, count + 1)

    def begin_anew(self) -> None:
        """Other work goes on (images are reused): what follows is timed from its own beginning."""
        self._begun.clear()

    def text(self, done: int) -> str:
        """For `done` of all rows: "about 3 min left", "at least 3 min left", or "" where nothing is known."""
        if done < self.total:
            self._begun.setdefault(self.stages[done // self.limit], (self._clock(), done))
        missing = {stage: min(self.limit, self.limit * (k + 1) - done) for k, stage in enumerate(self.stages)}
        rates = {stage: self._rate(stage, done) for stage, images in missing.items() if images > 0}
        known = {stage: rate for stage, rate in rates.items() if rate is not None}
        if not known:
            return ""
        left = sum(rate * missing[stage] for stage, rate in known.items())
        return f"{'about' if len(known) == len(rates) else 'at least'} {duration(left)} left"

    def _rate(self, stage: str, done: int) -> float | None:
        seconds, count = self._spent.get(stage, (0.0, 0))
        since, first = self._begun.get(stage, (0.0, done))
        by_clock = (self._clock() - since) / (done - first) if done > first else None
        if count:  # the rows' own seconds are another run's if images were reused
            return seconds / count if by_clock is None else by_clock
        if stage in self._before:
            return self._before[stage].seconds
        # The first batch of an attack never measured here: how far it is by now tells the rate.
        return by_clock
