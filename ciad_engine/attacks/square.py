"""The Square attack: random squares of colour, kept if they help; it asks for no gradient."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from ciad_engine import imaging
from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import Square
from ciad_engine.attacks.goal import Best, Goal
from ciad_engine.attacks.model import Model
from ciad_engine.counting import counted
from ciad_engine.jobs import Job

# The share of the image that a square covers is halved after these parts of 10,000 queries (the paper's appendix B).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def find(attack: Square, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    radius = math.floor(attack.eps) / 255
    low, high = (images - radius).clamp(min=0), (images + radius).clamp(max=1)
    levels = imaging.to_lattice(images).cpu().numpy()
    draws = [np.random.default_rng([attack.seed, zlib.crc32(image.tobytes())]) for image in levels]
    size = images.shape[-1]
    # It begins with vertical stripes, each channel of a column moved as far as it may be, up or down.
    stripes = np.stack([draw.choice([-1.0, 1.0], (3, 1, size)) for draw in draws])
    here = torch.where(torch.from_numpy(stripes).to(images) > 0, high, low)
    best, steps = Best(images), torch.zeros(len(images), dtype=torch.int64)
    missing = torch.full_like(images[:, 0, 0, 0], torch.inf)
    rows = torch.arange(len(images), device=images.device)
    for query in range(attack.queries):
        job.progress(query, attack.queries, f"{attack.title}: {counted(len(rows), 'image')} under way")
        tried = here[rows] if query == 0 else _with_square(here, low, high, rows, draws, side_of(attack, query, size))
        tried = (tried * 255).round_().div_(255)
        with torch.no_grad():
            outcome = goal.of(rows).at(model.logits(tried, rows), tried)
            found = outcome.margin().to(missing)
        better = found <= missing[rows]
        here[rows[better]], missing[rows[better]] = tried[better], found[better]
        steps[rows.cpu()] += 1
        best.keep(rows, tried, tried.new_zeros(len(rows)), outcome)
        rows = rows[~outcome.reached]
        if not len(rows):
            break
    job.progress(1, 1, attack.title)
    return Found(torch.where(best.known[:, None, None, None], best.images, here), steps, best.reasons())


def side_of(attack: Square, query: int, size: int) -> int:
    """Return the side of a query's square in images of this size, in pixels."""
    share = attack.p / 2 ** sum(query * 10_000 > at * attack.queries for at in HALVINGS)
    return int(min(max(round((share * size**2) ** 0.5), 1), size - 1))


def _with_square(
    here: Tensor, low: Tensor, high: Tensor, rows: Tensor, draws: list[np.random.Generator], side: int
) -> Tensor:
    """Return the images at `rows` with a square each, in which every channel is moved as far as it may be."""
    tried, size = here[rows].clone(), here.shape[-1]
    for place, row in enumerate(rows.tolist()):
        top, left = draws[row].integers(0, size - side + 1, 2)
        up = torch.from_numpy(draws[row].choice([False, True], 3)).to(here.device)
        part = (slice(None), slice(top, top + side), slice(left, left + side))
        tried[place][part] = torch.where(up[:, None, None], high[row][part], low[row][part])
    return tried
