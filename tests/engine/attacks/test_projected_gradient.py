import itertools

import numpy as np
import pytest
import torch

from ciad_engine.attacks.catalogue import BIM, FGSM, PGD, OrthogonalPGD
from ciad_engine.attacks.goal import Evasion
from ciad_engine.errors import SettingError
from ciad_engine.imaging import to_unit

from .toys import Curved, Linear, answers, random_images


def by_hand(network, image, label, eps, step, iterations):
    """BIM as the paper writes it, of one image, in float64."""
    x = to_unit(torch.tensor(image[None])).double()
    here = x.clone()
    for _ in range(iterations):
        here.requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(here), torch.tensor([label]))
        (slope,) = torch.autograd.grad(loss, here)
        here = here.detach() + step / 255 * slope.sign()
        here = torch.maximum(torch.minimum(here, x + eps / 255), x - eps / 255).clamp(0, 1)
    return (here * 255).round().to(torch.uint8).numpy()[0]


@pytest.mark.parametrize("step", [2, 1.5, 20])
def test_bim_is_the_papers(step):
    network, images = Curved().eval(), random_images(30)
    labels = answers(network, images)
    result = BIM(eps=9, step=step, iterations=7).run(network, images, labels)
    assert result.success.sum() >= 5
    for i in np.flatnonzero(result.success):
        # Half a level, which 1.5 makes, is rounded to even by both, but not always from the same side.
        difference = result.images[i].astype(int) - by_hand(network, images[i], labels[i], 9, step, 7)
        assert np.abs(difference).max() <= (1 if step == 1.5 else 0)
    assert (result.steps == 7).all()
    assert (result.forwards == 7 + 1).all()  # the first is that which tells what the network gets right
    assert (result.backwards == 7).all()


def test_one_step_as_long_as_the_budget_is_fgsm():
    network, images = Curved(), random_images(20)
    labels = answers(network, images)
    one = BIM(eps=12, step=12, iterations=1).run(network, images, labels)
    np.testing.assert_array_equal(one.images, FGSM(eps=12).run(network, images, labels).images)


@pytest.mark.parametrize("attack", [BIM, PGD])
def test_the_box_is_not_left_and_is_used_up(attack):
    network, images = Linear(2, scale=0.5), random_images(20, low=20, high=235)
    with torch.no_grad():
        network.bias -= network.weight.sum(0) / 2  # grey lies at the boundary
    labels = answers(network, images)
    result = attack(eps=12.7, step=5, iterations=10).run(network, images, labels)
    assert result.success.any()
    assert (result.linf[result.success] == 12).all()
    # The optimum of a linear network in a box is its corner.
    slope = (network.weight[:, 1] - network.weight[:, 0]).sign().detach().numpy().reshape(3, 4, 4)
    for i in np.flatnonzero(result.success):
        corner = images[i] + 12 * slope * (1 if labels[i] == 0 else -1)
        np.testing.assert_array_equal(result.images[i], corner)


@pytest.mark.parametrize("attack", [BIM, PGD])
def test_stopping_early_is_nearer_and_costs_less(attack):
    network, images = Curved(), random_images(40)
    labels = answers(network, images)
    whole = attack(eps=16, iterations=20).run(network, images, labels)
    early = attack(eps=16, iterations=20, stop_early=True).run(network, images, labels)
    assert early.success.sum() >= whole.success.sum()
    both = early.success & whole.success
    assert early.l2[both].mean() < whole.l2[both].mean()
    assert early.steps[both].mean() < 20
    assert (early.steps[~early.success] == 20).all()
    assert (early.backwards == early.steps).all()


def test_a_larger_budget_fools_more():
    network, images = Curved(classes=4), random_images(60, seed=1)
    labels = answers(network, images)
    rates = [BIM(eps=eps).run(network, images, labels).success.mean() for eps in (0, 2, 4, 8, 16, 32)]
    assert rates == sorted(rates)
    assert rates[0] == 0
    assert rates[-1] > 0.5


def test_random_starts_follow_from_the_seed():
    network, images = Curved(), random_images(20)
    labels = answers(network, images)
    one, again = (PGD(eps=16, seed=5).run(network, images, labels) for _ in range(2))
    np.testing.assert_array_equal(one.images, again.images)
    other = PGD(eps=16, seed=6).run(network, images, labels)
    assert (other.images != one.images).any()


def test_more_runs_lose_no_image_and_leave_the_fooled_alone():
    network, images = Curved(seed=4), random_images(60)
    labels = answers(network, images)
    once = PGD(eps=6, iterations=5).run(network, images, labels)
    often = PGD(eps=6, iterations=5, restarts=8).run(network, images, labels)
    assert 0 < once.success.sum() < 60
    assert (often.success | ~once.success).all()
    assert often.success.sum() > once.success.sum()
    np.testing.assert_array_equal(often.images[once.success], once.images[once.success])
    assert (often.steps[once.success] == 5).all()
    assert (often.steps[~often.success] == 40).all()


@pytest.mark.parametrize("attack", [BIM, PGD])
def test_a_budget_below_a_grey_level_is_refused(attack):
    with pytest.raises(SettingError, match=r"eps = 0\.5 is less than one grey level"):
        attack(eps=0.5)


class Slanted(torch.nn.Module):
    """Two classes by one direction, which the detector's direction partly opposes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(48, dtype=torch.float64))
        self.other = torch.randn(48, dtype=torch.float64) - 0.5 * self.weight.detach()

    def forward(self, x):
        value = ((x.double().flatten(1) - 128 / 255) * self.weight).sum(1)
        return torch.stack([0.2 - value, value], 1)

    def excess(self, images, classes):
        return 0.2 - ((images.double().flatten(1) - 128 / 255) * self.other).sum(1)


@pytest.mark.parametrize("variant", ["orthogonal", "selective"])
def test_a_step_follows_the_classifier_until_it_is_fooled_then_the_detector(variant):
    network, images = Slanted().eval(), np.full((1, 3, 4, 4), 128, np.uint8)
    steps = []

    def watched(x, classes):
        steps.append(x.detach()[0].flatten().double())
        return network.excess(x, classes)

    attack = OrthogonalPGD(eps=20, step=1, iterations=60, variant=variant)
    result = attack.run(network, images, np.zeros(1, np.int64), evade=(Evasion("slanted", watched),))
    assert result.success.all()
    weight, other = network.weight.detach(), network.other
    directions = set()
    for before, after in itertools.pairwise(steps):
        step = after - before
        if not 0 < step.abs().max() < 1.001 / 255:  # another call than that of a step
            continue
        fooled = int(((before - 128 / 255) * weight).sum() > 0.1)
        flagged = network.excess(before[None], None).item() > 0
        own, spared = ((weight, other * flagged), (other * flagged, weight))[fooled]
        if variant == "orthogonal" and spared.any():
            own = own - (own @ spared) / (spared @ spared) * spared
        inside = step.abs() > 0.999 / 255  # the others stand at the end of their box
        assert torch.equal(step[inside].sign(), own[inside].sign())
        directions.add(fooled)
    assert directions == {0, 1}


def test_without_a_detector_it_is_pgd():
    network, images = Curved(), random_images(12)
    labels = answers(network, images)
    settings = {"eps": 12, "step": 4, "iterations": 5, "restarts": 2, "seed": 4}
    ours, plain = (kind(**settings).run(network, images, labels) for kind in (OrthogonalPGD, PGD))
    np.testing.assert_array_equal(ours.images, plain.images)
    np.testing.assert_array_equal(ours.success, plain.success)
