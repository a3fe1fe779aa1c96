"""JSMA's exact search for the best pair of values, in O(d log d) instead of O(d^2)."""

from __future__ import annotations

import torch
from torch import Tensor

# Pairs compared at once, in all images together: bounds the memory (8 bytes each, a few copies).
PAIRS_AT_ONCE = 2**22


def best_pairs(u: Tensor, v: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    """The pair p != q that maximises (u_p + u_q) (v_p + v_q) where both sums are positive, per image.

    Both factors grow with both arguments. So a value that is outdone in u and v by two others can
    be exchanged for one of them without loss, and the best pair lies within the first two Pareto
    layers of the points (u, v): some 30 of 3072 on usual gradients. In the order of falling u, a
    layer is where v exceeds all before it. The result equals that of comparing all pairs.

    Args:
        u, v: float (N, d).
        available: bool (N, d), the values that may be chosen.

    Returns:
        int64 (N, 2), the pairs, lower index first; and bool (N,), whether there is any such pair.
        Equal points count in the order of their index. Of pairs with equal products the one whose
        first value, then whose second, has the larger u.
    """
    count, size = u.shape
    u, order = u.masked_fill(~available, -torch.inf).sort(dim=1, descending=True, stable=True)
    v = v.masked_fill(~available, -torch.inf).gather(1, order)
    first = _layer(v)
    kept = first | _layer(v.masked_fill(first, -torch.inf))
    # The kept values side by side: (N, K) places in the order of u, `size` where an image has fewer.
    place = kept.cumsum(1) - 1
    width = max(2, int(place[:, -1].max()) + 1)
    places = torch.full((count, width), size, dtype=torch.int64, device=u.device)
    image, column = kept.nonzero(as_tuple=True)
    places[image, place[image, column]] = column
    pad = places == size
    places = places.clamp(max=size - 1)
    # Doubles: sums and products of float32 gradients neither overflow nor vanish in them.
    u = u.gather(1, places).double().masked_fill(pad, -torch.inf)
    v = v.gather(1, places).double().masked_fill(pad, -torch.inf)
    chunk = max(1, PAIRS_AT_ONCE // width**2)
    parts = [_best_of_all(u[start : start + chunk], v[start : start + chunk]) for start in range(0, count, chunk)]
    chosen, valid = (torch.cat(part) for part in zip(*parts, strict=True))
    pairs = order.gather(1, places.gather(1, chosen))
    return pairs.sort(1).values, valid


def _layer(v: Tensor) -> Tensor:
    """bool (N, d): where v (N, d) exceeds everything before it in its row."""
    highest = v.cummax(1).values
    before = torch.cat([torch.full_like(v[:, :1], -torch.inf), highest[:, :-1]], 1)
    return v > before


def _best_of_all(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Compare all pairs of a few candidates: u, v (N, K) -> int64 (N, 2) places, bool (N,) valid."""
    width = u.shape[1]
    a = u[:, :, None] + u[:, None, :]
    b = v[:, :, None] + v[:, None, :]
    upper = torch.ones(width, width, dtype=torch.bool, device=u.device).triu(1)
    product = torch.where((a > 0) & (b > 0) & upper, a * b, -torch.inf).flatten(1)
    best, flat = product.max(1)
    return torch.stack([flat // width, flat % width], 1), best > -torch.inf
