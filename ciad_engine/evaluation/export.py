"""Hand an evaluation on: CSV files with a side-car that says how they came about, or JSON."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ciad_engine import __version__, bundles, detectors, json_text
from ciad_engine.errors import RunError
from ciad_engine.evaluation import adaptive, planning
from ciad_engine.evaluation.curves import CHARTS, Curve, charts, curves
from ciad_engine.evaluation.records import Records, load, of_detectors, subject
from ciad_engine.evaluation.table import Subject, Table, to_json
from ciad_engine.evaluation.tables import tables_of
from ciad_engine.figures import png, svg
from ciad_engine.figures.chart import place
from ciad_engine.files import SURELY_OLD, check_regular, sync_folder, write_synced
from ciad_engine.runs import BENIGN, Database, Row

SIDE_CAR = "run.json"
ENDINGS = (".csv", ".json", ".svg", ".png")  # of all files that are written
_BESIDE = ".ciad-export-"  # start of the name of the folder in which an export is written first
# Files that not every run has.
_SOMETIMES = (f"{adaptive.NAME}.csv", *(f"{name}.{suffix}" for name in CHARTS for suffix in ("svg", "png")))
# Where a spreadsheet may see the start of a formula: at the start of a cell, and in one that it splits at another
# separator than the comma; after blanks and quotes of any kind that it may drop.
_FORMULA = re.compile(r"(?:^|[;\t\r\n\v\f\x00])[\W_]*?[=+\-@\u2212]")


def write_csv(folder: Path | str, database: Database, run_id: str, card: bundles.Card | None = None) -> list[Path]:
    """Write tables, ROC curves and per-image rows as CSV, charts as SVG and PNG, and `run.json`; return the paths.

    Headers and cells that name things are ASCII keys (`resources/docs/columns.md` describes them), numbers have full
    precision, lines end as RFC 4180 wants it. A rate or an AUROC takes four columns (value, n, low, high); the last two
    columns of a table are data and run. Text that a spreadsheet would run as a formula gets a leading apostrophe.
    Existing files of these names are replaced; those that this run does not have are removed. If it is stopped
    anywhere, there is the earlier export or a part of one export, never parts of two; `run.json` comes last, so where
    it is the export is whole.

    Raises:
        RunError: there is no such run, or the folder or a file in it cannot be written; then the earlier export stays.
    """
    folder = Path(folder)
    records = load(database, run_id)
    tables = tables_of(records, card)
    about = {"data": records.plan.data, "run": records.run.short}
    files = {f"{table.name}.csv": as_csv(table, about) for table in tables}
    found = curves(records)
    files["roc.csv"] = _csv(*_roc_lines(found, about))
    files["rows.csv"] = _csv(*_row_lines(records))
    files[SIDE_CAR] = json_text.write(as_json(records, tables, card), indent=1, ensure_ascii=False) + "\n"
    content = {name: text.encode() for name, text in files.items()}
    for page in (place(chart) for chart in charts(records, found, card)):
        content |= {f"{page.name}.svg": svg.draw(page), f"{page.name}.png": png.draw(page)}
    _replace(folder, content)
    return [folder / name for name in content]


def _replace(folder: Path, content: Mapping[str, bytes]) -> None:
    """Put an export in the place of an earlier one: written beside it first, because the disk may be full.

    A link stays one, and a file keeps its permissions.
    """
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old_parts(folder)
        names = dict.fromkeys((SIDE_CAR, *content, *_SOMETIMES))  # the side-car goes first, and comes last
        places = {name: Path(os.path.realpath(folder / name)) for name in names}
        beside = Path(tempfile.mkdtemp(prefix=_BESIDE, dir=folder))
        try:
            for name, raw in content.items():
                path = places[name]
                write_synced(beside / name, raw)
                if path.exists():
                    check_regular(path, sys.maxsize)
                    shutil.copymode(path, beside / name)
            for path in places.values():
                path.unlink(missing_ok=True)
            sync_folder(folder)
            for name in (*(name for name in content if name != SIDE_CAR), SIDE_CAR):
                path = places[name]
                shutil.move(beside / name, path)
                sync_folder(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error


def _remove_old_parts(folder: Path) -> None:
    """Remove what exports that were killed left beside the files."""
    for left in folder.glob(f"{_BESIDE}*"):
        if time.time() - left.lstat().st_mtime > SURELY_OLD and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def as_json(records: Records, tables: Sequence[Table], card: bundles.Card | None = None) -> dict[str, Any]:
    """Return the run as plain data for JSON: how it came about and its tables (without the per-image rows)."""
    run, plan = records.run, records.plan
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
        "images": len(records.benign),
        "thresholds": {
            name: {f"{rate:g}": dataclasses.asdict(threshold) for rate, threshold in known.items()}
            for name, known in of_detectors(card, plan).items()
        },
        "classes": list(plan.classes),
        "tables": [to_json(table) for table in tables],
    }


def neutral(value: object) -> object:
    """Return a CSV cell that no spreadsheet runs: formula-like text gets a leading apostrophe, numbers stay.

    Signs of full width and other forms count as the plain ones, because some spreadsheets take them so.
    """
    if isinstance(value, str) and _FORMULA.search(unicodedata.normalize("NFKC", value)):
        return "'" + value
    return value


_SUBJECT = ("attack", "norm", "settings", "detector")


def _named(subject: Subject) -> list[object]:
    """Return the cells that say what a row is about; see _SUBJECT."""
    return [subject.attack, subject.norm, json.dumps(subject.settings, sort_keys=True), subject.detector]


def as_csv(
    table: Table,
    about: Mapping[str, str],
    subject: Sequence[str] = _SUBJECT,
    named: Callable[[Subject], list[object]] = _named,
) -> str:
    """Return a table as CSV.

    Args:
        about: the last columns, the same in every line.
        subject: headers of the first columns, which say what a row is about; `named` returns their cells.
    """
    header, lines = list(subject), [named(one) for one in table.subjects]
    for k, column in enumerate(table.columns):
        cells = [row[k] for row in table.cells]
        parts = ["value"]
        parts += ["n"] if any(cell.n is not None for cell in cells) else []
        parts += ["low", "high"] if any(cell.rate or cell.area or cell.low is not None for cell in cells) else []
        header += [column.key if part == "value" else f"{column.key}_{part}" for part in parts]
        for line, cell in zip(lines, cells, strict=True):
            line += [getattr(cell, part) for part in parts]
    return _csv([*header, *about], [[*line, *about.values()] for line in lines])


def _roc_lines(found: Iterable[Curve], about: Mapping[str, str]) -> tuple[list[str], list[list[object]]]:
    lines = [
        [*_named(curve.subject), float(false), float(true), *about.values()]
        for curve in found
        for false, true in zip(curve.false, curve.true, strict=True)
    ]
    return [*_SUBJECT, "false_positive_rate", "true_positive_rate", *about], lines


def _row_lines(records: Records) -> tuple[list[str], list[list[object]]]:
    """Return the rows as stored, the attack as in the tables, classes by number and by name.

    Each detector has three columns: its class, the probability of that class, and its score.
    """
    plain = [f.name for f in dataclasses.fields(Row) if f.name not in ("attack", "image", "scores")]
    subjects = {label: _named(subject(records.plan, label))[:-1] for label in records.attacked}
    subjects[BENIGN] = ["benign", "", "{}"]
    names = detectors.in_order({name for row in records.benign for name in row.scores})
    classes = records.plan.classes
    lines: list[list[object]] = []
    for row in records.rows:
        line = [*subjects[row.attack], *(getattr(row, name) for name in plain), row.success]
        line += [classes[row.label], classes[row.y1]]
        for name in names:
            score = row.scores.get(name)
            line += [None] * 3 if score is None else [score.label, score.probability, score.value]
        lines.append(line)
    behind = [f"{name.replace('-', '_')}_{what}" for name in names for what in ("class", "probability", "score")]
    return [*_SUBJECT[:-1], *plain, "success", "label_class", "y1_class", *behind], lines


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # "\r\n", quotes where needed, floats by repr, None as nothing
    writer.writerow([neutral(cell) for cell in header])
    for line in lines:
        writer.writerow([int(cell) if isinstance(cell, bool) else neutral(cell) for cell in line])
    return out.getvalue()
