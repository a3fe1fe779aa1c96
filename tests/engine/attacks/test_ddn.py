import numpy as np
import torch

from ciad_engine.attacks.catalogue import DDN, CarliniWagnerL2
from ciad_engine.attacks.lattice import on_lattice
from ciad_engine.imaging import to_unit

from .test_carlini_wagner import floats, least_distance
from .toys import Curved, Linear, answers, random_images


def test_on_a_linear_model_it_finds_the_nearest_adversarial_image():
    # Two classes: with more, the loss need not point to the nearest.
    network, images = Linear(2, scale=0.2), random_images(16, low=60, high=196)
    labels = answers(network, images)
    attack = DDN(iterations=1500, gamma=0.01, quantize=False, first_norm=0.2)
    found = floats(attack, network, images, labels)
    distance = (found.images - to_unit(torch.tensor(images))).flatten(1).norm(dim=1).numpy()
    looked_at = 0
    for i in range(16):
        optimum = least_distance(network, images[i], labels[i], [1 - labels[i]])
        assert optimum * 0.999 <= distance[i]
        if optimum > 0.1:  # ten times the last step
            looked_at += 1
            assert distance[i] <= optimum * 1.02
    assert looked_at >= 6


def test_every_point_it_looks_at_is_on_the_lattice():
    network, images = Curved(), random_images(20)
    labels = answers(network, images)
    found = floats(DDN(), network.eval(), images, labels)
    assert on_lattice(found.images).all()
    result = DDN().run(network, images, labels)
    np.testing.assert_array_equal(result.success, [reason == "" for reason in found.reason])
    assert (result.steps == 100).all()
    assert (result.forwards == 100 + 2).all()
    assert (result.backwards == 99).all()


def test_it_comes_as_near_as_carlini_and_wagner_in_a_fraction_of_the_steps():
    network, images = Curved(), random_images(40)
    labels = answers(network, images)
    fast = DDN(iterations=200).run(network, images, labels)
    thorough = CarliniWagnerL2(iterations=300, search_steps=6, initial_c=0.1).run(network, images, labels)
    both = fast.success & thorough.success
    assert fast.success.sum() >= thorough.success.sum() - 1
    assert fast.l2[both].mean() <= 1.05 * thorough.l2[both].mean()
    assert fast.steps[both].mean() < thorough.steps[both].mean() / 2


def test_the_farthest_corner_bounds_the_search():
    """A target that cannot be reached lets the length grow; the images stay images."""
    network, images = Linear(3), random_images(4)
    with torch.no_grad():
        network.bias[2] = -1e6
    attack = DDN(iterations=40, gamma=0.9, target="given", target_class=2)
    result = attack.run(network, images, np.minimum(answers(network, images), 1))
    assert not result.success.any()
