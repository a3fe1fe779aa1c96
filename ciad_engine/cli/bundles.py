"""`ciad bundles list|show`: the trained systems there are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from ciad_engine import bundles
from ciad_engine.cli import console, info


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="list|show", required=True)
    every = actions.add_parser("list", help="name, folder and networks of each", parents=[common])
    every.set_defaults(run=list_all, parser=every)
    one = actions.add_parser("show", help="what one is, how it was trained and how well", parents=[common])
    one.add_argument("name", metavar="NAME", help="a bundle's name or folder")
    one.add_argument("--json", action="store_true", help="the whole card as JSON")
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
    if arguments.json:
        print(json.dumps({**card.content, "folder": str(card.folder), "checksum": card.checksum}, indent=1))
    else:
        print(_readable(card))
    broken = info.check(card)
    if broken:
        job.line(f"ciad: bundle '{card.name}' cannot be used: {broken}.")
    return 1 if broken else 0


def _readable(card: bundles.Card) -> str:
    """The card for people; whatever a card does not say is left out."""
    content = card.content
    parts = [f"{card.name}: {content['title']}" if "title" in content else card.name]
    about = {key: content.get(key) for key in ("created", "licence", "seed", "hardware")}
    made_by = content.get("software", {})
    parts.append(_section("", {"folder": card.folder, "checksum": card.checksum[:12], **about, **made_by}))
    parts.append("Networks")
    parts.append(
        console.columns(
            [
                (role.replace("_", " "), entry["network"], f"{entry.get('parameters', 0):,} parameters")
                for role, entry in content["networks"].items()
            ],
            indent="  ",
        )
    )
    data = {key: value for key, value in content.get("data", {}).items() if not isinstance(value, dict)}
    parts.append(_section("Data", data))
    parts.append(_section("Recipe", content.get("recipe", {})))
    for role, record in content.get("training", {}).items():
        figures = {
            "steps": record.get("schedule", {}).get("steps"),
            "minutes": round(record["seconds"] / 60, 1) if "seconds" in record else None,
            **record.get("validation", {}),
        }
        parts.append(_section(f"Training of the {role.replace('_', ' ')}", figures))
    for source, figures in content.get("measured", {}).items():
        parts.append(_section(f"Measured on {source}", figures))
    for rule, threshold in content.get("thresholds", {}).items():
        parts.append(_section(f"Threshold of the rule '{rule}'", threshold))
    if "limits" in content:
        parts.append("\n".join(["Limits", *(f"  {limit}" for limit in content["limits"])]))
    return "\n".join(part for part in parts if part)


def _section(title: str, figures: Mapping[str, object]) -> str:
    """A title and its lines; nothing where there are none."""
    known = [(key, _figure(value)) for key, value in figures.items() if value is not None]
    lines = console.columns(known, indent="  ") if known else ""
    return "\n".join(part for part in (title, lines) if part) if known else ""


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
