"""Statistics against brute force and published values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciad_engine.evaluation.statistics import (
    auroc,
    auroc_interval,
    class_share,
    mean_interval,
    rank_correlations,
    roc,
    share_interval,
    wilson,
)

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12).map(np.array)


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 400), st.data())
def test_wilson_bounds_solve_its_equation(n: int, draw: st.DataObject) -> None:
    k = draw.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    for bound in (low, high):  # |share - p| = z sqrt(p (1 - p) / n)
        assert abs(k / n - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), abs=1e-6)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(7, 7)[1] == 1.0


@given(scores, scores)
def test_auroc_is_the_share_of_ordered_pairs(positive: np.ndarray, negative: np.ndarray) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs))


def test_auroc_of_nothing() -> None:
    assert auroc(np.array([]), np.array([1.0])) is None
    assert auroc(np.array([1.0]), np.array([])) is None


def test_the_interval_of_auroc_is_that_of_images_drawn_again() -> None:
    random = np.random.default_rng(5)
    positive, negative = random.integers(2, 9, 30).astype(float), random.integers(0, 7, 30).astype(float)
    again = np.random.default_rng(0)
    drawn = [auroc(positive[pick], negative[pick]) for pick in (again.integers(30, size=30) for _ in range(1000))]
    found = auroc_interval(positive, negative, np.arange(30))
    assert found == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))
    assert found is not None
    assert found[0] < auroc(positive, negative) < found[1]
    # Too few images, and scores that do not overlap: an interval would claim more than is known.
    assert auroc_interval(positive[:29], negative[:29], np.arange(29)) is None
    assert auroc_interval(positive + 10, negative, np.arange(30)) is None


def test_an_images_scores_are_drawn_together() -> None:
    random = np.random.default_rng(6)
    positive, negative = random.integers(2, 9, 90).astype(float), random.integers(0, 7, 90).astype(float)
    images = np.repeat(np.arange(40) * 7, [3] * 20 + [2] * 10 + [1] * 10)
    again = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        times = np.bincount(again.integers(40, size=40), minlength=40)[images // 7]
        drawn.append(auroc(np.repeat(positive, times), np.repeat(negative, times)))
    assert auroc_interval(positive, negative, images) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))
    assert auroc_interval(positive, negative, images // 70) is None  # four images, whatever number of scores


@given(scores, scores)
def test_the_roc_curve_passes_every_threshold_and_bounds_the_auroc(positive: np.ndarray, negative: np.ndarray) -> None:
    false, true = roc(positive, negative)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(auroc(positive, negative))
    for threshold in (-1.0, *positive, *negative):
        at = (negative > threshold).mean(), (positive > threshold).mean()
        k = np.flatnonzero(false <= at[0] + 1e-12)[-1]  # the last corner not beyond, and the next
        beyond = min(k + 1, len(false) - 1)
        along = np.interp(at[0], false[[k, beyond]], true[[k, beyond]]) if false[k] < false[beyond] else true[k]
        assert at[1] <= along + 1e-12
    slopes = [math.atan2(dy, dx) for dx, dy in zip(np.diff(false), np.diff(true), strict=True)]
    assert all(a != pytest.approx(b) for a, b in itertools.pairwise(slopes))  # corners alone


def test_the_roc_curve_of_nothing_is_empty() -> None:
    assert [len(side) for side in roc(np.array([]), np.array([1.0]))] == [0, 0]


def test_a_share_of_images_that_repeat_is_as_sure_as_the_images_are_many() -> None:
    """Each image three times over: the interval is that of the images, not that of three times as many."""
    held = np.random.default_rng(3).random(400) < 0.3
    low, high = share_interval(np.repeat(held, 3), np.repeat(np.arange(400), 3))
    assert (low, high) == pytest.approx(wilson(int(held.sum()), 400), abs=0.01)
    few = wilson(3 * int(held.sum()), 1200)
    assert high - low > 1.5 * (few[1] - few[0])
    rare = np.zeros(40, bool)
    rare[:2] = True
    low, high = share_interval(np.repeat(rare, 2), np.repeat(np.arange(40), 2))
    assert low > 0, "a few that hold are not none"
    assert (low, high) == pytest.approx(wilson(2, 40), abs=0.02)
    alike = share_interval(np.tile([True, False], 40), np.repeat(np.arange(40), 2))  # one of two of every image
    assert alike == pytest.approx(wilson(40, 80))


def test_a_share_that_draws_cannot_vary_has_wilsons_interval_of_its_images() -> None:
    images = np.repeat(np.arange(50), 2)
    assert share_interval(np.ones(100, bool), images) == wilson(50, 50)
    assert share_interval(np.zeros(100, bool), images) == wilson(0, 50)
    few = np.array([0, 0, 1, 1]), np.array([True, False, True, True])
    assert share_interval(few[1], few[0]) == wilson(1.5, 2)
    assert share_interval(np.array([], bool), np.array([], np.int64)) == (0.0, 1.0)


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    drawn = np.random.default_rng(1).normal(5, 2, 400)
    low, high = mean_interval(drawn)
    assert low == pytest.approx(drawn.mean() - 1.96 * drawn.std() / 20, abs=0.02)
    assert high == pytest.approx(drawn.mean() + 1.96 * drawn.std() / 20, abs=0.02)
    assert mean_interval(drawn[:29]) is None
    assert mean_interval(np.full(100, 0.3)) is None


def of_pairs(values: np.ndarray, classes: np.ndarray) -> float:
    """The share that classes explain, pair by pair."""
    halves = {
        (i, j): ((values[i] - values[j]) ** 2).sum() / 2 for i, j in itertools.combinations(range(len(values)), 2)
    }
    within, sizes = [], []
    for one in set(classes.tolist()):
        own = [half for (i, j), half in halves.items() if classes[i] == classes[j] == one]
        if own:
            within.append(np.mean(own))
            sizes.append((classes == one).sum())
    return float(1 - np.average(within, weights=sizes) / np.mean(list(halves.values())))


def test_the_share_that_classes_explain_is_that_of_pairs() -> None:
    random = np.random.default_rng(2)
    classes = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])  # one of them alone
    values = random.normal(0, 1, (10, 7)) + classes[:, None]
    found, interval = class_share(values, classes)
    assert found == pytest.approx(of_pairs(values, classes))
    assert interval is None


def test_the_share_that_classes_explain_of_known_variances() -> None:
    random = np.random.default_rng(3)
    classes = np.arange(400) % 10
    levels = random.normal(0, 1, (10, 500))
    values = levels[classes] + random.normal(0, math.sqrt(3), (400, 500))
    found, (low, high) = class_share(values.astype(np.float32), classes)
    assert found == pytest.approx(0.25, abs=0.02)
    assert low < found < high
    assert high - low < 0.02  # 400 images of 500 values each
    exact, interval = class_share(levels[classes], classes)
    assert exact == pytest.approx(1)
    assert interval is None  # every draw gives the same


def test_the_share_that_classes_explain_is_nothing_by_chance_however_few_images_there_are() -> None:
    random = np.random.default_rng(4)
    classes = np.arange(30) % 10
    found = [class_share(random.normal(0, 1, (30, 20)), classes) for _ in range(100)]
    assert np.mean([share for share, _ in found]) == pytest.approx(0, abs=0.02)  # of sums of squares: 9 / 29
    assert np.mean([low <= 0 <= high for _, (low, high) in found]) > 0.85


def test_the_share_that_classes_explain_of_nothing() -> None:
    assert class_share(np.ones((40, 3)), np.arange(40) % 4) == (None, None)
    assert class_share(np.eye(4), np.arange(4)) == (None, None)  # no class has two


def test_rank_correlations() -> None:
    row = np.array([0.1, 0.5, 0.2, 0.9])
    first = np.stack([row, row, row, np.ones(4), np.array([1.0, 2, 2, 3])])
    second = np.stack([row**3, -row, np.ones(4), row, np.array([1.0, 2, 3, 4])])
    found = rank_correlations(first, second)
    np.testing.assert_allclose(found, [1, -1, np.nan, np.nan, 4.5 / math.sqrt(4.5 * 5)])
