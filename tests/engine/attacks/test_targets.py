"""Which class an attack aims at; that every attack gets there is in test_contract.py."""

import numpy as np
import pytest
import torch

from ciad_engine import attacks
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.attacks.words import ALREADY_WRONG

from .test_contract import SMALL, small
from .toys import Curved, answers, random_images


def drawn(attack, images, labels, network):
    """The random target of each image."""
    logits = network(torch.tensor(images) / 255)
    (targets,) = attack.choose_targets(logits, torch.tensor(labels), torch.tensor(images))
    return targets.numpy()


def test_random_targets_are_wrong_classes_all_about_as_often():
    network, images = Curved(classes=5).eval(), random_images(600)
    labels = np.arange(600) % 5
    targets = drawn(FGSM(target="random"), images, labels, network)
    assert (targets != labels).all()
    counts = np.bincount((targets - labels) % 5, minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 110  # 150 expected
    other = drawn(FGSM(target="random", target_seed=1), images, labels, network)
    assert 0.6 < (other != targets).mean() < 0.9


def test_a_random_target_does_not_depend_on_the_batch():
    network, images = Curved().eval(), random_images(20)
    labels = answers(network, images)
    whole = drawn(FGSM(target="random"), images, labels, network)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(drawn(FGSM(target="random"), images[order], labels[order], network), whole[order])
    np.testing.assert_array_equal(drawn(FGSM(target="random"), images[3:4], labels[3:4], network), whole[3:4])


@pytest.mark.parametrize("name", SMALL)
def test_the_best_of_all_targets_is_no_farther_than_any(name):
    network, images = Curved(classes=4), random_images(16, seed=2)
    labels = answers(network, images)
    labels[0] = (labels[0] + 1) % 4
    best = small(name, target="best").run(network, images, labels)
    norm = {"linf": "linf", "l2": "l2", "l0": "l0_values"}[attacks.get(name).norm]
    successes = np.zeros(16, bool)
    forwards, backwards = np.zeros(16, int), np.zeros(16, int)
    for step in range(1, 4):
        for i in range(1, 16):
            goal = int(labels[i] + step) % 4
            one = small(name, target="given", target_class=goal).run(network, images[i : i + 1], labels[i : i + 1])
            successes[i] |= one.success[0]
            forwards[i] += one.forwards[0] - 1  # all three share the look at the original
            backwards[i] += one.backwards[0]
            if one.success[0]:
                assert getattr(best, norm)[i] <= getattr(one, norm)[0]
    np.testing.assert_array_equal(best.success, successes)
    assert best.success.sum() >= 3
    assert best.reason[0] == ALREADY_WRONG
    np.testing.assert_array_equal(best.forwards[1:], forwards[1:] + 1)
    np.testing.assert_array_equal(best.backwards, backwards)
    np.testing.assert_array_equal(best.label_after[1:] != labels[1:], best.success[1:])
