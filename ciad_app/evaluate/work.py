"""What *Evaluate* has done in the engine thread. Importing this module imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from ciad_app.worker import Session, Work
from ciad_engine import datasets, runs
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


def evaluate(request: Request, data: datasets.ImageSet, database: runs.Database) -> Work:
    """Make the plan and run it; the first partial result is its `Run`, which is also returned when it is finished."""

    def work(session: Session, job: Job) -> runs.Run:
        chosen = [planning.choose(name, **settings) for name, settings in request.attacks]
        plan = planning.make(
            session.system.card, data, chosen, request.limit, request.seed, request.attacked, request.evade
        )
        return _run(plan, data, database, session, job)

    return work


def go_on(run: runs.Run, data: datasets.ImageSet, database: runs.Database) -> Work:
    """Continue a run with its data; as `evaluate`."""
    return lambda session, job: _run(planning.of_run(run), data, database, session, job)


def _run(plan: planning.Plan, data: datasets.ImageSet, database: runs.Database, session: Session, job: Job) -> runs.Run:
    from ciad_engine.evaluation import runner

    # The page could not follow, or continue, a run that it does not know.
    return database.run(runner.run(plan, session.system, data, database, job, begun=job.partial))
