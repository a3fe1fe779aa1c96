import numpy as np
import pytest
import torch

from ciad_engine.attacks.catalogue import CarliniWagnerL2
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.lattice import ROUNDS
from ciad_engine.attacks.model import Model
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.errors import SettingError
from ciad_engine.imaging import to_lattice, to_unit
from ciad_engine.jobs import Job

from .toys import Curved, Linear, Recorder, Wrapped, answers, random_images


def least_distance(network, image, label, targets, confidence=0.0):
    """The L2 distance to the nearest image in [0, 1] that a linear network gives one of `targets`.

    min |d| with slope . d >= need and 0 <= x + d <= 1 has d = clip(t slope, -x, 1 - x): bisect t.
    (Several classes: the nearest half space is a lower bound, and the optimum where it is reached.)
    """
    x = image.reshape(-1) / 255
    weight = network.weight.detach().numpy()
    best = np.inf
    for j in targets:
        slope = weight[:, j] - weight[:, label]
        need = confidence - x @ slope
        low, high = 0.0, 1e4
        if slope @ np.clip(high * slope, -x, 1 - x) < need:
            continue
        for _ in range(100):
            middle = (low + high) / 2
            reached = slope @ np.clip(middle * slope, -x, 1 - x) >= need
            low, high = (low, middle) if reached else (middle, high)
        best = min(best, np.linalg.norm(np.clip(high * slope, -x, 1 - x)))
    return best


def floats(attack, network, images, labels, targets=None):
    """The attack's candidates before rounding, and its reasons."""
    found = attack.find(
        Model(network, len(images)),
        to_unit(torch.tensor(images)),
        Goal(torch.tensor(labels), None if targets is None else torch.tensor(targets)),
        Job(),
    )
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    return found


