"""The statistics behind the tables, numpy only."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Images = npt.NDArray[np.int64]
FEWEST = 30  # images of which a bootstrap says anything
DRAWS = 1000  # of a bootstrap
CONFIDENCE = 0.95


def wilson(k: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval for a share of `k` in `n` (Wilson 1927), as (low, high) in [0, 1].

    Unlike the normal approximation it is right near 0 and 1, where detection rates lie. (0, 1) for n = 0.
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = k / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The exact bounds at k = 0 and k = n are 0 and 1; rounding must not move them.
    return (0.0 if k == 0 else (centre - reach) / scale), (1.0 if k == n else (centre + reach) / scale)


def auroc(positive: Scores, negative: Scores) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    None where either side is empty.
    """
    if len(positive) == 0 or len(negative) == 0:
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    upto = np.searchsorted(ordered, positive, "right")
    return float((below + upto).sum() / (2 * len(positive) * len(negative)))


def auroc_interval(positive: Scores, negative: Scores, images: Images) -> tuple[float, float] | None:
    """Bootstrap 95% interval of `auroc` (percentiles, Efron 1979); `positive` and `negative` are of the same images.

    Images are drawn, not scores, because the scores of an image belong together. `images` (int64, as many) says of
    which image a pair of scores is. None for fewer than FEWEST images, and where every draw gives the same, as where
    the scores do not overlap: it would claim to be certain.
    """
    different, pair_of = np.unique(images, return_inverse=True)
    if len(different) < FEWEST:
        return None
    order = np.argsort(negative, kind="stable")
    below = np.searchsorted(negative[order], positive, "left")
    upto = np.searchsorted(negative[order], positive, "right")
    values = np.empty(DRAWS)
    passed = np.zeros(len(positive) + 1)
    for draw, drawn in enumerate(_drawn(len(different))):
        times = drawn[pair_of].astype(np.float64)
        np.cumsum(times[order], out=passed[1:])
        values[draw] = times @ (passed[below] + passed[upto]) / (2 * passed[-1] ** 2)
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return (float(low), float(high)) if low < high else None


def share_interval(holds: npt.NDArray[np.bool_], images: Images) -> tuple[float, float]:
    """95% interval of the share of `holds`, where images (int64, as many) are there several times.

    A bootstrap that draws images, each with all that is known of it, says how much the share varies; the interval is
    Wilson's for as many independent images as would let it vary so. Of fewer than FEWEST images, and where all hold or
    none, it is Wilson's as if each image were there once.
    """
    different, of_image = np.unique(images, return_inverse=True)
    count = len(different)
    share = float(holds.mean()) if count else 0.0
    if count < FEWEST or share in (0.0, 1.0):
        return wilson(share * count, count)
    held, all_of = np.bincount(of_image, holds, count), np.bincount(of_image, minlength=count)
    times = _drawn(count).astype(np.float32)
    values = (times @ held.astype(np.float32)) / (times @ all_of.astype(np.float32))
    variance = max(float(values.var()), share * (1 - share) / len(holds))  # no more than so many different images
    worth = share * (1 - share) / variance
    return wilson(share * worth, worth)


def mean_interval(values: Scores) -> tuple[float, float] | None:
    """Bootstrap interval, 95%, of the mean of values, one per image; None as of `auroc_interval`."""
    if len(values) < FEWEST:
        return None
    times = _drawn(len(values)).astype(np.float64)
    return _middle(times @ values / len(values))


