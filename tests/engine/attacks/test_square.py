import numpy as np
import pytest
import torch

from ciad_engine.attacks.catalogue import Square
from ciad_engine.attacks.goal import Evasion
from ciad_engine.attacks.square import side_of

from .toys import Curved, Wrapped, answers, random_images


def test_squares_shrink_on_the_papers_schedule():
    """Appendix B: p is halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries."""
    attack = Square(queries=10_000, p=0.8)
    for query, share in ((0, 0.8), (10, 0.8), (11, 0.4), (51, 0.2), (201, 0.1), (4001, 0.00625), (9999, 0.8 / 512)):
        assert side_of(attack, query, 32) == max(1, round((share * 1024) ** 0.5))
    # With fewer queries the schedule is as much shorter.
    assert side_of(Square(queries=1000), 51, 32) == side_of(attack, 510, 32)
    assert side_of(Square(p=1), 0, 32) == 31


def test_every_value_is_moved_as_far_as_it_may_be_or_not_at_all():
    """Stripes and squares move each value by the whole budget, unless it stands at the end of its range."""
    network, images = Curved(), random_images(20)
    labels = answers(network, images)
    result = Square(eps=20, queries=40).run(network, images, labels)
    assert result.success.any()
    low, high = np.maximum(images.astype(int) - 20, 0), np.minimum(images.astype(int) + 20, 255)
    moved = result.images[result.success].astype(int)
    assert ((moved == low[result.success]) | (moved == high[result.success])).all()


def test_more_queries_find_more_without_any_gradient():
    network, images = Curved(seed=3), random_images(60)
    labels = answers(network, images)
    flat = Wrapped(network, lambda z: z.detach())
    rates = [Square(eps=9, queries=queries).run(flat, images, labels).success.mean() for queries in (1, 20, 200)]
    assert rates == sorted(rates)
    assert rates[0] + 0.1 < rates[2]


def test_an_image_never_gets_worse():
    """The candidate that is kept is the nearest of all that were tried."""
    network, images = Curved(seed=3), random_images(30)
    labels = answers(network, images)

    def missing(result):
        with torch.no_grad():
            z = network.eval()(torch.from_numpy(result.candidates).float() / 255)
        own = z.gather(1, torch.from_numpy(labels)[:, None])[:, 0]
        return (own - z.scatter(1, torch.from_numpy(labels)[:, None], -torch.inf).amax(1)).numpy()

    few, many = (Square(eps=4, queries=queries, p=0.3).run(network, images, labels) for queries in (8, 9))
    both = ~few.success & ~many.success
    # The same draws, one more: the schedule is the same at so few queries.
    assert both.sum() > 5
    assert (missing(many)[both] <= missing(few)[both] + 1e-9).all()


@pytest.mark.parametrize("limit", [0.0, 0.25])
def test_it_evades_by_the_margin_of_the_whole_goal(limit):
    """A detector that flags dark images: only candidates that are bright enough reach the goal."""
    network, images = Curved(seed=3), random_images(40)
    labels = answers(network, images)
    bright = Evasion("dark", lambda x, classes: 0.5 + limit / 10 - x.double().mean((1, 2, 3)))
    result = Square(eps=40, queries=150).run(network, images, labels, evade=(bright,))
    means = result.images.mean((1, 2, 3)) / 255
    assert (result.fooled & ~result.evaded).any() or result.success.all()
    assert (means[result.success] >= 0.5 + limit / 10 - 1e-9).all()
    assert result.success.sum() > 5
