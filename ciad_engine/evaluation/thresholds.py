"""The thresholds on a bundle's card, from validation images, for the scores in a run's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ciad_engine import bundles
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.statistics import Images, Scores
from ciad_engine.evaluation.table import NO_SHARE, Cell, share_of

Threshold = tuple[float, str]  # its value, and where it comes from
Thresholds = dict[float, Threshold]  # by false positive rate


def graded_thresholds(card: bundles.Card | None, plan: planning.Plan) -> Thresholds:
    """The graded rule's thresholds on the card of the plan's bundle; none where `card` is not that card."""
    if card is None or card.checksum != plan.bundle_checksum:
        return {}
    return _read(card.content.get("thresholds", {}))


def control_thresholds(card: bundles.Card | None, plan: planning.Plan) -> dict[str, Thresholds]:
    """The same for each control in the graded rule's place, by its name (`detectors.controls`)."""
    if card is None or card.checksum != plan.bundle_checksum:
        return {}
    return {name: _read(saved) for name, saved in card.content.get(bundles.CONTROL_THRESHOLDS, {}).items()}


def rates_at(
    threshold: Threshold | None, positive: Scores, negative: Scores, images: Images, finished: bool
) -> tuple[Cell, Cell]:
    """The true positive and the true negative rate; empty cells where there is no threshold."""
    if threshold is None:
        return NO_SHARE, NO_SHARE
    value = threshold[0]
    return share_of(positive > value, images, finished), share_of(negative <= value, images, finished)


def _read(saved: Mapping[str, Any]) -> Thresholds:
    return {
        rate: (float(saved[name]["value"]), str(saved[name]["source"]))
        for rate, name in bundles.THRESHOLDS.items()
        if name in saved
    }
