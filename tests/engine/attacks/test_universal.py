"""One perturbation for all images: computed on some, measured on others, kept for later."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import bundles, datasets, systems
from ciad_engine.attacks import universal
from ciad_engine.attacks.catalogue import Perturbation, Universal
from ciad_engine.attacks.model import fingerprint
from ciad_engine.attacks.running import run_batched
from ciad_engine.attacks.words import ALREADY_WRONG, NO_ADVERSARIAL
from ciad_engine.errors import CiadError, SettingError
from ciad_engine.jobs import Cancelled, Job

from .toys import SHAPE, Curved, Recorder, Wrapped, answers, random_images


class TwoSides(nn.Module):
    """Two classes on either side of a plane; grey images are of class 0, and 6 grey levels just turn most of them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(int(np.prod(SHAPE)), generator=generator))

    def forward(self, images):
        lead = (images - 0.5).flatten(1) @ self.weight
        return torch.stack([lead + 1.2, -lead], 1)


def greyish(count: int, seed: int = 0) -> np.ndarray:
    return random_images(count, seed, 120, 136)


def test_on_a_plane_it_is_the_optimum():
    """The best v in the box is eps against the sign of the normal, everywhere."""
    network, images = TwoSides(), greyish(30)
    images = images[answers(network, images) == 0]
    attack = Universal(eps=6).fitted(network, images)
    best = -6 * network.weight.detach().sign().reshape(SHAPE).numpy()
    np.testing.assert_array_equal(attack.perturbation.levels, best)
    assert attack.perturbation.count == len(images)
    assert 0.8 < attack.perturbation.rate <= 1
    others = greyish(40, seed=1)
    result = attack.run(network, others, np.zeros(40, int))
    right = answers(network, others) == 0
    np.testing.assert_array_equal(result.success, right & (answers(network, others + best.astype(int)) == 1))


def test_what_is_reported_is_true_of_the_returned_images():
    network, images, others = Curved(4), random_images(80), random_images(40, seed=1)
    labels = answers(network, others)
    labels[:3] = (labels[:3] + 1) % 4
    attack = Universal(eps=20).fitted(network, images)
    result = run_batched(attack, network, others, labels, batch_size=7)
    moved = np.clip(others.astype(int) + attack.perturbation.levels, 0, 255).astype(np.uint8)
    assert np.abs(attack.perturbation.levels).max() <= 20
    reached = answers(network, moved) != labels
    reached[:3] = False
    assert 4 <= reached.sum() < 37
    np.testing.assert_array_equal(result.success, reached)
    np.testing.assert_array_equal(result.images, np.where(reached[:, None, None, None], moved, others))
    np.testing.assert_array_equal(result.label_after, answers(network, result.images))
    assert (result.reason[:3] == ALREADY_WRONG).all()
    assert set(result.reason[3:]) == {"", NO_ADVERSARIAL}
    np.testing.assert_array_equal(result.forwards, [1] * 3 + [2] * 37)
    assert result.backwards.sum() == 0
    assert result.settings["eps"] == 20
    assert "perturbation" not in result.settings


def test_it_is_better_than_chance_on_images_it_never_saw():
    system, samples = systems.load("paper", torch.device("cpu")), datasets.samples()
    network = system.network(bundles.CLASSIFIER)
    attack = Universal(eps=20, passes=10).fitted(network, samples.images[100:300])
    signs = np.random.default_rng(0).choice([-20, 20], attack.perturbation.levels.shape).astype(np.int16)
    chance = dataclasses.replace(attack, perturbation=Perturbation(signs, 1, 0.0))
    learned, random = (a.run(network, samples.images[:100], samples.labels[:100]) for a in (attack, chance))
    assert learned.success.sum() >= random.success.sum() + 25
    assert learned.linf.max() <= 20


def test_an_image_does_not_depend_on_its_batch_mates():
    network, images = Curved(), random_images(60)
    labels = answers(network, images)
    attack = Universal(eps=30).fitted(network, images)
    whole = attack.run(network, images, labels)
    assert 0 < whole.success.sum() < 60
    for i in range(0, 60, 7):
        alone = attack.run(network, images[i : i + 1], labels[i : i + 1])
        for name in ("images", "success", "label_after", "confidence_after", "l2", "ssim", "forwards"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[i], err_msg=name)


