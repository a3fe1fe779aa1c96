"""`ciad bundles list|show`: the trained systems there are."""

from __future__ import annotations

import argparse
import json

from ciad_engine import bundles
from ciad_engine.cli import console, info


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    every = actions.add_parser("list", help="name, folder and networks of each", parents=[common])
    every.set_defaults(run=list_all, parser=every)
    one = actions.add_parser("show", help="the whole card of one, as JSON", parents=[common])
    one.add_argument("name", metavar="NAME", help="a bundle's name or folder")
    one.set_defaults(run=show, parser=one)


def list_all(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    cards = bundles.available()
    if not cards:
        print("No bundles. Train one with `ciad train`.")
        return 0
    rows = [("name", "networks", "state", "folder")]
    for card in cards:
        rows.append((card.name, str(len(card.content["networks"])), info.check(card) or "complete", str(card.folder)))
    print(console.columns(rows))
    return 0


def show(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    card = bundles.read_card(bundles.find(arguments.name))
    print(json.dumps({**card.content, "folder": str(card.folder), "checksum": card.checksum}, indent=1))
    broken = info.check(card)
    if broken:
        job.line(f"ciad: bundle '{card.name}' cannot be used: {broken}.")
    return 1 if broken else 0
