"""The notes a reviewer would write about a defence: each appears when it should, and only then."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import attacks
from ciad_engine.attacks.checks import check
from ciad_engine.attacks.goal import Evasion
from ciad_engine.errors import CiadError
from tests.engine.attacks.toys import Curved, Linear, Recorder, Wrapped, random_images

IMAGES, LABELS = random_images(20), np.arange(20) % 10


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Curved()

    def forward(self, x):
        return self.inner(x) + 0.1 * torch.randn(10, dtype=torch.float64)


def notes(network: nn.Module, evade=()) -> str:
    return "\n".join(check(network, IMAGES, LABELS % 2 if isinstance(network, Linear) else LABELS, evade))


def test_an_ordinary_network_gets_no_note():
    assert notes(Curved()) == ""


def test_dropout_is_off_and_left_as_it_was():
    network = Curved().train()
    assert notes(network) == ""
    assert network.training


def test_few_classes():
    assert "only 3 classes" in notes(Linear(3))
    assert notes(Linear(4)) == ""


def test_vanishing_gradients_are_counted():
    flat = Wrapped(Curved(), lambda z: z.clamp(-0.1, 0.1))
    assert "has no gradient at" in notes(flat)
    step = Wrapped(Curved(), lambda z: (z * 10).round() + 0 * z)
    assert "The network has no gradient at 20 of 20 images" in notes(step)


def test_answers_that_vary():
    assert "differently from call to call" in notes(Noisy())


def test_a_shift_of_all_logits_is_not_a_change():
    class Shifted(Noisy):
        def forward(self, x):
            return self.inner(x) + torch.randn(1, dtype=torch.float64)

    assert notes(Shifted()) == ""


def test_detectors_are_checked_by_name():
    def varying(images, classes):
        return images.double().flatten(1).sum(1) + torch.randn(1, dtype=torch.float64)

    def flat(images, classes):
        return images.double().flatten(1).sum(1) * 0 - 1

    found = notes(Curved(), (Evasion("dice", varying), Evasion("flat", flat)))
    assert "The detector 'dice' answers differently" in found
    assert "The detector 'flat' has no gradient at 20 of 20" in found
    assert "The network" not in found


def test_probabilities_are_an_error():
    with pytest.raises(CiadError, match="attacks need logits"):
        notes(Wrapped(Curved(), lambda z: z.softmax(1)))


def test_a_result_carries_the_notes_and_does_not_count_the_checks():
    network = Linear(3)
    labels = network(torch.from_numpy(IMAGES) / 255).argmax(1).numpy()
    attack = attacks.create("fgsm", eps=4.0)
    result = attack.run(network, IMAGES, labels, Recorder())
    assert any("only 3 classes" in note for note in result.notes)
    assert set(result.forwards) == {2}
    from ciad_engine.attacks.running import run_batched

    again = run_batched(attack, network, IMAGES, labels, batch_size=7)
    assert again.notes == result.notes
    np.testing.assert_array_equal(again.images, result.images)
