"""Run the soak; see the package."""

from __future__ import annotations

import argparse
import importlib
import random
import sys

from tests import soak
from tests.soak.tally import HEADING, Tally

KINDS = ("pictures", "archives", "stores", "windows", "kills")


def main() -> int:
    parser = argparse.ArgumentParser(description=soak.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=float, default=1.0, help="share of the cases (1)")
    parser.add_argument("--seed", type=int, default=0, help="draws the cases (0)")
    parser.add_argument("--only", default=",".join(KINDS), help="some of: %(default)s")
    said = parser.parse_args()
    tallies = []
    for kind in said.only.split(","):
        module = importlib.import_module(f"tests.soak.{kind}")
        tally = Tally(kind, max(1, round(said.part * module.COUNT)))
        module.run(tally, random.Random(f"{said.seed} {kind}"))
        tally.finish()
        tallies.append(tally)
        print(f"{HEADING}\n{tally.line()}", flush=True)
    print("\n" + "\n".join([HEADING, *(tally.line() for tally in tallies)]))
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
