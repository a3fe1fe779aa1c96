"""Tables on cards of format 1, which named columns by their headings, as the tables of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ciad_engine import detectors
from ciad_engine.evaluation import planning, tables
from ciad_engine.evaluation.records import POOLED, subject
from ciad_engine.evaluation.table import Cell, Column, Table

_DETECTORS = {
    "f2 on the mask (CIAD)": "mask",
    "a plain MLP on the image": "mlp",
    "f2 on the shuffled mask": "shuffled-mask",
    "f2 on a constant mask": "constant-mask",
    "f1's own confidence": "confidence",
}
_TRANSFERRED = "Attacked network in f1's place: true "
_COMMON = {
    "Adversarial images": "adversarial_images",
    "True positive": "true_positive_rate",
    "True negative": "true_negative_rate_paired",
    "True negative, all benign": "true_negative_rate_all",
    "True negative, all f1 got right": "true_negative_rate",
    "Recovery": "recovery_rate",
    "Class kept": "class_retention_rate",
    "AUROC": "auroc",
    **{
        f"Graded, {percent} %: {old}": f"graded_{percent}_{new}"
        for percent in (5, 1)
        for old, new in (
            ("true positive", "true_positive_rate"),
            ("true negative", "true_negative_rate_paired"),
            ("TN, all benign", "true_negative_rate_all"),
            ("TN, all f1 got right", "true_negative_rate"),
        )
    },
}
_KEYS = {
    "table1": {
        "Mask retention": "mask_retention_rate",
        "Paper": "paper_mask_retention_rate",
        "Retention where the benign mask was right": "mask_retention_rate_mask_correct",
        "Retention, all that fool the attacked network": "mask_retention_rate_all_fooled",
    },
    "table2": {
        "Paper's true positive": "paper_true_positive_rate",
        "Paper's true negative": "paper_true_negative_rate",
        "Graded: AUROC": "auroc",
        "Fool the attacked network": "fooled_images",
        "True positive, all of these": "true_positive_rate_all_fooled",
        "True negative, all of these": "true_negative_rate_all_fooled",
        "Recovery, all of these": "recovery_rate_all_fooled",
        f"{_TRANSFERRED}positive": "attacked_true_positive_rate",
        f"{_TRANSFERRED}negative": "attacked_true_negative_rate",
    },
    "table4": {"Paper, all three": "paper_rate"},
    "attacks": {
        "Images": "images",
        "Already misclassified": "already_misclassified",
        "Success rate": "success_rate",
        "Of these fool f1, too": "transfer_rate",
        **{
            f"{old}, {f}": f"{new}_{f}"
            for new, old in tables.DISTANCES.items()
            for f in ("mean", "median")
        },
        "Forward passes": "forwards_mean",
        "Backward passes": "backwards_mean",
        "Steps": "steps_mean",
        "Milliseconds per image": "milliseconds_per_image",
    },
}  # fmt: skip
_TITLES = {
    column.key: column
    for column in (*tables.TABLE1, *tables.TABLE2, *tables.TABLE4, *tables.ATTACKS)
}  # fmt: skip


def place(table: str, heading: str) -> tuple[str, str, str]:
    """Return where a column of an old table is found today: table, key of the column, detector.

    Raises:
        KeyError: there was no such column.
    """
    if table == "controls":
        if heading in _COMMON:
            return "table2", _COMMON[heading], detectors.MASK
        measure, _, words = heading.rpartition(": ")
        return "table2", _COMMON[measure], _DETECTORS[words]
    keys = {**_COMMON, **_KEYS[table]}
    if table == "attacks":
        start, _, reason = heading.partition(": ")
        if reason:
            return table, tables.reason_key({"Failed": "failed", "Not attacked": "not_attacked"}[start], reason), ""
        return table, keys[heading], ""
    return table, keys[heading], detectors.MASK


def read(content: Sequence[Mapping[str, Any]], plan: planning.Plan) -> tuple[Table, ...]:
    """Return the tables of an evaluation on a card of format 1.

    Raises:
        KeyError, TypeError, ValueError: they are not such tables.
    """
    found: dict[str, dict[tuple[int, str], dict[str, Cell]]] = {}
    about: dict[str, tuple[str, tuple[str, ...]]] = {}
    for old in content:
        for k, row in enumerate(old["rows"]):
            for heading, cell in zip(old["columns"][1:], row[1:], strict=True):
                name, key, detector = place(old["name"], heading)
                cells = found.setdefault(name, {}).setdefault((k, detector), {})
                values = {"value": None, **cell}
                values["rate"] = values.pop("share", False)
                cells[key] = Cell(**values)
        if old["name"] != "controls":
            about[old["name"]] = old["title"], tuple(old["notes"])
    subjects = [*plan.labels, POOLED]
    made = []
    for name, rows in found.items():
        keys = list(dict.fromkeys(key for cells in rows.values() for key in cells))
        ordered = sorted(keys, key=lambda key: list(_TITLES).index(key) if key in _TITLES else len(_TITLES))
        names = detectors.in_order({detector for _, detector in rows})
        places = sorted(rows, key=lambda place: (names.index(place[1]), place[0]))
        made.append(
            Table(
                name,
                about[name][0],
                tuple(_TITLES.get(key, Column(key, key.replace("_", " ").capitalize())) for key in ordered),
                tuple(subject(plan, subjects[k], detector) for k, detector in places),
                tuple(tuple(rows[place].get(key, Cell(None)) for key in ordered) for place in places),
                about[name][1],
            )
        )
    return tuple(made)