def class_share(
    values: npt.NDArray[np.floating], classes: npt.NDArray[np.int64]
) -> tuple[float | None, tuple[float, float] | None]:
    """Share of the variance of `values` (N, M), a row per image, that the images' `classes` (N,) explain; its interval.

    Variances are half the mean squared distance of two different images: of any two, and of two of a class, averaged
    over the classes by their size. Unlike sums of squares, this does not grow because classes are small, nor because a
    bootstrap draws an image twice; so it is 0 on average, and may be below, if class and values are unrelated. None
    without variance, or if no class has two images. The interval is a bootstrap's over images, 95%.
    """
    centred = np.asarray(values, np.float64) - np.mean(values, 0, dtype=np.float64)
    squares = (centred**2).sum(1)

    def variance(times: Scores, rows: npt.NDArray[np.bool_]) -> Scores:
        w = times[:, rows]
        size = w.sum(1)
        apart = size * (w @ squares[rows]) - ((w @ centred[rows]) ** 2).sum(1)
        pairs = size**2 - (w**2).sum(1)  # of different images; an image has distance 0 from itself
        found: Scores = np.divide(apart, pairs, out=np.full(len(w), np.nan), where=pairs > 0)
        return found

    def share(times: Scores) -> Scores:
        members = [classes == one for one in np.unique(classes)]
        within = np.stack([variance(times, rows) for rows in members])
        sizes = np.where(np.isnan(within), 0, np.stack([times[:, rows].sum(1) for rows in members]))
        with np.errstate(invalid="ignore", divide="ignore"):
            kept: Scores = 1 - (np.nan_to_num(within) * sizes).sum(0) / sizes.sum(0) / variance(
                times, np.ones(len(classes), np.bool_)
            )
        return kept

    if squares.max() < 1e-12:
        return None, None
    found = float(share(np.ones((1, len(values))))[0])
    if np.isnan(found):
        return None, None
    if len(values) < FEWEST:
        return found, None
    return found, _middle(share(_drawn(len(values)).astype(np.float64)))


def rank_correlations(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> Scores:
    """Spearman's correlation of each row of `first` (N, M) with that of `second`, (N,); NaN if one is constant."""
    a, b = (np.stack([_ranks(row) for row in rows]) for rows in (first, second))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found: Scores = np.divide((a * b).sum(1), size, out=np.full(len(a), np.nan), where=size > 0)
    return found


def _ranks(values: npt.NDArray[np.floating]) -> Scores:
    """Return the rank of each value; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Scores = (last - (counts - 1) / 2)[place]
    return ranks


def _middle(values: Scores) -> tuple[float, float] | None:
    """Return the middle 95% of bootstrapped values; None if all are the same, which would claim to be certain."""
    low, high = np.nanquantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return (float(low), float(high)) if high - low > 1e-12 else None


@functools.lru_cache(maxsize=2)  # one for all intervals of a table
def _drawn(count: int) -> npt.NDArray[np.uint8]:
    """How often each of `count` images is drawn, (DRAWS, count)."""
    random = np.random.default_rng(0)
    times = np.empty((DRAWS, count), np.uint8)
    for draw in times:
        draw[:] = np.bincount(random.integers(count, size=count), minlength=count)
    return times


def roc(positive: Scores, negative: Scores) -> tuple[Scores, Scores]:
    """The corners of the ROC curve, from (0, 0) to (1, 1): false and true positive rates, float64 (M,) each.

    An image is called positive where its score is above the threshold; where a positive and a negative score are
    equal the curve goes aslant, so that the area below it is `auroc`. Empty where either side is.
    """
    if len(positive) == 0 or len(negative) == 0:
        return np.empty(0), np.empty(0)
    levels = np.unique(np.concatenate((positive, negative)))[::-1]
    # How many lie at or above each level, after none.
    false, true = (
        np.concatenate(([0], len(values) - np.searchsorted(np.sort(values), levels, "left")))
        for values in (negative, positive)
    )
    # Between two corners the curve is straight: what lies on the line adds nothing to it.
    across, up = np.diff(false), np.diff(true)
    kept = np.concatenate(([True], across[:-1] * up[1:] != across[1:] * up[:-1], [True]))
    return false[kept] / len(negative), true[kept] / len(positive)


def histogram(scores: Scores, edges: Scores) -> Scores:
    """The share of `scores` in each of the bins between `edges` (N + 1,), float64 (N,).

    A score beyond an end is in the last bin there. Zeros where there are no scores.
    """
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return counts / max(len(scores), 1)
