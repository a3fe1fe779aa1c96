import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine.attacks.base import Attack, Found
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.lattice import on_lattice, repair
from ciad_engine.attacks.model import Model
from ciad_engine.attacks.words import FOOLED, LOST_TO_ROUNDING, NO_ADVERSARIAL
from ciad_engine.imaging import to_lattice, to_unit

from .toys import Curved, Linear, answers, random_images


def near_misses(network, count, seed=0):
    """Images, their labels, and candidates that fool the network by a hair, off the lattice."""
    images = random_images(count, seed, low=60, high=196)
    labels = torch.tensor(answers(network, images))
    x = to_unit(torch.tensor(images)).double()
    low, high = torch.zeros(count, 1, 1, 1).double(), torch.ones(count, 1, 1, 1).double()
    here = x.clone().requires_grad_()
    own = network(here).gather(1, labels[:, None]).sum()
    (slope,) = torch.autograd.grad(own, here)
    far = x - slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for _ in range(60):
        middle = (low + high) / 2
        fooled = (network(torch.lerp(x, far, middle)).argmax(1) != labels).view(-1, 1, 1, 1)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    candidates = torch.lerp(x, far, high)
    kept = (network(candidates).argmax(1) != labels) & (candidates.flatten(1).amin(1) >= 0)
    kept &= candidates.flatten(1).amax(1) <= 1
    return torch.tensor(images)[kept], labels[kept], candidates[kept]


def balanced(classes=2):
    """A linear network for which images of mean grey lie at the boundary."""
    network = Linear(classes, scale=0.3)
    with torch.no_grad():
        network.bias -= network.weight.sum(0) / 2
    return network


def mend(network, images, labels, candidates, norm, targets=None):
    model = Model(network, len(images))
    return repair(model, torch.arange(len(images)), images, candidates, Goal(labels, targets), norm), model


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("network", [Linear(10, scale=0.3), Curved(seed=1).eval()])
def test_what_rounding_undid_fools_again_at_hardly_any_distance(network, norm):
    images, labels, candidates = near_misses(network, 80)
    rounded = to_lattice(candidates)
    undone = network(to_unit(rounded)).argmax(1) == labels
    assert undone.sum() >= 10
    found, _ = mend(network, images, labels, candidates, norm)
    assert found.dtype == torch.uint8
    fools = network(to_unit(found)).argmax(1) != labels
    assert fools.double().mean() >= (1 if norm == "l2" else 0.9)  # there is not always one no farther off
    # An image that was not undone stays as it was rounded.
    assert torch.equal(found[~undone], rounded[~undone])
    before, after = ((x.double() - images).flatten(1).norm(dim=1) for x in (rounded, found))
    assert (after <= before + 2).all()  # grey levels
    if norm == "linf":
        farthest = [(x.double() - images).abs().flatten(1).amax(1) for x in (found, rounded)]
        assert (farthest[0] <= farthest[1]).all()


def test_few_values_stay_few():
    network = balanced()
    images, labels, _ = near_misses(network, 60)
    # Changed in eight places alone, as far as needed; the other places would buy more, but are not to be changed.
    x = to_unit(images).double()
    slope = (network.weight[:, 0] - network.weight[:, 1]).detach() * torch.where(labels == 0, -1, 1)[:, None]
    places = slope.abs().argsort(1, descending=True)[:, 8:16]
    moved = torch.zeros_like(slope).scatter_(1, places, slope.gather(1, places)).view_as(x)
    lead = network(x)
    gap = (lead.gather(1, labels[:, None]) - lead.gather(1, 1 - labels[:, None]))[:, 0].detach()
    length = (gap + 1e-6) / (slope.gather(1, places) ** 2).sum(1)
    candidates = x + moved * length.view(-1, 1, 1, 1)
    inside = (candidates.flatten(1).amin(1) >= 0) & (candidates.flatten(1).amax(1) <= 1)
    images, labels, candidates, places = images[inside], labels[inside], candidates[inside], places[inside]
    undone = network(to_unit(to_lattice(candidates))).argmax(1) == labels
    assert undone.sum() >= 5
    found, _ = mend(network, images, labels, candidates, "l0")
    assert (network(to_unit(found)).argmax(1) != labels).all()
    moved_values = (found != images).flatten(1)
    assert moved_values.any(1).all()
    assert not moved_values.scatter(1, places, False).any()


