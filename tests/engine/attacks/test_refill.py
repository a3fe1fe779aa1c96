"""Attacks whose images need different numbers of steps keep their batches full."""

import pytest
import torch

from ciad_engine import attacks
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Job

from .test_contract import SMALL, small
from .toys import Curved, Wrapped, answers, random_images


@pytest.mark.parametrize("name", [name for name in SMALL if attacks.get(name).refills])
def test_where_images_wait_the_batch_stays_full(name):
    """As one leaves, the next enters: no batch is narrower than one before it, but at the end, when none waits."""
    inner, images, widths = Curved(seed=3), random_images(40), []

    def seen(logits):
        widths.append(len(logits))
        return logits

    labels = torch.tensor(answers(inner, images))
    network = Wrapped(inner, seen).eval().requires_grad_(False)
    model = Model(network, 40, width=8)
    attack = small(name)
    found = attack.find(model, to_unit(torch.tensor(images)), Goal(labels), Job())
    assert widths[0] == 8
    assert widths == sorted(widths, reverse=True)
    assert widths.count(8) > len(widths) / 2
    assert sum(widths) == model.forwards.sum(), "nobody rides along"
    whole = attack.find(Model(network, 40), to_unit(torch.tensor(images)), Goal(labels), Job())
    # A value's place in memory may decide its last bit: not more than that.
    assert (found.images - whole.images).abs().max() < 0.01 / 255
    assert (torch.equal(found.steps, whole.steps), found.reason) == (True, whole.reason)
