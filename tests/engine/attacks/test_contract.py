"""What every attack promises, on every attack."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ciad_engine import attacks
from ciad_engine.attacks import running
from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.running import run_batched
from ciad_engine.attacks.words import ALREADY_WRONG, FOOLED, OWN_CLASS
from ciad_engine.distances import ssim
from ciad_engine.errors import CiadError, SettingError
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Cancelled, Job

from .toys import SHAPE, Curved, Recorder, Wrapped, answers, random_images

SMALL = {
    "fgsm": {"eps": 16},
    "bim": {"eps": 16},
    "pgd": {"eps": 16, "step": 6, "iterations": 6, "restarts": 2},
    "opgd": {"eps": 16, "step": 6, "iterations": 6, "restarts": 2},
    "square": {"eps": 24, "queries": 60},
    "jsma": {"gamma": 0.4},
    "cw": {"iterations": 30, "search_steps": 3, "initial_c": 0.1},
    "lbfgs": {"iterations": 10, "search_steps": 5, "initial_c": 1.0},
    "deepfool": {"iterations": 20},
    "ddn": {"iterations": 30},
}
pytestmark = pytest.mark.parametrize("name", SMALL)
ELSEWHERE = {"universal"}  # has to be fitted first: test_universal.py
ARRAYS = [
    "images", "success", "reason", "label_before", "label_after", "confidence_after", "l0_values",
    "l0_pixels", "l2", "linf", "ssim", "forwards", "backwards", "steps",
]  # fmt: skip


def small(name: str, **settings) -> Attack:
    return attacks.create(name, **{**SMALL[name], **settings})


def rows(result, index):
    return {field: getattr(result, field)[index] for field in ARRAYS}


def assert_same(one, other):
    for field in ARRAYS:
        np.testing.assert_array_equal(one[field], other[field], err_msg=field)


@pytest.mark.parametrize("target", ["untargeted", "next", "least-likely"])
def test_everything_reported_is_true_of_the_returned_image(name, target):
    network, images = Curved(classes=4), random_images(24)
    labels = answers(network, images)
    labels[:3] = (labels[:3] + 1) % 4
    result = small(name, target=target).run(network, images, labels)

    assert result.images.dtype == np.uint8
    assert result.images.shape == images.shape
    with torch.no_grad():
        logits = network.eval()(to_unit(torch.tensor(result.images)))
    said = logits.argmax(1).numpy()
    np.testing.assert_array_equal(result.label_after, said)
    np.testing.assert_allclose(result.confidence_after, logits.softmax(1).max(1).values.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(result.label_before, answers(network, images))
    goal = {"untargeted": None, "next": (labels + 1) % 4}.get(target, "least")
    if goal is None:
        reached = said != labels
    else:
        if isinstance(goal, str):
            with torch.no_grad():
                goal = network(to_unit(torch.tensor(images))).argmin(1).numpy()
        reached = said == goal
    reached[:3] = False
    np.testing.assert_array_equal(result.success, reached)
    assert result.success.sum() >= 3, "the test needs some successes"
    assert (result.reason[:3] == ALREADY_WRONG).all()
    np.testing.assert_array_equal(result.reason == FOOLED, result.success)
    np.testing.assert_array_equal(result.images[~result.success], images[~result.success])

    change = result.images.astype(int) - images
    np.testing.assert_array_equal(result.l0_values, (change != 0).reshape(24, -1).sum(1))
    np.testing.assert_array_equal(result.l0_pixels, (change != 0).any(1).reshape(24, -1).sum(1))
    np.testing.assert_array_equal(result.linf, np.abs(change).reshape(24, -1).max(1))
    np.testing.assert_allclose(result.l2, np.linalg.norm(change.reshape(24, -1) / 255, axis=1))
    np.testing.assert_array_equal(result.ssim, ssim(images, result.images))
    assert (result.l2[result.success] > 0).all()
    assert result.attack == name
    assert result.settings == dataclasses.asdict(small(name, target=target))


def test_an_image_does_not_depend_on_its_batch_mates(name):
    network, images = Curved(seed=3), random_images(12, seed=4)
    labels = answers(network, images)
    labels[5] = (labels[5] + 1) % 10
    attack = small(name)
    whole = attack.run(network, images, labels)
    assert 0 < whole.success.sum() < 12
    for i in range(12):
        alone = attack.run(network, images[i : i + 1], labels[i : i + 1])
        assert_same(rows(alone, 0), rows(whole, i))
    order = np.random.default_rng(0).permutation(12)
    assert_same(rows(attack.run(network, images[order], labels[order]), slice(None)), rows(whole, order))


def test_the_batch_size_changes_nothing(name, monkeypatch):
    network, images = Curved(seed=1), random_images(10)
    labels = answers(network, images)
    monkeypatch.setattr(running, "CHUNK", 2)  # several chunks of attacks that refill, too
    attack, job = small(name, target="next"), Recorder()
    split = run_batched(attack, network, images, labels, job, batch_size=3)
    assert_same(rows(split, slice(None)), rows(attack.run(network, images, labels), slice(None)))
    assert job.fractions == sorted(job.fractions)
    assert job.fractions[-1] == 1


def test_batches_are_halved_where_memory_runs_out(name):
    def narrow(logits):
        if len(logits) > 2:
            raise torch.OutOfMemoryError("too many")
        return logits

    inner, images, job = Curved(), random_images(9), Recorder()
    labels = answers(inner, images)
    result = run_batched(small(name), Wrapped(inner, narrow), images, labels, job, batch_size=8)
    assert_same(rows(result, slice(None)), rows(small(name).run(inner, images, labels), slice(None)))
    assert len(job.notes) == 2
    assert all(p.requires_grad for p in inner.parameters())


def test_an_added_constant_changes_no_result(name):
    network, images = Curved(), random_images(8)
    labels = answers(network, images)
    plain = rows(small(name).run(network, images, labels), slice(None))
    assert plain["success"].any()
    for shift in (-100, 100):
        moved = small(name).run(Wrapped(network, lambda z, by=shift: z + by), images, labels)
        np.testing.assert_array_equal(moved.success, plain["success"])
        # The constant costs some last bits of the margins, hence of C&W's path.
        np.testing.assert_allclose(moved.l2, plain["l2"], rtol=0.01)


def test_large_logits_do_not_stop_an_attack(name):
    """Softmax probabilities of 1 and 0: a cross-entropy's gradient is gone, the attack is not."""
    network, images = Curved(2), random_images(8)
    labels = answers(network, images)
    plain = small(name).run(network, images, labels)
    sharp = small(name).run(Wrapped(network, lambda z: z * 1e4), images, labels)
    assert plain.success.any()
    if name in ("cw", "lbfgs"):
        assert sharp.success.sum() >= plain.success.sum() - 2  # c starts elsewhere, the path differs
    else:
        np.testing.assert_array_equal(sharp.images, plain.images)