@pytest.mark.parametrize("target", ["next", "least-likely", "random"])
def test_targets(target):
    network, images = Curved(3), random_images(60)
    attack = Universal(eps=40, target=target).fitted(network, images)
    result = attack.run(network, images, answers(network, images))
    assert result.success.mean() == pytest.approx(attack.perturbation.rate)
    assert result.success.mean() > (0.02 if target == "least-likely" else 0.1)
    if target == "next":
        np.testing.assert_array_equal(result.label_after[result.success], (result.label_before[result.success] + 1) % 3)


def test_a_given_class():
    network, images = Curved(), random_images(60)
    labels = answers(network, images)
    aim = int(labels[0])
    attack = Universal(eps=40, target="given", target_class=aim).fitted(network, images)
    assert attack.perturbation.count == (labels != aim).sum()  # those of the class itself teach nothing
    result = attack.run(network, images, labels)
    assert (result.label_after[result.success] == aim).all()
    assert result.success[labels != aim].mean() > 0.5
    few = np.concatenate([images[labels == aim].repeat(10, 0), images[labels != aim][:9]])
    with pytest.raises(SettingError, match=r"all but 9 of the .* are of the target class already, and it needs 10"):
        Universal(target="given", target_class=aim).fitted(network, few)
    with pytest.raises(SettingError, match="target = 'best' is none of"):
        Universal(target="best")


def test_the_same_seed_gives_the_same_and_only_so_many_images_count():
    network, images = Curved(), random_images(130)
    attack = Universal(passes=3, learns_from=120)
    first, again = attack.fitted(network, images), attack.fitted(network, images[:120])
    np.testing.assert_array_equal(first.perturbation.levels, again.perturbation.levels)
    assert first.perturbation.count == 120
    other = dataclasses.replace(attack, seed=1).fitted(network, images)
    assert (other.perturbation.levels != first.perturbation.levels).any()


def test_the_network_and_the_images_are_left_as_they_were():
    network, images = Curved().train(), random_images(20)
    network.first.weight.requires_grad_(False)
    images.flags.writeable = False
    with torch.inference_mode():
        Universal(passes=2).fitted(network, images)
    assert network.training
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {"first.weight"}
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: z.softmax(1), "probabilities"),
        (lambda z: z * torch.nan, "NaN"),
        (lambda z: z.detach(), "no gradient"),
    ],
)
def test_networks_it_cannot_be_computed_for(function, message):
    with pytest.raises(CiadError, match=message):
        Universal().fitted(Wrapped(Curved(), function), random_images(12))


def test_what_it_cannot_be_computed_from_or_run_on():
    network, images = Curved(), random_images(12)
    labels = answers(network, images)
    with pytest.raises(SettingError, match="no perturbation yet"):
        Universal().run(network, images, labels)
    with pytest.raises(SettingError, match=r"at least 10 images .* 9 are left"):
        Universal().fitted(network, images[:9])
    with pytest.raises(SettingError, match="float32"):
        Universal().fitted(network, images.astype(np.float32))
    attack = Universal(passes=1).fitted(network, images)
    with pytest.raises(SettingError, match=r"perturbation is of shape .* the images are \(3, 16, 16\)"):
        attack.run(Means(), np.zeros((1, 3, 16, 16), np.uint8), np.zeros(1, int))
    with pytest.raises(SettingError, match="less than one grey level"):
        Universal(eps=0.03)


class Means(nn.Module):
    """The means of the three colours are the logits, whatever the size; black is of class 0."""

    def forward(self, images):
        return images.mean((2, 3)) - torch.arange(3)


def test_a_network_that_is_sure_of_everything_can_be_fooled_as_well():
    """Its cross-entropy has no gradient left: softmax probabilities of 1 and 0."""
    network, images = Curved(), random_images(60)
    sharp = Wrapped(network, lambda z: z * 1e4)
    assert Universal(eps=40).fitted(sharp, images).perturbation.rate > 0.3


def test_where_memory_runs_out_it_takes_fewer_images_at_once():
    def narrow(logits):
        if len(logits) > 20:
            raise torch.OutOfMemoryError("too many")
        return logits

    network, images, job = Curved(), random_images(60), Recorder()
    found = Universal(passes=3).fitted(Wrapped(network, narrow), images, job).perturbation
    whole = Universal(passes=3).fitted(network, images).perturbation
    assert (found.levels == whole.levels).mean() > 0.9  # but for signs of sums that are nearly 0
    assert abs(found.rate - whole.rate) <= 0.1
    assert [note.split()[-2] for note in job.notes] == ["25", "12"]
    assert job.fractions[-1] == 1


