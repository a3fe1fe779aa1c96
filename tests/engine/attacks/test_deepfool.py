import numpy as np
import pytest
import torch

from ciad_engine.attacks.catalogue import DDN, DeepFool
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Job

from .test_carlini_wagner import floats, least_distance
from .toys import Curved, Linear, answers, random_images


def distances(network, images, found):
    return (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()


def test_on_a_linear_model_one_step_reaches_the_nearest_boundary():
    network, images = Linear(10, scale=0.3), random_images(40, low=60, high=196)
    labels = answers(network, images)
    found = floats(DeepFool(), network, images, labels)
    inside = 0
    for i, distance in enumerate(distances(network, images, found)):
        optimum = least_distance(network, images[i], labels[i], [j for j in range(10) if j != labels[i]])
        change = (found.images[i] - to_unit(torch.tensor(images[i]))).flatten()
        if found.steps[i] == 1 and (found.images[i] > 0).all() and (found.images[i] < 1).all():
            inside += 1
            assert optimum <= distance <= optimum * 1.021
            assert change.norm() > 0
    assert inside >= 20


def test_it_is_the_papers_on_a_curved_network():
    """Algorithm 2 written down for one image, with the clipping and the overshoot at each look."""
    network, images = Curved(classes=5).eval(), random_images(12)
    labels = answers(network, images)
    found = DeepFool(iterations=30).find(
        Model(network, 12), to_unit(torch.tensor(images)).double(), Goal(torch.tensor(labels)), Job()
    )
    for i in range(12):
        x = to_unit(torch.tensor(images[i : i + 1])).double()
        way, here = torch.zeros_like(x), x.clone()
        for _ in range(30):
            here.requires_grad_()
            logits = network(here)[0]
            if int(logits.argmax()) != labels[i]:
                break
            options = []
            for k in range(5):
                if k != labels[i]:
                    (w,) = torch.autograd.grad(logits[k] - logits[labels[i]], here, retain_graph=True)
                    w = w.masked_fill(((here <= 0) & (w < 0)) | ((here >= 1) & (w > 0)), 0)
                    f = float((logits[k] - logits[labels[i]]).detach())
                    options.append((abs(f) / float(w.norm()), abs(f) / float(w.norm()) ** 2 * w))
            way = way + min(options, key=lambda option: option[0])[1]
            here = (x + 1.02 * way).clamp(0, 1).detach()
        np.testing.assert_allclose(found.images[i].numpy(), here.detach().numpy()[0], atol=1e-9)


def test_it_goes_to_the_target_alone():
    network, images = Linear(10, scale=0.3), random_images(20, low=100, high=156)
    labels = answers(network, images)
    targets = (labels + 1) % 10
    found = floats(DeepFool(), network, images, labels, targets)
    assert all(reason == "" for reason in found.reason)
    nearest = floats(DDN(iterations=300, gamma=0.02, quantize=False), network, images, labels, targets)
    ratios = distances(network, images, found) / distances(network, images, nearest)
    # To the boundary with the class that leads, not with the label: that would be more than twice as far.
    assert ratios.mean() < 1.1
    assert ratios.max() < 1.5
    result = DeepFool(target="next").run(network, images, labels)
    assert result.success.sum() >= 5
    np.testing.assert_array_equal(result.label_after[result.success], targets[result.success])
    # One backward pass a step for the target, nine for all other classes (and those of the repair).
    free = DeepFool().run(network, images, labels)
    assert (result.backwards - result.steps < 13).all()
    assert (free.backwards >= 9 * free.steps).all()
    assert (free.backwards - 9 * free.steps < 13).all()


def test_fewer_classes_cost_less_and_find_no_nearer():
    network, images = Curved(), random_images(30)
    labels = answers(network, images)
    whole, few = (DeepFool(candidates=k).run(network, images, labels) for k in (10, 3))
    both = whole.success & few.success
    assert both.sum() >= 10
    assert whole.l2[both].mean() <= few.l2[both].mean() * 1.001
    assert few.backwards.sum() < whole.backwards.sum()


def test_an_overshoot_of_nothing_may_stay_at_the_boundary_and_more_goes_farther():
    network, images = Curved(), random_images(30)
    labels = answers(network, images)
    near, far = (DeepFool(overshoot=o).run(network, images, labels) for o in (0.02, 0.5))
    both = near.success & far.success
    assert both.any()
    assert (near.l2[both] < far.l2[both]).mean() > 0.9


@pytest.mark.parametrize("target", ["untargeted", "next"])
def test_a_flat_network_ends_without_an_image(target):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([2.0, 0.0, 0.0]).expand(len(x), 3) + 0 * x.sum((1, 2, 3))[:, None]

    images = random_images(3)
    result = DeepFool(target=target).run(Flat(), images, np.zeros(3, int))
    assert not result.success.any()
    assert (result.steps == 0).all()


def test_a_nearly_flat_network_does_not_end_the_batch():
    """A slope of 1e-19, whose square is nothing in single precision."""

    class NearlyFlat(torch.nn.Module):
        def forward(self, x):
            slope = 1e-19 * x.sum((1, 2, 3))
            return torch.stack([2 + slope, 0 * slope], 1)

    images = random_images(3)
    result = DeepFool(iterations=3).run(NearlyFlat(), images, np.zeros(3, int))
    assert not result.success.any()
