"""How soon a person gets an answer while an evaluation runs, and what that costs the evaluation.

    python -m tests.benchmarks.responses [--bundle NAME] [--requests 100]

A direct C&W evaluation of 100 bundled samples runs in the engine thread. Meanwhile the window's thread asks, one after
the other and with pauses as a person makes them, to look at an image and to attack it by FGSM; then without pauses, as
a slider does. Prints the time from each request to its answer, the share of the engine's time that was left to the
evaluation, and whether its rows equal those of an evaluation that nothing interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QCoreApplication, QEventLoop, QTimer

from ciad_app.evaluate import work as evaluation
from ciad_app.inspect import work as inspection
from ciad_app.inspect.collection import Entry
from ciad_app.worker import Engine, Session
from ciad_engine import datasets
from ciad_engine.jobs import Job
from ciad_engine.runs import Database, Row

ATTACK = ("cw", {"iterations": 200, "search_steps": 6})
REST = 0.05  # seconds between an answer and the next request, at least


class Bench:
    def __init__(self, bundle: str) -> None:
        self.engine = Engine()
        self.engine.start(bundle, "cpu")
        self.wait(lambda: self.engine.info is not None or bool(self.engine.problem))
        if self.engine.info is None:
            raise SystemExit(self.engine.problem)
        self.samples = datasets.samples()
        self.steps = 0  # checkpoints that the evaluation has come to
        self.urgent = 0.0  # seconds that requests took in the engine thread

    def wait(self, done: Callable[[], bool]) -> None:
        while not done():
            QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
            time.sleep(0.0005)

    def evaluate(self, database: Database, ended: list[Any]) -> None:
        request = evaluation.Request([ATTACK], 100, 0, "classifier")
        inner = evaluation.evaluate(request, self.samples, database)

        def work(session: Session, job: Job) -> Any:
            urgent = job.on_checkpoint

            def counted() -> None:
                self.steps += 1
                urgent()

            job.on_checkpoint = counted  # type: ignore[method-assign]
            return inner(session, job)

        self.engine.submit(work, ended.append, failed=ended.append)

    def ask(self, what: str, number: int) -> float:
        """Return the seconds until a request is answered."""
        place = number % len(self.samples)
        entry = Entry(self.samples.images[place], int(self.samples.labels[place]), f"sample {place}", "")
        answers: list[float] = []

        def work(session: Session, job: Job) -> Any:
            started = time.perf_counter()
            if what == "look":
                inspection.inspect(session.system, entry, job)
            else:
                inspection.attack(session.system, entry, "fgsm", {"eps": 8.0}, (), job)
            self.urgent += time.perf_counter() - started

        began = time.perf_counter()

        def answered(_: object) -> None:
            answers.append(time.perf_counter() - began)

        self.engine.submit(work, answered, failed=answered, urgent=True)
        self.wait(lambda: bool(answers))
        return answers[0]

    def pause(self, seconds: float) -> None:
        over: list[int] = []
        QTimer.singleShot(round(1000 * seconds), lambda: over.append(1))
        self.wait(lambda: bool(over))


def rows(database: Database, key: str) -> list[Row]:
    return [dataclasses.replace(row, seconds=0.0) for row in database.rows(key)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="paper")
    parser.add_argument("--requests", type=int, default=100)
    said = parser.parse_args()
    app = QCoreApplication([])
    bench = Bench(said.bundle)
    for what in ("look", "fgsm"):
        bench.ask(what, 0)  # the first forward pass of a process is slow
    with tempfile.TemporaryDirectory() as folder:
        alone, disturbed = (Database(Path(folder) / f"{name}.sqlite") for name in ("alone", "disturbed"))
        ended: list[Any] = []
        began = time.perf_counter()
        bench.evaluate(alone, ended)
        bench.wait(lambda: bool(ended))
        seconds, steps = time.perf_counter() - began, bench.steps
        print(f"alone: {steps} checkpoints in {seconds:.1f} s, {1000 * seconds / steps:.0f} ms between two on average")
        again: list[Any] = []
        bench.evaluate(disturbed, again)
        bench.pause(1.0)
        for what in ("look", "fgsm"):
            for rest, words in ((REST, "with pauses"), (0.0, "without pauses")):
                before, began, took = bench.urgent, time.perf_counter(), []
                while len(took) < said.requests:
                    took.append(bench.ask(what, len(took)))
                    bench.pause(rest) if rest else None
                share = 1 - (bench.urgent - before) / (time.perf_counter() - began)
                low, high, most = (1000 * float(q) for q in np.quantile(took, (0.5, 0.95, 1)))
                print(
                    f"{what} {words}: n = {len(took)}, median {low:.0f} ms, 95% in {high:.0f} ms, most {most:.0f} ms;"
                    f" {100 * share:.0f}% of the time left to the evaluation"
                )
        bench.wait(lambda: bool(again))
        equal = rows(alone, ended[0].key) == rows(disturbed, again[0].key)
        print(f"rows {'equal' if equal else 'DIFFER from'} those without interruptions")
    bench.engine.shutdown()
    del app


if __name__ == "__main__":
    main()
