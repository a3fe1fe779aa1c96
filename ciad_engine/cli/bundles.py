"""`ciad bundles list|show|record`: the trained systems there are, and what is known of them."""

from __future__ import annotations

import argparse

from ciad_engine import bundles, json_text, runs
from ciad_engine.cli import console, info
from ciad_engine.cli import runs as runs_command
from ciad_engine.evaluation import model_card
from ciad_engine.evaluation.table import render_text


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="list|show|record", required=True)
    every = actions.add_parser("list", help="name, folder and networks of each", parents=[common])
    every.set_defaults(run=list_all, parser=every)
    one = actions.add_parser("show", help="what one is, how it was trained and how well", parents=[common])
    one.add_argument("name", metavar="NAME", help="a bundle's name or folder")
    one.add_argument("--json", action="store_true", help="the whole card as JSON")
    one.set_defaults(run=show, parser=one)

    noted = actions.add_parser("record", help="write a run's tables beside the bundle's card", parents=[common])
    noted.add_argument("name", metavar="NAME", help="a bundle's name or folder")
    noted.add_argument("runs", metavar="RUN", nargs="+", help="finished runs of it, as `ciad runs list` shows them")
    runs_command.add_database(noted)
    noted.set_defaults(run=record, parser=noted)


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
    if arguments.json:
        print(json_text.write({**card.content, "folder": str(card.folder), "checksum": card.checksum}, indent=1))
    else:
        print("\n".join(_readable(section) for section in model_card.sections(card)))
    broken = info.check(card)
    if broken:
        job.line(f"ciad: bundle '{card.name}' cannot be used: {broken}.")
    return 1 if broken else 0


def record(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    card = bundles.read_card(bundles.find(arguments.name))
    with runs.Database(arguments.database) as database:
        for name in arguments.runs:
            print(f"Wrote {model_card.record(card, database, name)}.")
    return 0


def _readable(section: model_card.Section) -> str:
    parts = [section.title]
    if section.figures:
        parts.append(console.columns(section.figures, indent="  "))
    parts += [f"  {sentence}" for sentence in section.sentences]
    parts += [f"\n{render_text(table, console.width())}" for table in section.tables]
    return "\n".join(parts)
