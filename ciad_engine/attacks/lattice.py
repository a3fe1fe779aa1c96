"""From an adversarial image in floats to one in 8 bits: round, then repair what rounding undid."""

from __future__ import annotations

import torch
from torch import Tensor

from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model

ROUNDS = 12  # linearisations at most
# How much more than the linear need is moved at first, and by what factor that grows with each round. Steep values
# may buy nothing, because the network bends within a grey level; moving ever more reaches those that do buy.
_SLACK, _GROWTH = 1.1, 1.3


def on_lattice(images: Tensor) -> Tensor:
    """bool (N,): float images (N, C, H, W) in [0, 1] that 8 bits hold without rounding."""
    levels = images * 255
    return ((levels - levels.round()).abs() < 1e-3).flatten(1).all(1)


def repair(model: Model, rows: Tensor, originals: Tensor, candidates: Tensor, goal: Goal, norm: str) -> Tensor:
    """The lattice point next to each candidate, moved by as little as makes it fool again where rounding undid that.

    A value can be rounded up or down. Round by round those values are moved by one grey level that, by the gradient of
    the goal's margin, buy most of it for the distance they add ("l2": squared Euclidean; "l0": only values that are
    changed anyway; "linf": none further than the farthest), until the margin's linear need is met, and in each further
    round more of them. Values whose move even lowers the distance come first.

    Args:
        rows: int64 (n,), the images' places in the model's batch.
        originals: uint8 (n, C, H, W).
        candidates: float (n, C, H, W) in [0, 1].
        goal: that of these images.
        norm: the attack's.

    Returns:
        uint8 (n, C, H, W): the repaired image, or the rounded candidate where that fools or nothing helps.
    """
    base = originals.to(candidates.dtype).flatten(1)
    start = (candidates * 255).round().flatten(1)
    found = start.clone()
    changed = (candidates.flatten(1) * 255 - base).abs() > 1e-3
    farthest = (start - base).abs().amax(1, keepdim=True)
    left = torch.arange(len(rows), device=rows.device)
    for round_ in range(ROUNDS + 1):
        levels = found[left]
        x = (levels / 255).view(-1, *candidates.shape[1:]).requires_grad_()
        logits = model.logits(x, rows[left])
        outcome = goal.of(left).at(logits, x)
        going = ~outcome.reached
        if round_ == ROUNDS or not going.any():
            break
        missing = outcome.margin()
        slope = model.gradient(missing, x, rows[left][going], among=going).flatten(1) / 255
        left, levels = left[going], levels[going]
        move = -slope.sign()
        change, reach = levels - base[left], levels + move
        allowed = (slope != 0) & (reach >= 0) & (reach <= 255)
        cost = torch.ones_like(slope)
        if norm == "l2":
            cost = 2 * move * change + 1
        elif norm == "l0":
            allowed &= changed[left]
        else:
            allowed &= (reach - base[left]).abs() <= farthest[left]
        gain = torch.where(allowed, slope.abs(), 0)
        # Free moves first, the largest gain among them; then by gain for the distance.
        worth = torch.where(cost > 0, gain / cost.clamp(min=1), gain + gain.amax(1, keepdim=True))
        order = worth.argsort(dim=1, descending=True)
        bought = gain.gather(1, order).cumsum(1)
        need = missing.detach()[going].to(gain)[:, None] * (_SLACK * _GROWTH**round_)
        enough = (bought - gain.gather(1, order)) <= need  # the last one crosses the need
        chosen = torch.zeros_like(allowed).scatter_(1, order, enough) & allowed
        found[left] = levels + move * chosen
    # What could not be repaired is handed back as it was rounded.
    found[left[going]] = start[left[going]]
    return found.view_as(candidates).to(torch.uint8)
