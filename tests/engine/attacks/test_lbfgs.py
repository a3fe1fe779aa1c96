import numpy as np
import torch

from ciad_engine.attacks.catalogue import LBFGS, CarliniWagnerL2
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.lbfgs import _Memory, _Search
from ciad_engine.attacks.model import Model
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Job

from .test_carlini_wagner import floats, least_distance
from .toys import Curved, Linear, answers, random_images


def test_on_a_linear_model_it_finds_the_nearest_adversarial_image():
    network, images = Linear(2, scale=0.5), random_images(16, low=60, high=196)
    labels = answers(network, images)
    found = floats(LBFGS(search_steps=14), network, images, labels)
    distance = (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()
    for i in range(16):
        optimum = least_distance(network, images[i], labels[i], [1 - labels[i]])
        assert optimum * 0.999 <= distance[i] <= optimum * 1.02


def test_the_minimum_in_the_box_is_found():
    """Against bisection along the only path: of a linear network with two classes the minimiser is clip(x - t w)."""
    network, images = Linear(2, scale=1.0, seed=3), random_images(10)
    labels = answers(network, images)
    x = to_unit(torch.tensor(images)).double()
    c = torch.full((10,), 0.7, dtype=torch.float64)
    model = Model(network, 10)
    search = _Search(LBFGS(iterations=200), model, x, Goal(torch.tensor(labels)))
    ends = {}
    original = search._evaluate

    def watch(point, rows, *rest):
        value, slope = original(point, rows, *rest)
        for row, one, at in zip(rows.tolist(), value.tolist(), point, strict=True):
            if row not in ends or one < ends[row][0]:
                ends[row] = (one, at.clone())
        return value, slope

    search._evaluate = watch
    search.minimise(c, Job())
    weight = (network.weight[:, 0] - network.weight[:, 1]).detach()
    for i in range(10):
        w = weight if labels[i] == 0 else -weight
        bias = float((network.bias[labels[i]] - network.bias[1 - labels[i]]).detach())
        flat = x[i].flatten()

        def objective(t, flat=flat, w=w, bias=bias):
            at = (flat - t * w).clamp(0, 1)
            return float((at - flat).square().sum() + 0.7 * torch.nn.functional.softplus(at @ w + bias))

        best = min(objective(t) for t in np.linspace(0, 2, 20_001))
        assert ends[i][0] <= best + 1e-5 * abs(best) + 1e-9


def test_the_recursion_is_the_dense_formula():
    """H of BFGS, updated as a matrix from the same pairs, for two images with pairs of their own."""
    torch.manual_seed(0)
    memory = _Memory(torch.zeros(2, 6, dtype=torch.float64))
    pairs = []
    for _ in range(4):
        step = torch.randn(2, 6, dtype=torch.float64)
        change = step * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 0.1 * torch.randn(2, 6, dtype=torch.float64)
        memory.add(step, change)
        pairs.append((step, change))
    slope = torch.randn(2, 6, dtype=torch.float64)
    found = memory.direction(slope)
    for i in range(2):
        last_step, last_change = pairs[-1][0][i], pairs[-1][1][i]
        h = torch.eye(6, dtype=torch.float64) * (last_step @ last_change) / (last_change @ last_change)
        for step, change in pairs:
            s, y = step[i][:, None], change[i][:, None]
            rho = 1 / float(s.T @ y)
            left = torch.eye(6, dtype=torch.float64) - rho * s @ y.T
            h = left @ h @ left.T + rho * s @ s.T
        torch.testing.assert_close(found[i], -h @ slope[i])


def test_it_comes_as_near_as_carlini_and_wagner():
    network, images = Curved(), random_images(30)
    labels = answers(network, images)
    ours = LBFGS().run(network, images, labels)
    theirs = CarliniWagnerL2(iterations=300, search_steps=6, initial_c=0.1).run(network, images, labels)
    both = ours.success & theirs.success
    assert ours.success.sum() >= theirs.success.sum() - 2
    assert ours.l2[both].mean() <= 1.1 * theirs.l2[both].mean()
    assert ours.steps[both].mean() < theirs.steps[both].mean()
