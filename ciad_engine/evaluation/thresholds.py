"""The thresholds on a bundle's card, applied to the scores in a run's rows."""

from __future__ import annotations

from collections.abc import Mapping

from ciad_engine import bundles
from ciad_engine.detectors.threshold import RATES, Threshold
from ciad_engine.evaluation.planning import Plan

Thresholds = Mapping[float, Threshold]  # by false positive rate


def of_detectors(card: bundles.Card | None, plan: Plan) -> dict[str, Thresholds]:
    """Return each detector's thresholds on the card of the plan's bundle; none if `card` is another bundle's."""
    if card is None or not card.knows(plan.bundle_checksum):
        return {}
    return {entry.name: entry.thresholds for entry in card.detectors if entry.thresholds}


def note(card: bundles.Card | None, plan: Plan, detector: str) -> str:
    """Describe the thresholds of a detector's graded rule, or why there are none."""
    known = of_detectors(card, plan).get(detector)
    if known:
        each = "; ".join(
            f"at {100 * rate:g}% "
            + (f"{known[rate].value:.4g} ({known[rate].source})" if rate in known else "none on the card")
            for rate in RATES
        )
        return f"Graded rule: flagged if -log of the probability of f1's class is above a threshold: {each}."
    if card is None:
        why = f"bundle '{plan.bundle}' is not installed"
    elif not card.knows(plan.bundle_checksum):
        why = f"bundle '{card.name}' has changed since this run"
    else:
        why = f"the card of bundle '{card.name}' has none"
    return f"Graded rule: no threshold applied, because {why}."