def test_black_and_white_images_can_be_attacked(name):
    network = Curved(seed=2)
    images = random_images(12, high=2) * np.uint8(255)
    labels = answers(network, images)
    settings = {"iterations": 200, "initial_c": 1.0} if name == "cw" else {}
    result = small(name, **settings).run(network, images, labels)
    assert result.success.mean() >= 0.5
    assert (result.l0_values[result.success] > 0).all()


@pytest.mark.parametrize("classes", [2, 3, 17])
def test_other_numbers_of_classes(name, classes):
    network, images = Curved(classes), random_images(12)
    labels = answers(network, images)
    result = small(name, target="next").run(network, images, labels)
    assert result.success.any()
    np.testing.assert_array_equal(result.label_after[result.success], (labels[result.success] + 1) % classes)


def test_a_given_class(name):
    network, images = Curved(), random_images(30)
    labels = answers(network, images)
    aim = int(labels[0])
    result = small(name, target="given", target_class=aim).run(network, images, labels)
    np.testing.assert_array_equal(result.reason == OWN_CLASS, labels == aim)
    assert (result.label_after[result.success] == aim).all()
    assert result.success.any()
    assert result.backwards[labels == aim].sum() == 0
    same = labels == aim
    with pytest.raises(SettingError, match=f"target_class = {aim} is the label"):
        small(name, target="given", target_class=aim).run(network, images[same], labels[same])
    with pytest.raises(SettingError, match="target_class = 10 is none of"):
        small(name, target="given", target_class=10).run(network, images, labels)


def test_the_network_and_the_images_are_left_as_they_were(name):
    network, images = Curved().train(), random_images(6)
    network.first.eval()
    network.second.requires_grad_(False)
    network.first.bias.grad = torch.full_like(network.first.bias, 7)
    kept, state = images.copy(), {k: v.clone() for k, v in network.state_dict().items()}
    images.flags.writeable = False
    small(name).run(network, images, answers(Curved(), images))
    assert [m.training for m in (network, network.first, network.drop)] == [True, False, True]
    assert [p.requires_grad for p in network.parameters()] == [False, True, True]
    assert network.first.weight.grad is None
    assert (network.first.bias.grad == 7).all()
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    np.testing.assert_array_equal(images, kept)


def test_a_network_that_views_its_input_can_be_attacked(name):
    """As tutorials write it: `view` refuses images whose values lie in another order than their shape says."""

    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.kernel = Curved(), nn.Parameter(torch.randn(2, 3, 1, 1, dtype=torch.float64))

        def forward(self, x):
            folded = torch.nn.functional.conv2d(x.double(), self.kernel)
            return self.inner(x.view(len(x), -1).view(x.shape)) + folded.view(len(x), -1).mean(1, keepdim=True)

    network, images = Viewing(), random_images(6)
    assert small(name).run(network, images, answers(network, images)).success.any()


