"""`ciad runs list|show|export|delete`: the evaluations in the results database."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ciad_engine import bundles, json_text, outputs, runs
from ciad_engine.cli import console, options
from ciad_engine.counting import counted
from ciad_engine.errors import RunError
from ciad_engine.evaluation import export, planning, tables
from ciad_engine.evaluation.records import load
from ciad_engine.evaluation.table import render_text


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="list|show|export|delete", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    add_database(shared)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("name", metavar="RUN", help="the run's name or the beginning of it, as `ciad runs list` shows it")

    every = actions.add_parser("list", help="all runs, the newest first", parents=[shared, common])
    every.set_defaults(run_command=list_all)
    system = argparse.ArgumentParser(add_help=False)
    system.add_argument(
        "--bundle", metavar="NAME", help="whose thresholds the graded rule uses (default: those of the run's bundle)"
    )
    view = actions.add_parser("show", help="plan and tables of a run", parents=[one, system, shared, common])
    view.add_argument("--json", action="store_true", help="as JSON")
    view.set_defaults(run_command=show)
    out = actions.add_parser(
        "export", help="rows and tables of a run as CSV files, and its charts", parents=[one, system, shared, common]
    )
    out.add_argument("--csv", required=True, type=Path, metavar="DIR", help="folder for the files")
    out.set_defaults(run_command=export_csv)
    gone = actions.add_parser("delete", help="remove a run and its rows for good", parents=[one, shared, common])
    gone.add_argument("--yes", action="store_true", help="do not ask")
    gone.set_defaults(run_command=delete)
    for action in (every, view, out, gone):
        action.set_defaults(parser=action, run=run)


def add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", type=Path, metavar="FILE", help="results database (default: the program's own)")


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    if arguments.database is not None and not arguments.database.is_file():
        raise RunError(f"{arguments.database}: there is no such file; --database names the one `ciad evaluate` wrote.")
    with runs.Database(arguments.database) as database:
        code: int = arguments.run_command(arguments, database, job)
    return code


def list_all(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    found = database.runs()
    if not found:
        print("No runs yet; `ciad evaluate` makes one.")
        return 0
    rows = [("run", "started", "rows", "state", "bundle", "setting", "attacks", "data")]
    every = [planning.from_json(one.plan) for one in found]
    for one, plan, chosen in zip(found, every, planning.told_apart(every), strict=True):
        rows.append(
            (
                one.short,
                one.created[:16].replace("T", " "),
                f"{sum(database.counts(one.key).values()):,} of {plan.rows:,}",
                one.state,
                plan.bundle,
                plan.setting,
                ", ".join(choice.text(plan.classes) for choice in chosen),
                plan.data,
            )
        )
    print(console.columns(rows))
    return 0


def show(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    found = database.run(arguments.name)
    if not arguments.json:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        print(f"Run {found.key}, {found.state}; started {found.created} on {found.device} with {versions}; ", end="")
        print(f"{console.duration(found.seconds)} of computing.\n")
    print_tables(database, found.key, card_of(found, arguments.bundle), arguments.json)
    return 0


def export_csv(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    options.check_folder("--csv", arguments.csv)
    outputs.check_folder(arguments.csv, [database.path], export.ENDINGS)
    found = database.run(arguments.name)
    for path in export.write_csv(arguments.csv, database, found.key, card_of(found, arguments.bundle)):
        print(path)
    return 0


def delete(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    found = database.run(arguments.name)
    rows = counted(sum(database.counts(found.key).values()), "row")
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise options.WrongUse(f"add --yes to delete run {found.short} and its {rows} for good.")
        print(f"Delete run {found.short} and its {rows} for good? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 1
    database.delete(found.key)
    print(f"Deleted run {found.short} and its {rows}.")
    return 0


def card_of(found: runs.Run, name: str | None) -> bundles.Card | None:
    """The card whose thresholds are applied: the bundle `name`, else the one the run was made with, if it is here."""
    if name is not None:
        return bundles.read_card(bundles.find(name))
    return bundles.with_checksum(planning.from_json(found.plan).bundle_checksum)


def print_tables(database: runs.Database, key: str, card: bundles.Card | None, as_json: bool) -> None:
    """The tables of a run on stdout."""
    records = load(database, key)
    found = tables.tables_of(records, card)
    if as_json:
        print(json_text.write(export.as_json(records, found, card), indent=1))
    else:
        print("\n\n".join(render_text(table, console.width()) for table in tables.for_screen(found)))
