"""Thresholds: chosen from above, kept strictly."""

import numpy as np
import pytest

from ciad_engine.detectors.threshold import threshold_at


def test_a_threshold_is_exceeded_at_most_at_its_rate():
    scores = np.arange(1, 21, dtype=np.float64)
    assert threshold_at(scores, 0.05).value == 20  # "linear" would give 19.05, which one of twenty exceeds all the same
    assert threshold_at(scores, 0.1).value == 19
    assert (scores > threshold_at(scores, 0.1).value).mean() <= 0.1


@pytest.mark.parametrize("count", [7, 19, 20, 21, 99, 1000, 4170])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_no_number_of_images_lets_the_rate_be_higher(count, rate):
    scores = np.random.default_rng(count).exponential(size=count)
    value = threshold_at(scores, rate).value
    assert (scores > value).mean() <= rate
    assert value in scores  # an observed score, not one in between
    below = scores[scores < value].max()
    assert (scores >= below).mean() > rate  # and no higher than that takes


def test_the_source_says_how_it_was_chosen():
    found = threshold_at(np.arange(4170.0), 0.05, "benign validation images that f1 classifies correctly")
    assert found.source == "95% quantile of 4,170 benign validation images that f1 classifies correctly"
    assert threshold_at(np.arange(10.0), 0.01).source.startswith("99% quantile of 10 ")