def test_an_image_without_a_gradient_does_not_end_its_mates_attacks(name):
    """It is misclassified already, so nobody asks for its gradient, which is NaN."""
    images = random_images(6)
    images[2] = 0
    network = Wrapped(Curved(), lambda z: z)
    inner = network.inner.forward
    network.inner.forward = lambda x: inner(x) + 0 * x.double().flatten(1).norm(dim=1).sqrt()[:, None]
    labels = answers(network, images)
    labels[2] = (labels[2] + 1) % 10
    assert small(name).run(network, images, labels).success.any()


def test_a_surrounding_no_grad_does_not_matter(name):
    network, images = Curved(), random_images(4)
    labels = answers(network, images)
    plain = small(name).run(network, images, labels)
    with torch.inference_mode():
        assert_same(rows(small(name).run(network, images, labels), slice(None)), rows(plain, slice(None)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: z.softmax(1), "probabilities"),
        (lambda z: z * torch.nan, "NaN"),
        (lambda z: z.detach(), "no gradient"),
        (lambda z: z.detach() + nn.Parameter(torch.zeros(1)), "no gradient"),
        (lambda z: z.sum(1), "not \\(N, classes\\)"),
        (lambda z: z[:, :1], "not \\(N, classes\\)"),
        (lambda z: z[:1], "not \\(N, classes\\)"),
        (lambda z: z + (z - z.detach()).sqrt(), "gradient is NaN"),
    ],
)
def test_networks_that_cannot_be_attacked(name, function, message):
    network, images = Curved(), random_images(5)
    if name == "square" and "gradient" in message:  # it asks for none
        small(name).run(Wrapped(network, function), images, answers(network, images))
        return
    with pytest.raises(CiadError, match=message):
        small(name).run(Wrapped(network, function), images, answers(network, images))
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((0, *SHAPE), np.uint8), np.zeros(0, int), "empty"),
        (np.zeros((2, *SHAPE), np.float32), np.zeros(2, int), "float32"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, int), "shape"),
        (np.zeros(SHAPE, np.uint8), np.zeros(3, int), "shape"),
        (np.zeros((2, *SHAPE), np.uint8), np.zeros(3, int), "labels: expected"),
        (np.zeros((2, *SHAPE), np.uint8), np.zeros(2), "float64"),
        (np.zeros((2, *SHAPE), np.uint8), np.array([0, -1]), "negative"),
        (np.zeros((2, *SHAPE), np.uint8), np.array([0, 10]), "10 is none of the classes 0 to 9"),
    ],
)
def test_batches_that_are_refused(name, images, labels, message):
    with pytest.raises(SettingError, match=message):
        small(name).run(Curved(), images, labels)
    with pytest.raises(SettingError, match=message):
        run_batched(small(name), Curved(), images, labels)


def test_cancelling_stops_at_the_next_iteration(name):
    network, images = Curved(), random_images(6)
    labels = answers(network, images)
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        small(name).run(network, images, labels, job)
    seen = []
    watched = Wrapped(network, lambda z: seen.append(len(z)) or z)
    with pytest.raises(Cancelled):
        small(name, target="next").run(watched, images, labels, Recorder(stop=2))  # the batch begins, an iteration ends
    # The test before the attack and the iteration that was running, which are one where that starts at the images.
    assert len(seen) == (1 if attacks.get(name).starts_at_images else 2)
    assert all(p.requires_grad for p in network.parameters())


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_images_and_labels(name, data):
    """No input that the contract admits breaks an attack or its promises."""
    seed = data.draw(st.integers(0, 1000))
    count = data.draw(st.integers(1, 5))
    level = data.draw(st.sampled_from([(0, 1), (255, 256), (0, 256), (127, 129)]))
    target = data.draw(st.sampled_from(["untargeted", "next", "least-likely", "given"]))
    network, images = Curved(seed=seed % 5), random_images(count, seed, *level)
    labels = np.random.default_rng(seed).integers(0, 10, count)
    if data.draw(st.booleans()):
        labels = answers(network, images)
    attack = small(name, target=target, target_class=int(labels[0] + 1) % 10)
    if target == "given" and (labels == attack.target_class).all():
        return
    result = attack.run(network, images, labels)
    np.testing.assert_array_equal(result.label_after, answers(network, result.images))
    np.testing.assert_array_equal(result.images[~result.success], images[~result.success])
    assert (result.label_before[result.success] == labels[result.success]).all()
    assert (result.label_after[result.success] != labels[result.success]).all()
