"""What reviewers ask before they believe that an attack failed, as AutoAttack's checks do (arXiv 2003.01690).

Softmax outputs are not among the notes: they are an error, which every attack raises.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ciad_engine import compute
from ciad_engine.attacks.goal import Evasion, Goal
from ciad_engine.attacks.model import classify, look
from ciad_engine.counting import counted
from ciad_engine.domain import Labels, Pixels

BATCH = 16
NOISE = 1e-3  # relative change between two calls that rounding may cause
FEWEST = 4  # classes


def check(network: nn.Module, images: Pixels, labels: Labels, evade: Sequence[Evasion] = ()) -> tuple[str, ...]:
    """Return what makes an attack's results on the network doubtful, a sentence each; all of the images are used.

    Raises:
        CiadError: the network returns probabilities, NaN, or something else than logits.
    """
    subjects = ["The network", *(f"The detector '{detector.name}'" for detector in evade)]
    with compute.borrowed(network), torch.inference_mode(False), torch.enable_grad():
        device = compute.device_of(network)

        def work(part: slice) -> tuple[int, list[tuple[Tensor, bool]]]:
            lattice = torch.tensor(np.ascontiguousarray(images[part]), device=device)
            goal = Goal(torch.tensor(labels[part].astype(np.int64), device=device), None, tuple(evade))
            return _measured(network, lattice, goal)

        parts = list(compute.in_batches(work, len(images), BATCH))
    count, notes = parts[0][0], []
    if count < FEWEST:
        notes.append(
            f"The network has only {count} classes: an attack hardly has a choice of wrong ones, so its success "
            "rate does not compare with that on ten classes."
        )
    for k, subject in enumerate(subjects):
        flat = int(sum(found[k][0].sum() for _, found in parts))
        if flat:
            notes.append(
                f"{subject} has no gradient at {flat} of {counted(len(images), 'image')}: attacks that follow "
                "gradients cannot move there, so their failures show no robustness."
            )
        if any(found[k][1] for _, found in parts):
            notes.append(
                f"{subject} answers differently from call to call: an attack follows a single answer, so its success "
                "rate is a lower bound for one that averages several."
            )
    return tuple(notes)


def _measured(network: nn.Module, lattice: Tensor, goal: Goal) -> tuple[int, list[tuple[Tensor, bool]]]:
    """The number of classes; of the network and of each detector where it is flat, bool (n,), and whether it varies."""
    seen, again = look(network, lattice), classify(network, lattice)
    classes = goal.toward(seen.logits)
    flat = _flat(goal.evidence(seen.logits), seen.images)
    # What is added to all logits of an image means nothing.
    found = [(flat, _varies(*(logits - logits.mean(1, keepdim=True) for logits in (seen.logits.detach(), again))))]
    firsts = goal.excess(seen.images, classes)
    with torch.no_grad():
        seconds = goal.excess(seen.images.detach(), classes)
    found += [
        (_flat(first, seen.images), _varies(first.detach(), second))
        for first, second in zip(firsts, seconds, strict=True)
    ]
    return seen.logits.shape[1], found


def _flat(outputs: Tensor, images: Tensor) -> Tensor:
    """bool (n,): the gradient of `outputs` (n,) with respect to the image is 0 or does not exist."""
    slope = None
    if outputs.requires_grad:
        (slope,) = torch.autograd.grad(outputs.sum(), images, allow_unused=True, retain_graph=True)
    return torch.ones_like(outputs, dtype=torch.bool) if slope is None else (slope == 0).flatten(1).all(1)


def _varies(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > NOISE * first.abs().max())
