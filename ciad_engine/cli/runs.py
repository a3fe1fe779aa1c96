"""`ciad runs list|show|export|delete`: the evaluations in the results database."""

from __future__ import annotations

import argparse
from pathlib import Path

from ciad_engine import bundles, files, json_text, moments, runs
from ciad_engine.cli import console, options
from ciad_engine.counting import counted, disk_size, listed
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
    """List all runs. Those that cannot be read are named, and the exit code is 1."""
    found, plans, bad = database.runs(), {}, []
    for one in found:
        try:
            plans[one.key] = planning.of_run(one)
        except RunError as error:
            bad.append(str(error))
    sizes = database.sizes() if plans else {}
    rows = [("run", "started", "rows", "size", "state", "bundle", "setting", "attacks", "data")]
    chosen = dict(zip(plans, planning.told_apart(list(plans.values())), strict=True))
    for one in (one for one in found if one.key in plans):
        plan = plans[one.key]
        rows.append(
            (
                one.short,
                started(one),
                f"{sum(database.counts(one.key).values()):,} of {plan.rows:,}",
                disk_size(sizes.get(one.key, 0)),
                one.state,
                plan.bundle,
                plan.setting,
                ", ".join(choice.text(plan.classes) for choice in chosen[one.key]),
                plan.data,
            )
        )
    if plans:
        print(console.columns(rows))
    elif not found:
        print("No runs yet; `ciad evaluate` makes one.")
    if found:
        print(f"\n{about_disk(database)}")
    for text in bad:
        job.line(f"ciad: {text}")
    return 1 if bad else 0


def started(run: runs.Run) -> str:
    """Return when a run began, in local time; as it is stored if that is not a time."""
    moment = moments.local(run.created)
    return run.created[:16] if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def about_disk(database: runs.Database) -> str:
    """Return where the database is, how much of the disk it uses, and what of it are copies of older formats."""
    text = f"{database.path} uses {disk_size(database.size)}"
    copies = database.copies
    if copies:
        size = disk_size(sum(map(files.size_of, copies)))
        which = listed([path.name for path in copies])
        text += f", {size} of it for {which}: kept from before a new version; delete what you do not need"
    return f"{text}."


def show(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    found = database.run(arguments.name)
    if not arguments.json:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        print(f"Run {found.key}, {found.state}; started {found.created} on {found.device} with {versions}; ", end="")
        print(f"{console.duration(found.seconds)} of computing.\n")
    print_tables(database, found.key, card_of(found, arguments.bundle), arguments.json)
    return 0


def export_csv(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    options.check_folder("--csv", arguments.csv, [database.path], export.ENDINGS)
    found = database.run(arguments.name)
    for path in export.write_csv(arguments.csv, database, found.key, card_of(found, arguments.bundle)):
        print(path)
    return 0


def delete(arguments: argparse.Namespace, database: runs.Database, job: console.ConsoleJob) -> int:
    found = database.find(arguments.name)  # also a damaged one: to delete it is what one is told to do
    rows = counted(sum(database.counts(found.key).values()), "row")
    what = f"run {found.short} and its {rows}"
    try:
        plan = planning.of_run(found)
        attacks = ", ".join(plan.title(label) for label in plan.labels)
        about = f"{found.state}, started {started(found)}: {attacks} on {plan.data} with bundle {plan.bundle}"
    except RunError:
        about = "damaged"
    question = f"Delete {what}, about {disk_size(database.sizes().get(found.key, 0))}, for good ({about})?"
    if not options.confirmed(question, arguments.yes, f"add --yes to delete {what} for good."):
        return 1
    before = database.size
    database.delete(found.key)
    print(f"Deleted {what}.")
    try:
        database.shrink()
    except RunError as error:
        job.note(f"The file keeps its size, and later runs reuse the space: {error}")
    else:
        job.note(
            f"{database.path} now uses {disk_size(database.size)} ({disk_size(max(0, before - database.size))} less)."
        )
    return 0


def card_of(found: runs.Run, name: str | None) -> bundles.Card | None:
    """Return the card whose thresholds are applied: bundle `name`'s, else that of the run's own if it is here."""
    if name is not None:
        return bundles.read_card(bundles.find(name))
    return bundles.with_checksum(planning.of_run(found).bundle_checksum)


def print_tables(database: runs.Database, key: str, card: bundles.Card | None, as_json: bool) -> None:
    """Print the tables of a run."""
    records = load(database, key)
    found = tables.tables_of(records, card)
    if as_json:
        print(json_text.write(export.as_json(records, found, card), indent=1))
    else:
        print("\n\n".join(render_text(table, console.width()) for table in tables.for_screen(found)))
