"""What keeping freed memory is worth: the classifier forward and back to the image, as an attack does it.

    python -m tests.benchmarks.memory [--csv FILE]

Each figure is the median over fresh processes, with and without in turn, on a thread that is not
the main one, as in the window.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

SIZES = (16, 64, 128, 256)
IMAGES = 1280  # timed in each process and size


def measure(kept: bool) -> None:
    """In a process of its own: print "<batch> <ms an image> <page faults an image>" lines."""
    import resource  # not on Windows, where there is nothing to measure

    import torch

    from ciad_engine import memory, networks

    if kept and not memory.keep_freed():
        raise SystemExit("Freed memory cannot be kept on this system: nothing to measure.")

    def work() -> None:
        network = networks.create("alexnet").eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for size in SIZES:
            images = torch.rand(size, 3, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()
            for turn in range(2):  # the first is not timed
                faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
                for _ in range(IMAGES // size if turn else 2):
                    torch.autograd.grad(network(images)[:, 0].sum(), images)
            seconds = time.perf_counter() - start
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
            print(size, 1000 * seconds / IMAGES, faults / IMAGES)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--times", type=int, default=5, help="processes of each kind (5)")
    parser.add_argument("--measure", choices=("kept", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure == "kept")
        return
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(options.times):
        for kind in ("plain", "kept"):
            command = [sys.executable, "-m", "tests.benchmarks.memory", "--measure", kind]
            for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
                size, milliseconds, faults = line.split()
                found.setdefault((kind, int(size)), []).append((float(milliseconds), float(faults)))
    rows = []
    print("batch   plain ms an image (faults)    kept ms an image (faults)    ratio")
    for size in SIZES:
        (plain, plain_faults), (kept, kept_faults) = (
            (statistics.median(column) for column in zip(*found[kind, size], strict=True)) for kind in ("plain", "kept")
        )
        print(f"{size:5} {plain:17.3f} ({plain_faults:6.1f}) {kept:19.3f} ({kept_faults:6.1f}) {plain / kept:11.2f}")
        rows.append((size, plain, plain_faults, kept, kept_faults, plain / kept))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            head = ("batch", "plain ms", "plain faults", "kept ms", "kept faults", "ratio")
            csv.writer(file).writerows([head, *rows])


if __name__ == "__main__":
    main()
