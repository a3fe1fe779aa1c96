"""`ciad evaluate`: a data set through attacks and detector, into the database, as tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ciad_engine import attacks, bundles, datasets, runs
from ciad_engine.cli import console, options
from ciad_engine.cli import runs as runs_command
from ciad_engine.counting import counted
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import export, planning

if TYPE_CHECKING:
    from ciad_engine.evaluation.planning import AttackChoice, Plan

LIMIT = 100  # images if nothing is said: a first answer within minutes on a CPU


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        choices=tuple(planning.PRESETS),
        default="paper",
        help="which attacks, with which settings, unless flags say otherwise: paper (the default); sweep, FGSM at"
        " four budgets, JSMA, C&W at four confidences, and each of the three once aimed at a random class; detection,"
        " attacks of every kind that do not know the detectors; or adaptive, the attacker who knows those of --evade:"
        " PGD, its orthogonal and selective kinds and Square at five budgets, and C&W",
    )
    parser.add_argument(
        "--attacks",
        metavar="NAMES",
        type=_names,
        help=f"comma-separated, of {', '.join(attacks.names())} (default: those of the preset)",
    )
    options.add_images_of(parser, LIMIT, "; the paper's tables want 1000 and more")
    parser.add_argument(
        "--transferred", action="store_true", help="attack the bundle's second classifier, inspect with the first"
    )
    options.add_evade(parser)
    options.add_surrogate(parser)
    options.add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("--csv", type=Path, metavar="DIR", help="also write rows, tables and charts to DIR")
    runs_command.add_database(parser)
    options.add_attack_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    if arguments.preset == "adaptive" and not arguments.evade:
        raise options.WrongUse("--preset adaptive: add --evade NAME, the detector that the attacker knows.")
    if arguments.surrogate is not None and not arguments.evade:
        raise options.WrongUse("--surrogate: add --evade NAME, the detector that it stands for.")
    card = bundles.read_card(bundles.find(arguments.bundle))
    options.check_folder("--csv", arguments.csv, options.read_by(arguments, card), export.ENDINGS)
    from ciad_engine import compute, systems
    from ciad_engine.evaluation import runner

    chosen = _choices(arguments, card.classes)
    if arguments.surrogate is not None:
        chosen += planning.transferred(bundles.evaded(card, arguments.surrogate))
    data = datasets.choose(arguments.data, job).matched(card.domain)
    limit = min(LIMIT, len(data)) if arguments.limit is None else arguments.limit
    attacked = bundles.SECOND_CLASSIFIER if arguments.transferred else bundles.CLASSIFIER
    plan = planning.make(card, data, chosen, limit, arguments.seed, attacked, arguments.evade)
    with runs.Database(arguments.database) as database:
        _announce(plan, database, job)
        system = systems.load(card.folder, compute.choose_device(arguments.device))
        job.continuing = "Finished batches are kept; the same command goes on from there."
        key = runner.run(plan, system, data, database, job)
        job.finished()
        if arguments.csv is not None:
            written = export.write_csv(arguments.csv, database, key, card)
            job.note(f"Wrote {', '.join(path.name for path in written)} to {arguments.csv}.")
        runs_command.print_tables(database, key, card, arguments.json)
        if not arguments.json:
            short = key[:12]
            where = f" --database {arguments.database}" if arguments.database else ""
            print(f"\nThe rows are run {short} in {database.path}.")
            if arguments.csv is None:
                print(f"Export them: ciad runs export {short} --csv DIR{where}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    """argparse type: names separated by commas, each once."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"no attack is named (known: {', '.join(attacks.names())})")
    return names


def _choices(arguments: argparse.Namespace, classes: Sequence[str]) -> tuple[AttackChoice, ...]:
    """The attacks with the preset's settings, and what the command line says over them."""
    preset = planning.preset(arguments.preset)
    names: Sequence[str] = arguments.attacks or tuple(dict.fromkeys(choice.name for choice in preset))
    said = options.attack_settings(arguments, names, classes)
    chosen = []
    try:
        for name in names:
            of_preset = [choice.parameters() for choice in preset if choice.name == name] or [{}]
            chosen += [planning.choose(name, **{**settings, **said[name]}) for settings in of_preset]
        return tuple(dict.fromkeys(chosen))  # a flag can make equal what the preset varies
    except SettingError as error:
        raise options.WrongUse(str(error)) from error


def _announce(plan: Plan, database: runs.Database, job: console.ConsoleJob) -> None:
    """Say what is computed, and whether a part of it is there already."""
    key, total = plan.key(), plan.rows
    done = sum(database.counts(key).values())
    which = ", ".join(choice.text(plan.classes) for choice in plan.attacks)
    images = counted(plan.limit, "image")
    job.note(f"{images} of {plan.data}; bundle {plan.bundle}; setting: {plan.setting}; {which}.")
    if done >= total:
        job.note(f"Run {key[:12]} is complete already.")
    elif done:
        job.note(f"Continuing run {key[:12]} ({done:,} of {total:,} rows done).")
