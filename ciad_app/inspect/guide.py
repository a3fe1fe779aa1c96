"""The tour through page Inspect: what the network sees, attack it, the difference, the masks, who disagrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ciad_app.inspect.attack_panel import AttackPanel
from ciad_app.inspect.pane_grid import PaneGrid
from ciad_app.inspect.state import State
from ciad_app.inspect.verdict_bar import VerdictBar
from ciad_app.tour import Step

_SEES = """
The classifier f1 sees these few pixels and must choose one of its classes. The bars below show how
confident it is in each. Click another picture.
"""
_ATTACK = """
Press Attack: FGSM moves every colour value a little, in the direction that confuses f1 most. Then move the slider of
the budget.
"""
_DIFFERENCE = """
Hold Space to see the attacked picture in the place of the original. Here the difference is magnified.
"""
_MASKS = """
Yellow is what f1 needs to keep its class. The attack changed the class; did it change the mask?
"""
_DISAGREES = """
A detector gives a second opinion. If it contradicts f1, the image is flagged as adversarial. It errs, too: look for
FALSE ALARM and MISSED.
"""


def steps(state: Callable[[], State], grid: PaneGrid, panel: AttackPanel, verdict: VerdictBar) -> Sequence[Step]:
    """Return the steps; `state` tells what the page knows when it is asked."""

    def no_image() -> str:
        return "" if state().entry else "Select a picture in the list first."

    def no_pair() -> str:
        found = state().found
        if found is not None and found.adversarial is not None:
            return ""
        if found is not None and found.attack is not None:
            return "The attack failed: raise the budget and press Attack again."
        return "Press Attack first (Ctrl+Return)."

    return (
        Step("What the network sees", _SEES, grid.benign, no_image),
        Step("Attack it", _ATTACK, panel.button, lambda: state().why_not_attack),
        Step("Find the difference", _DIFFERENCE, grid.difference, no_pair),
        Step("Look at the masks", _MASKS, grid.adversarial_mask, no_pair),
        Step("Who disagrees", _DISAGREES, verdict, no_pair),
    )
