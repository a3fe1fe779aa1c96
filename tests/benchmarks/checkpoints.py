"""How long an evaluation computes between two checkpoints, at which a person's request would be answered.

    python -m tests.benchmarks.checkpoints [--bundle NAME] [--images 40] [--evade NAME] [--attacks fgsm,cw]

Evaluates bundled samples by every attack, one after the other, on the CPU with the usual batches; with `--evade` by
those that can follow a detector. Prints the number of checkpoints, and the longest and the 99% quantile of the times
between two of them. `Job.checkpoint` asks for 200 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ciad_engine import attacks, datasets, systems
from ciad_engine.evaluation import planning, runner
from ciad_engine.jobs import Job
from ciad_engine.runs import Database


class Timed(Job):
    def __init__(self) -> None:
        super().__init__()
        self.moments = [time.perf_counter()]

    def on_checkpoint(self) -> None:
        self.moments.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="paper")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--evade", default="")
    parser.add_argument("--attacks", default="")
    said = parser.parse_args()
    system = systems.load(said.bundle, torch.device("cpu"))
    samples = datasets.samples()
    evade = (said.evade,) if said.evade else ()
    with tempfile.TemporaryDirectory() as folder:
        for name in said.attacks.split(",") if said.attacks else attacks.names():
            if evade and not attacks.get(name).evades:
                continue
            plan = planning.make(system.card, samples, [planning.choose(name)], said.images, 0, "classifier", evade)
            job = Timed()
            runner.run(plan, system, samples, Database(Path(folder) / f"{name}.sqlite"), job)
            between = 1000 * np.diff(job.moments)
            print(
                f"{name}: {len(between)} checkpoints in {between.sum() / 1000:.1f} s, longest {between.max():.0f} ms,"
                f" 99% within {np.quantile(between, 0.99):.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