def test_on_a_linear_model_it_finds_the_nearest_adversarial_image():
    network, images = Linear(10, scale=0.5), random_images(16, low=60, high=196)
    labels = answers(network, images)
    # Distances down to .003: Adam's step must be small against them.
    attack = CarliniWagnerL2(iterations=400, learning_rate=0.002, initial_c=0.01)
    found = floats(attack, network, images, labels)
    distance = (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()
    for i in range(16):
        optimum = least_distance(network, images[i], labels[i], [j for j in range(10) if j != labels[i]])
        assert optimum * 0.999 <= distance[i] <= optimum * 1.02


def test_on_black_and_white_images_it_finds_the_nearest_as_well():
    network, images = Linear(2, scale=0.5), random_images(12, high=2) * np.uint8(255)
    labels = answers(network, images)
    found = floats(CarliniWagnerL2(iterations=500, initial_c=0.1), network, images, labels)
    distance = (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()
    for i in range(12):
        optimum = least_distance(network, images[i], labels[i], [1 - labels[i]])
        assert optimum * 0.999 <= distance[i] <= optimum * 1.02


@pytest.mark.parametrize("confidence", [0.5, 3.0])
def test_the_confidence_is_reached_at_the_least_distance(confidence):
    network, images = Linear(2, scale=0.5), random_images(8, low=60, high=196)
    labels = answers(network, images)
    attack = CarliniWagnerL2(confidence=confidence, iterations=300, initial_c=0.01)
    found = floats(attack, network, images, labels, targets=1 - labels)
    with torch.no_grad():
        logits = network(found.images)
    lead = logits.gather(1, torch.tensor(1 - labels)[:, None]) - logits.gather(1, torch.tensor(labels)[:, None])
    assert (lead >= confidence - 1e-5).all()
    distance = (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()
    for i in range(8):
        optimum = least_distance(network, images[i], labels[i], [1 - labels[i]], confidence)
        assert optimum * 0.999 <= distance[i] <= optimum * 1.02


def test_more_iterations_and_more_confidence():
    network, images = Curved(), random_images(12)
    labels = answers(network, images)
    short = CarliniWagnerL2(iterations=20, search_steps=4, initial_c=0.1)
    long = CarliniWagnerL2(iterations=200, search_steps=6, initial_c=0.1)
    x = to_unit(torch.tensor(images))
    near = (floats(long, network.eval(), images, labels).images - x).flatten(1).norm(dim=1)
    far = (floats(short, network, images, labels).images - x).flatten(1).norm(dim=1)
    assert (near > 0).all()
    assert (far > 0).sum() >= 10
    assert (near < far)[far > 0].all()
    sure = CarliniWagnerL2(iterations=50, search_steps=6, initial_c=0.1, confidence=2).run(network, images, labels)
    plain = CarliniWagnerL2(iterations=50, search_steps=6, initial_c=0.1).run(network, images, labels)
    both = sure.success & plain.success
    assert both.any()
    assert (sure.confidence_after[both] > plain.confidence_after[both]).all()
    assert (sure.l2[both] > plain.l2[both]).all()


def test_what_rounding_undoes_is_repaired_close_by():
    """The images nearest to the boundary need less than half a grey level, which rounding undoes."""
    network, images = Linear(2, scale=0.05), random_images(40, low=100, high=150)
    with torch.no_grad():
        logits = network(to_unit(torch.tensor(images)))
        lead = logits[:, 0] - logits[:, 1]
    labels = answers(network, images)
    close = lead.abs().argsort()[:6].numpy()
    attack = CarliniWagnerL2(iterations=100, search_steps=6, initial_c=0.1)
    found = floats(attack, network, images[close], labels[close])
    rounded = to_lattice(found.images)
    undone = (network(to_unit(rounded)).argmax(1).numpy() == labels[close]).sum()
    assert undone >= 1
    result = attack.run(network, images[close], labels[close])
    assert result.success.all()
    distance = (found.images - to_unit(torch.tensor(images[close]))).flatten(1).norm(dim=1).numpy()
    assert (result.l2 * 255 <= distance * 255 + 2).all()  # grey levels


def test_an_unreachable_class_is_a_failure_with_a_reason():
    network, images = Linear(3), random_images(6)
    with torch.no_grad():
        network.bias[2] = -1e6
    labels = answers(network, images)
    attack = CarliniWagnerL2(iterations=30, search_steps=4, target="given", target_class=2)
    result = attack.run(network, images, labels)
    assert (result.reason == NO_ADVERSARIAL).all()
    np.testing.assert_array_equal(result.images, images)


def test_passes_are_counted_and_a_standing_image_leaves():
    network, images = Curved(), random_images(10)
    labels = answers(network, images)
    result = CarliniWagnerL2(iterations=200, search_steps=5).run(network, images, labels)
    repair = result.forwards - result.steps - 2  # one pass, if nothing was undone
    assert (repair >= result.success).all()
    assert (repair <= 1 + ROUNDS).all()
    assert (result.backwards - result.steps <= repair).all()
    assert result.steps.max() <= 5 * 200
    assert result.steps.min() < 5 * 200
    assert len(set(result.steps)) > 1  # each ends on its own


def test_a_descent_takes_two_passes_an_iteration_at_most():
    seen = {"forward": 0, "backward": 0}

    def count(logits):
        seen["forward"] += len(logits)
        logits.register_hook(lambda slope: seen.update(backward=seen["backward"] + len(slope)))
        return logits

    inner, images = Curved(), random_images(10)
    labels = torch.tensor(answers(inner, images))
    network = Wrapped(inner, count).eval().requires_grad_(False)
    attack, model = CarliniWagnerL2(iterations=100, search_steps=4), Model(network, 10)
    attack.find(model, to_unit(torch.tensor(images)), Goal(labels), Job())
    assert (model.forwards + model.backwards <= 2 * 100 * 4).all()
    # What is counted is what the network was asked for.
    assert seen == {"forward": model.forwards.sum(), "backward": model.backwards.sum()}


def test_progress_rises_to_the_end():
    network, images, job = Curved(), random_images(3), Recorder()
    CarliniWagnerL2(iterations=10, search_steps=3).run(network, images, answers(network, images), job)
    assert job.fractions == sorted(job.fractions)
    assert job.fractions[-1] == 1
    assert len(job.fractions) > 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": -1},
        {"iterations": 0},
        {"iterations": 10.5},
        {"search_steps": 0},
        {"learning_rate": 0},
        {"initial_c": 0},
        {"initial_c": float("nan")},
    ],
)
def test_bad_settings(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        CarliniWagnerL2(**wrong)


@pytest.mark.parametrize("iterations", [1, 2, 9, 11])
def test_few_iterations(iterations):
    network, images = Curved(), random_images(4)
    result = CarliniWagnerL2(iterations=iterations, search_steps=2).run(network, images, answers(network, images))
    assert result.steps.max() <= 2 * iterations


def test_a_network_that_hands_back_one_gradient_for_many_values():
    """Autograd gives the gradient of a sum as an expanded tensor, which cannot be written to."""

    class Means(torch.nn.Module):
        def forward(self, x):
            return x.sum((2, 3))

    images = random_images(4, low=100, high=120)
    labels = answers(Means(), images)
    assert CarliniWagnerL2(iterations=60, search_steps=4, initial_c=0.1).run(Means(), images, labels).success.any()
