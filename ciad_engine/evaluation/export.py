"""Hand an evaluation on: CSV files with a side-car that says how they came about, or JSON."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ciad_engine import __version__, bundles
from ciad_engine.errors import RunError
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.curves import CHARTS, Curve, charts, curves
from ciad_engine.evaluation.opinions import WORDS as CONTROLS
from ciad_engine.evaluation.records import attack_title, load
from ciad_engine.evaluation.table import Table
from ciad_engine.evaluation.tables import tables_of
from ciad_engine.evaluation.thresholds import control_thresholds, graded_thresholds
from ciad_engine.figures import png, svg
from ciad_engine.figures.chart import place
from ciad_engine.files import write_whole
from ciad_engine.runs import BENIGN, Database, Row

SIDE_CAR = "run.json"
_CHART_FILES = tuple(f"{name}.{suffix}" for name in CHARTS for suffix in ("svg", "png"))
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(folder: Path | str, database: Database, run_id: str, card: bundles.Card | None = None) -> list[Path]:
    """Write tables, ROC curves and per-image rows as CSV, charts as SVG and PNG, and `run.json`; returns the paths.

    UTF-8 with a header row, numbers at full precision, lines ended as RFC 4180 wants it. A share or an AUROC takes
    four columns (value, n, low, high), and the last two columns of a table say on which data and in which
    run it was computed. Text a spreadsheet would take for a formula gets a leading apostrophe.
    Existing files of these names are replaced, each as a whole; where there is nothing to draw, charts are removed.

    Raises:
        RunError: there is no such run, or the folder or a file in it cannot be written.
    """
    folder = Path(folder)
    records = load(database, run_id)
    tables = tables_of(records, card)
    key, about = records.run.key, {"data": records.plan.data, "run": records.run.short}
    files = {f"{table.name}.csv": _csv(*_flat(table, about)) for table in tables}
    found = curves(records)
    files["roc.csv"] = _csv(*_roc_lines(found, about))
    files["rows.csv"] = _csv(*_row_lines(database.rows(key), None if card is None else card.classes))
    files[SIDE_CAR] = json.dumps(as_json(database, key, tables, card), indent=1, ensure_ascii=False) + "\n"
    content = {name: text.encode() for name, text in files.items()}
    for page in (place(chart) for chart in charts(records, found, card)):
        content |= {f"{page.name}.svg": svg.draw(page), f"{page.name}.png": png.draw(page)}
    written = []
    for name in _CHART_FILES:
        if name not in content:  # of an earlier export: it must not stand beside these tables
            (folder / name).unlink(missing_ok=True)
    for name, raw in content.items():
        path = folder / name
        try:
            write_whole(path, raw)
        except OSError as error:
            raise RunError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error
        written.append(path)
    return written


def as_json(
    database: Database, run_id: str, tables: Sequence[Table], card: bundles.Card | None = None
) -> dict[str, Any]:
    """The run as plain data for JSON: how it came about and its tables (without the per-image rows).

    Raises:
        RunError: there is no such run.
    """
    run = database.run(run_id)
    plan = planning.from_json(run.plan)
    return {
        "run": run.key,
        "state": run.state,
        "plan": planning.to_json(plan),
        "versions": run.versions,
        "exported_with": __version__,
        "device": run.device,
        "created": run.created,
        "exported": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": run.seconds,
        "images": database.counts(run.key).get(BENIGN, 0),
        "thresholds": {
            "paper": {"value": 0.5, "source": "fixed rule of the paper: adversarial where f1 and f2 disagree"},
            **dict.fromkeys(bundles.THRESHOLDS.values()),  # None where no card at hand says it
            **{
                bundles.THRESHOLDS[rate]: {"value": value, "source": source}
                for rate, (value, source) in graded_thresholds(card, plan).items()
            },
        },
        bundles.CONTROL_THRESHOLDS: {
            name: {bundles.THRESHOLDS[rate]: {"value": value, "source": source} for rate, (value, source) in of.items()}
            for name, of in control_thresholds(card, plan).items()
        },
        "classes": None if card is None else list(card.classes),
        "tables": [_table_json(table) for table in tables],
    }


def neutral(value: object) -> object:
    """A CSV cell no spreadsheet executes: formula-like text gets a leading apostrophe, numbers stay."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[dataclasses.asdict(cell) for cell in row] for row in table.rows],
        "notes": list(table.notes),
    }


def _flat(table: Table, about: Mapping[str, str]) -> tuple[list[str], list[list[object]]]:
    """Header and lines; a column of shares or areas becomes four, one of means two; `about` stands in every line."""
    header: list[str] = []
    lines: list[list[object]] = [[] for _ in table.rows]
    for k, column in enumerate(table.columns):
        cells = [row[k] for row in table.rows]
        parts = ["value"]
        parts += ["n"] if any(cell.n is not None for cell in cells) else []
        parts += ["low", "high"] if any(cell.share or cell.area for cell in cells) else []
        header += [column if part == "value" else f"{column}, {part}" for part in parts]
        for line, cell in zip(lines, cells, strict=True):
            line += [getattr(cell, part) for part in parts]
    return [*header, *about], [[*line, *about.values()] for line in lines]


def _roc_lines(found: Iterable[Curve], about: Mapping[str, str]) -> tuple[list[str], list[list[object]]]:
    lines: list[list[object]] = [
        [curve.title, curve.opinion, float(false), float(true), *about.values()]
        for curve in found
        for false, true in zip(curve.false, curve.true, strict=True)
    ]
    return ["Attack", "Score", "False positive rate", "True positive rate", *about], lines


def _row_lines(rows: Iterable[Row], classes: Sequence[str] | None) -> tuple[list[str], list[list[object]]]:
    """The rows as stored; behind them what a person reads: the attack as in the tables, the paper's rule, and the
    classes by name if known.

    Each control has two columns, its class and its score, empty where it did not speak.
    """
    names = [field.name for field in dataclasses.fields(Row) if field.name not in ("image", "opinions")]
    numbered = () if classes is None else ("label", "y1", "y2")
    lines: list[list[object]] = []
    for row in rows:
        said = {opinion.name: (opinion.y, opinion.score) for opinion in row.opinions}
        line = [getattr(row, name) for name in names]
        line[0] = line[0] or "benign"  # `attack` of the benign rows
        line += [attack_title(row.attack) if row.attack else "benign", "adversarial" if row.y1 != row.y2 else "benign"]
        line += [classes[getattr(row, name)] for name in numbered] if classes is not None else []
        line += [value for name in CONTROLS for value in said.get(name, (None, None))]
        lines.append(line)
    behind = [f"{name.replace('-', '_')}_{what}" for name in CONTROLS for what in ("y", "score")]
    return [*names, "attack_title", "paper_rule", *(f"{name}_class" for name in numbered), *behind], lines


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # "\r\n", quotes where needed, floats by repr, None as nothing
    writer.writerow([neutral(cell) for cell in header])
    for line in lines:
        writer.writerow([int(cell) if isinstance(cell, bool) else neutral(cell) for cell in line])
    return out.getvalue()