def test_a_target_is_reached():
    network = Linear(4, scale=0.3)
    images, labels, candidates = near_misses(network, 60)
    targets = network(candidates).argmax(1)
    found, model = mend(network, images, labels, candidates, "l2", targets)
    assert (network(to_unit(found)).argmax(1) == targets).all()
    at_once = network(to_unit(to_lattice(candidates))).argmax(1) == targets
    assert (model.forwards[at_once] == 1).all()
    assert (model.backwards[at_once] == 0).all()
    assert (model.backwards == model.forwards - 1).all()


def test_the_ends_of_the_range_are_not_left():
    """White images, and a class that only brighter ones would reach."""
    network = balanced()
    with torch.no_grad():
        network.weight[:, 0] = network.weight[:, 0].abs()
        network.weight[:, 1] = 2 * network.weight[:, 0]
        network.bias[:] = torch.tensor([0.0, -float(network.weight[:, 0].sum()) - 1e-3])
    images = torch.full((4, 3, 4, 4), 255, dtype=torch.uint8)
    labels, targets = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert (network(to_unit(images)).argmax(1) == 0).all()
    candidates = to_unit(images).double() - 0.4 / 255
    found, model = mend(network, images, labels, candidates, "l2", targets)
    assert torch.equal(found, to_lattice(candidates))  # nothing helps, and 256 is not 0
    assert (model.backwards > 0).all()


@pytest.mark.parametrize(
    ("moved", "slopes", "need", "chosen"),
    [
        (10, (1.0, 0.5), 0.4, 1),  # twice the slope, at 21 times the distance: the other one
        (0, (1.0, 0.5), 0.4, 0),  # both unmoved: the steeper one
        (-2, (0.5, 1.0), 0.4, 0),  # moved the wrong way: taking that back buys margin and distance at once
    ],
)
def test_the_move_that_costs_least_is_taken(moved, slopes, need, chosen):
    """Two values with a slope each, the first of them moved so far; margin is missing for `need` levels of slope 1."""
    network = Linear(2)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[0, 1], network.weight[1, 1] = slopes
    images = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    start = images.double()
    start[0, 0, 0, 0] += moved
    with torch.no_grad():
        network.bias[1] = -(network(start / 255)[0, 1] + need / 255)
    found, _ = mend(network, images, torch.tensor([0]), start / 255, "l2")
    assert (found.double() - start).flatten().nonzero().flatten().tolist() == [chosen]


class Rippled(nn.Module):
    """Four values promise much and buy nothing: a wave with a whole period in each grey level. Eight buy a little."""

    def __init__(self, need):
        super().__init__()
        self.need = need

    def forward(self, x):
        levels = 255 * x.double().flatten(1)
        promise = torch.sin(2 * torch.pi * levels[:, :4]).sum(1) / (2 * torch.pi)
        lead = self.need - promise - 0.1 * (levels[:, 4:12] - 100).sum(1)
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def test_values_that_buy_nothing_do_not_stand_in_the_way_for_ever():
    images = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    network, labels = Rippled(need=0.4), torch.zeros(2, dtype=torch.int64)
    found, _ = mend(network, images, labels, to_unit(images).double(), "l2")
    assert (network(to_unit(found)).argmax(1) == 1).all()


def test_on_lattice():
    images = torch.tensor(random_images(3))
    x = to_unit(images)
    x[1, 0, 0, 0] += 0.3 / 255
    assert on_lattice(x).tolist() == [True, False, True]
    assert on_lattice(to_unit(torch.arange(256).to(torch.uint8).view(1, 1, 16, 16))).tolist() == [True]
    assert np.allclose((x * 255).numpy()[0], images[0])


class _Between(nn.Module):
    """Calls everything class 0 but what lies between two grey levels; there is no slope on the lattice."""

    def forward(self, x):
        off = torch.sin(torch.pi * 255 * x.double()).square().flatten(1).mean(1, keepdim=True)
        return torch.cat([torch.full_like(off, 0.1), off.round(decimals=6) + 0 * off], 1)


class _Nearly(Attack):
    """Finds what fools as floats only: less than half a grey level away."""

    name, title, source, norm = "nearly", "Nearly", "", "linf"

    def find(self, model, images, goal, job):
        return Found(images + 0.4 / 255, torch.ones(len(images), dtype=torch.int64), [FOOLED, NO_ADVERSARIAL])


def test_what_rounding_loses_for_good_is_counted_as_such():
    network, images = _Between(), random_images(2, low=100, high=150)
    with torch.no_grad():
        assert (network(to_unit(torch.tensor(images)) + 0.4 / 255).argmax(1) == 1).all()
    result = _Nearly().run(network, images, answers(network, images))
    assert result.reason.tolist() == [LOST_TO_ROUNDING, NO_ADVERSARIAL]
    assert not result.success.any()
    np.testing.assert_array_equal(result.images, images)
