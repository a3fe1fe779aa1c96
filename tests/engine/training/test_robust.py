"""Robust training: the attack, what replaces parts of images, and the terms of the mask generator's objective."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ciad_engine import imaging, networks
from ciad_engine.training.augment import blurred
from ciad_engine.training.objectives import Images, accuracy
from ciad_engine.training.recipes import Schedule
from ciad_engine.training.robust import Evidence, Explain, Robust, n_fgsm, random_masks

ONE = Schedule(steps=1, batch=8, shift=0)
WEIGHTS = {"outside": 0.5, "beyond": 4.0, "mean": 0.5, "variation": 0.3, "grey": 0.3}


@pytest.fixture
def images():
    torch.manual_seed(0)
    return Images(torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 10, torch.device("cpu"))


class Linear(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3072, 10, generator=torch.Generator().manual_seed(seed)) / 30)

    def forward(self, images):
        return (images - 0.5).flatten(1) @ self.weight


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, images):
        return self.value.expand(len(images), 1, 32, 32)


def test_the_attack_takes_one_step_up_and_is_not_projected():
    torch.manual_seed(0)
    images, eps = torch.rand(16, 3, 8, 8) * 0.6 + 0.2, 0.02
    weight = torch.randn(3, 8, 8)
    changed = n_fgsm(images, eps, lambda x: (x * weight).sum())
    change = changed - images
    assert change.abs().max() <= 3 * eps + 1e-6
    assert change.abs().max() > 2.5 * eps  # a projection to the ball of eps would end at eps
    # The noise of +-2 eps has the mean 0, so what remains on average is the step.
    assert (change * weight.sign()).mean() == pytest.approx(eps, rel=0.05)
    assert n_fgsm(torch.ones(2, 3, 8, 8), 0.1, lambda x: x.sum()).max() == 1


def test_random_masks_are_blobs_of_every_size():
    torch.manual_seed(0)
    masks = random_masks(400, 32)
    assert masks.shape == (400, 1, 32, 32)
    assert 0 <= masks.min() <= masks.max() <= 1
    area = masks.mean((1, 2, 3))
    assert area.min() < 0.1
    assert area.max() > 0.85
    assert 0.35 < area.mean() < 0.6
    assert (masks.diff(dim=3).abs() < 0.5).float().mean() > 0.95  # neighbours are alike


def test_the_classifier_learns_on_attacked_images(images):
    network = Linear()
    objective = Robust("x", network, ONE, images, images, eps=8.0)
    rows = torch.arange(8)
    torch.manual_seed(1)
    loss, _ = objective.loss(rows)
    torch.manual_seed(1)
    weak, _ = Robust("x", network, ONE, images, images, eps=0.0).loss(rows)
    assert loss > weak + 0.1
    loss.backward()
    assert network.weight.grad.abs().sum() > 0


def test_fillings_are_blurred_images_and_colours(images):
    objective = Robust("x", Linear(), ONE, images, images, eps=0.0)
    torch.manual_seed(0)
    found = objective.fillings(32, 32)
    assert found.shape == (32, 3, 32, 32)
    smooth = blurred(imaging.to_unit(torch.cat([images.images, images.images.flip(3)])))
    others = torch.tensor([(smooth - filling).abs().amax((1, 2, 3)).min() < 1e-6 for filling in found])
    assert others.sum() == 16
    assert not others[:16].all(), "in no order"
    assert found.diff(dim=3).abs().max() < 0.35


def test_blurring_keeps_colours_and_removes_noise():
    noise = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = blurred(noise)
    assert smooth.shape == noise.shape
    assert smooth.mean().item() == pytest.approx(noise.mean().item(), abs=0.01)
    assert smooth.std() < noise.std() / 3
    torch.testing.assert_close(blurred(torch.full((1, 3, 8, 8), 0.3)), torch.full((1, 3, 8, 8), 0.3))


@pytest.mark.parametrize(("value", "same"), [(0.0, True), (1.0, False)])
def test_evidence_is_read_where_the_generator_says(images, value, same):
    """With a mask of 0 half of the batch is the image itself, with 1 nothing of it is left; the rest is random."""
    objective = Evidence("x", Linear(), ONE, images, images, Constant(value), eps=0.0)
    batch = imaging.to_unit(images.images[:8])
    torch.manual_seed(0)
    seen = objective.sight(batch)(batch)
    assert [torch.equal(a, b) for a, b in zip(seen[:4], batch[:4], strict=True)] == [same] * 4
    torch.manual_seed(0)
    other = objective.sight(batch)(1 - batch)
    changed = (seen - other).abs().amax((1, 2, 3)) > 0
    assert changed[:4].tolist() == [same] * 4
    assert changed[4:].all()
    assert objective.given == (objective.generator,)
    assert 0 <= objective.validate()["validation accuracy"] <= 1


def test_without_a_generator_all_masks_are_random_and_validation_is_repeatable(images):
    objective = Evidence("x", Linear(), ONE, images, images, eps=4.0)
    assert objective.given == ()
    before = torch.random.get_rng_state()
    first = objective.validate()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert objective.validate() == first


def test_the_generators_objective_has_the_papers_terms(images):
    """Against a constant mask every term is known."""
    reader, value = Linear(3), 0.3
    objective = Explain("x", Constant(value), ONE, images, images, reader, eps=0.0, area=0.35, weights=WEIGHTS)
    rows = torch.arange(8)
    torch.manual_seed(2)
    loss, terms = objective.loss(rows)
    torch.manual_seed(2)
    reader.requires_grad_(False)
    batch = imaging.to_unit(objective.shown(rows))
    fillings = objective.fillings(8, 32)
    inside = F.cross_entropy(reader(batch.lerp(fillings, value)), reader(batch).softmax(1))
    outside = -reader(fillings.lerp(batch, value)).log_softmax(1).mean()
    expected = {"inside": inside, "outside": outside, "beyond": 0.35, "mean": 0.7, "variation": 0, "grey": 0.21}
    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        assert terms[name].item() == pytest.approx(float(term), abs=1e-5), name
    total = sum(float(term) * WEIGHTS.get(name, 1) for name, term in expected.items())
    assert loss.item() == pytest.approx(total, abs=1e-4)


def test_the_generator_learns_and_the_classifier_does_not(images):
    generator, reader = networks.create("unet"), Linear(3)
    objective = Explain("x", generator, ONE, images, images, reader, eps=4.0, area=0.35, weights=WEIGHTS)
    reader.requires_grad_(False)
    loss, _ = objective.loss(torch.arange(8))
    loss.backward()
    assert objective.given == (reader,)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.last.parameters())


@pytest.mark.parametrize(("value", "alike"), [(0.0, True), (1.0, False)])
def test_the_generator_is_validated_by_what_the_classifier_makes_of_what_it_keeps(images, value, alike):
    reader = Linear(3)
    objective = Explain("x", Constant(value), ONE, images, images, reader, eps=4.0, area=0.35, weights=WEIGHTS)
    found = objective.validate()
    assert found == objective.validate()
    assert (found["validation accuracy"] == accuracy(reader, images)) == alike
