"""`ciad inspect`: one image through attack and detector, said in a sentence or as JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ciad_engine import attacks
from ciad_engine.cli import attack as attack_command
from ciad_engine.cli import console, options
from ciad_engine.errors import CiadError

_RULES = ("paper", "graded")  # detectors.contrast.RULES, which would import torch


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images(parser)
    parser.add_argument("--attack", metavar="NAME", help=f"attack them first: {', '.join(attacks.names())}")
    parser.add_argument(
        "--rule",
        choices=_RULES,
        default="paper",
        help="adversarial where f1 and f2 disagree (paper, the default), or by how much they do (graded)",
    )
    options.add_label(parser)
    options.add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print a list of records instead of sentences")
    options.add_attack_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    from ciad_engine import bundles, compute, inspection

    chosen = options.create_attack(arguments, arguments.attack)
    card = bundles.read_card(bundles.find(arguments.bundle))
    label = options.label_number(arguments.label, card.classes)
    pictures, failed = attack_command.read_all(arguments.images, job)
    system = bundles.load(card.folder, compute.choose_device(arguments.device))
    records: list[dict[str, Any]] = []
    for picture in pictures:
        try:
            found = inspection.inspect(
                system,
                picture.pixels,
                name=picture.name,
                label=label,
                attack=chosen,
                rule=arguments.rule,
                job=job,
            )
        except CiadError as error:
            job.line(f"ciad: {picture.name}: {error}")
            failed += 1
            continue
        job.clear()
        if picture.note:
            job.note(f"{picture.name}: {picture.note}")
        if arguments.json:
            records.append(inspection.as_dict(found))
        else:
            print(f"{picture.name}: {inspection.sentence(found)}")
    job.finished()
    if arguments.json:
        print(json.dumps(records, indent=1))
    return 1 if failed else 0
