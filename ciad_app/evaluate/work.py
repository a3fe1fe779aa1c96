"""What *Evaluate* has done in the engine thread. Importing this module imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from ciad_app.worker import Session, Work
from ciad_engine import bundles, datasets, runs
from ciad_engine.evaluation import planning
from ciad_engine.jobs import Job


@dataclasses.dataclass(frozen=True)
class Request:
    """The settings of an evaluation as the panel holds them; the plan is made of them and the data."""

    attacks: list[tuple[str, dict[str, Any]]]  # name and settings
    limit: int
    seed: int
    attacked: str
    evade: tuple[str, ...] = ()  # the detectors that the attacker knows, each "NAME:RULE"


@dataclasses.dataclass(frozen=True)
class Stored:
    """A run as the database has it; `card`: of the bundle it was made with, if that is among the available ones."""

    run: runs.Run
    plan: planning.Plan
    rows: list[runs.Row]
    card: bundles.Card | None


def read(database: runs.Database, key: str) -> Stored:
    """Read a run. Raises RunError, also if its plan cannot be read."""
    run = database.run(key)
    plan = planning.from_json(run.plan)
    return Stored(run, plan, database.rows(key), bundles.with_checksum(plan.bundle_checksum))


def evaluate(request: Request, data: datasets.ImageSet, database: runs.Database) -> Work:
    """Make the plan and run it; partial results are its `Stored` run, then lists of rows. Returns the `Run`."""

    def work(session: Session, job: Job) -> runs.Run:
        chosen = [planning.choose(name, **settings) for name, settings in request.attacks]
        plan = planning.make(
            session.system.card, data, chosen, request.limit, request.seed, request.attacked, request.evade
        )
        return _run(plan, data, database, session, job)

    return work


def go_on(run: runs.Run, data: datasets.ImageSet, database: runs.Database) -> Work:
    """Continue a run with its data; as `evaluate`."""
    return lambda session, job: _run(planning.from_json(run.plan), data, database, session, job)


def _run(plan: planning.Plan, data: datasets.ImageSet, database: runs.Database, session: Session, job: Job) -> runs.Run:
    from ciad_engine.evaluation import runner

    def begun(found: runs.Run) -> None:  # the page could not continue a run that it does not know
        job.partial(read(database, found.key))

    return database.run(runner.run(plan, session.system, data, database, job, begun=begun))
