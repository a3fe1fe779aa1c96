"""`ciad data fetch|check`: download CIFAR-10, or describe a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ciad_engine import datasets, download
from ciad_engine.cli import console
from ciad_engine.counting import counted
from ciad_engine.domain import CIFAR10


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="fetch|check", required=True)
    get = actions.add_parser("fetch", help="download the official CIFAR-10 archive (163 MB)", parents=[common])
    get.add_argument("--to", type=Path, metavar="DIR", help="where to put it (default: the program's data folder)")
    get.set_defaults(run=fetch, parser=get)
    look = actions.add_parser("check", help="what a data set is, and whether it is official", parents=[common])
    look.add_argument("path", metavar="PATH", help="archive, cifar-10-batches-py, class-named folders, or 'samples'")
    look.set_defaults(run=check, parser=look)


def fetch(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    job.continuing = "What arrived is kept; the same command goes on where it can."
    path = download.fetch(arguments.to or download.default_folder(), job)
    job.finished()
    print(f"CIFAR-10 is at {path}, its checksum is right.")
    print(f"Use it: ciad evaluate --data {path}")
    return 0


def check(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    if arguments.path == datasets.SAMPLES:
        samples = datasets.choose(arguments.path, job)
        parts, domain = {"samples": samples}, samples.domain
        print(f"{samples.source}: bundled samples, made by a generative model; not CIFAR-10.")
    else:
        data = datasets.load(arguments.path, job)
        parts = {name: part for name, part in (("training", data.train), ("test", data.test)) if part is not None}
        domain = data.domain
        official = "the official CIFAR-10 files" if data.official else "NOT the official CIFAR-10 files"
        print(f"{data.path}: {data.name}; {official if domain == CIFAR10 else 'not CIFAR-10'}.")
    job.finished()
    print(f"{len(domain.classes)} classes, images of {domain.size}x{domain.size} pixels")
    for name, part in parts.items():
        print(f"{name}: {counted(len(part.images), 'image')}, checksum {part.checksum}")
        counts = np.bincount(part.labels, minlength=len(domain.classes)).tolist()
        rows = [(one, f"{count:,}") for one, count in zip(part.domain.classes, counts, strict=True)]
        print(console.columns(rows, indent="  "))
    return 0