def test_it_knows_the_network_it_was_computed_for(tmp_path):
    network, images = Curved(), random_images(40)
    path = tmp_path / "v.safetensors"
    path.write_bytes(Universal(passes=1).fitted(network, images).fitting())
    said = universal.load(path).perturbation.network
    assert said == fingerprint(Curved())
    with torch.no_grad():
        network.second[3, 2] += 1e-12
    assert said != fingerprint(network)
    path.write_bytes(written())  # before that was kept
    assert universal.load(path).perturbation.network == ""


def test_computing_it_can_be_cancelled():
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        Universal().fitted(Curved(), random_images(60), job)
    job = Recorder(stop=3)
    with pytest.raises(Cancelled):
        Universal().fitted(Curved(), random_images(60), job)
    job = Recorder()
    Universal(passes=2).fitted(Curved(), random_images(120), job)
    assert job.fractions == sorted(job.fractions)
    assert job.fractions[-1] == 1


def test_it_can_be_kept_for_later(tmp_path):
    network, images = Curved(), random_images(40)
    labels = answers(network, images)
    attack = Universal(eps=12, passes=3, seed=5).fitted(network, images)
    path = tmp_path / "v.safetensors"
    path.write_bytes(attack.fitting())
    again = universal.load(path)
    assert again == attack  # the settings
    assert not again.needs_fitting
    assert (again.perturbation.count, again.perturbation.rate) == (40, attack.perturbation.rate)
    np.testing.assert_array_equal(again.run(network, images, labels).images, attack.run(network, images, labels).images)
    assert attack.about_fitting() == f"computed from 40 images, of which it fools {100 * attack.perturbation.rate:.0f}%"
    with pytest.raises(SettingError, match="no perturbation yet"):
        Universal().fitting()


def written(**changed) -> bytes:
    """A kept perturbation with other parts than the right ones."""
    import safetensors.numpy

    about = {"attack": "universal", "settings": {"eps": 5.0}, "count": 12, "rate": 0.5}
    levels = changed.pop("levels", np.zeros(SHAPE, np.int16))
    text = changed.pop("text", json.dumps({**about, **changed}))
    return safetensors.numpy.save({"levels": levels, "about": np.frombuffer(text.encode(), np.uint8)})


STRANGE = {
    "empty": b"",
    "damaged": b"\x08\0\0\0\0\0\0\0not json",
    "another attack's": written(attack="fgsm"),
    "unknown settings": written(settings={"nonsense": 1}),
    "endless count": written(text='{"attack": "universal", "settings": {}, "count": 1e999, "rate": 1}'),
    "deep": written(text="[" * 100_000),
    "no JSON": written(text="?"),
    "no object": written(text="[1]"),
    "floats": written(levels=np.zeros(SHAPE, np.float32)),
    "flat": written(levels=np.zeros(48, np.int16)),
    "beyond its budget": written(levels=np.full(SHAPE, 6, np.int16)),
    "far beyond": written(levels=np.full(SHAPE, -32768, np.int16)),
    "no image": written(levels=np.zeros((3, 0, 4), np.int16)),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_files_that_hold_no_perturbation(kind, tmp_path):
    path = tmp_path / "v.safetensors"
    path.write_bytes(written())
    assert universal.load(path).eps == 5  # the right parts are right
    path.write_bytes(STRANGE[kind])
    with pytest.raises(SettingError, match=r"v\.safetensors: this is not a universal perturbation that CIAD wrote"):
        universal.load(path)


def test_files_that_are_not_read(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="missing cannot be read"):
        universal.load(tmp_path / "missing")
    monkeypatch.setattr(universal, "_MOST_BYTES", 10)
    (tmp_path / "large").write_bytes(written())
    with pytest.raises(SettingError, match=r"large cannot be read \(it has more than 10 bytes"):
        universal.load(tmp_path / "large")


def test_distances_are_those_of_what_was_added():
    network, images = TwoSides(), greyish(20)
    images = images[answers(network, images) == 0]
    result = Universal(eps=6).fitted(network, images).run(network, images, np.zeros(len(images), int))
    assert result.success.any()
    np.testing.assert_array_equal(result.linf, 6 * result.success)
    np.testing.assert_allclose(result.l2, 6 / 255 * np.prod(SHAPE) ** 0.5 * result.success)
