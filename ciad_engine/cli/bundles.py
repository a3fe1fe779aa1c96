"""`ciad bundles list|show|record|delete`: the trained systems there are, and what is known of them."""

from __future__ import annotations

import argparse

from ciad_engine import bundles, files, json_text, runs
from ciad_engine.cli import console, info, options
from ciad_engine.cli import runs as runs_command
from ciad_engine.counting import counted, disk_size
from ciad_engine.evaluation import model_card
from ciad_engine.evaluation.table import render_text


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="list|show|record|delete", required=True)
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

    gone = actions.add_parser("delete", help="remove a trained system's files for good", parents=[common])
    gone.add_argument("name", metavar="NAME", help="a bundle's name or folder")
    gone.add_argument("--yes", action="store_true", help="do not ask")
    gone.set_defaults(run=delete, parser=gone)


def list_all(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    cards = bundles.available()
    if not cards:
        print("No bundles. Train one with `ciad train`.")
        return 0
    rows = [("name", "networks", "size", "state", "folder")]
    for card in cards:
        state = info.check(card) or "complete"
        rows.append((card.name, str(len(card.content["networks"])), disk_size(_size(card)), state, str(card.folder)))
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


def delete(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    card = bundles.read_card(bundles.find(arguments.name))
    files_there = counted(len(bundles.files_of(card)), "file")
    what = f"bundle '{card.name}' in {card.folder}: {files_there}, {disk_size(_size(card))}"
    question = f"Delete {what}, for good? Its evaluations in the results database stay."
    if not options.confirmed(question, arguments.yes, f"add --yes to delete {what}, for good."):
        return 1
    bundles.delete(card)
    print(f"Deleted {what}.")
    if card.folder.is_dir():
        job.note(f"The folder stays, because there are other files in it: {card.folder}.")
    return 0


def _size(card: bundles.Card) -> int:
    return sum(map(files.size_of, bundles.files_of(card)))


def _readable(section: model_card.Section) -> str:
    parts = [section.title]
    if section.figures:
        parts.append(console.columns(section.figures, indent="  "))
    parts += [f"  {sentence}" for sentence in section.sentences]
    parts += [f"\n{render_text(table, console.width())}" for table in section.tables]
    return "\n".join(parts)
