"""What each network's training adds: augmentation, the LAN's objective, f2's input."""

import pytest
import torch
from torch import nn

from ciad_engine import networks
from ciad_engine.compute import mixed_precision
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.training.augment import erase, flip_and_shift
from ciad_engine.training.loop import train
from ciad_engine.training.losses import LOSSES
from ciad_engine.training.objectives import Classify, ClassifyMasks, Images, Mask, accuracy
from ciad_engine.training.recipes import Schedule

CPU = torch.device("cpu")


@pytest.fixture
def images():
    torch.manual_seed(0)
    return Images(torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8), torch.arange(20) % 10, CPU)


def test_every_augmented_image_is_a_shifted_or_mirrored_original():
    torch.manual_seed(0)
    originals = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    padded = nn.functional.pad(originals.float(), (2,) * 4, mode="reflect").byte()
    mirrored = shifted = 0
    for _ in range(20):
        for before, whole, after in zip(originals, padded, flip_and_shift(originals, reach=2), strict=True):
            views = {}
            for top in range(5):
                for left in range(5):
                    window = whole[:, top : top + 8, left : left + 8]
                    views[(False, top, left)], views[(True, top, left)] = window, window.flip(-1)
            found = [key for key, view in views.items() if torch.equal(view, after)]
            assert found, "the colours or rows of an image were mixed up"
            mirrored += any(key[0] for key in found)
            shifted += not torch.equal(before, after)
    assert 30 < mirrored < 90
    assert shifted > 90


def test_no_reach_leaves_only_the_mirror():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    for before, after in zip(images, flip_and_shift(images, reach=0), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


class ConstantMask(nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.value.expand(len(x), 1, 32, 32)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_the_objective_is_the_lan_papers(images, value):
    torch.manual_seed(0)
    classifier = networks.create("alexnet").eval()
    objective = Mask("g", ConstantMask(value), Schedule(1), images, images, classifier, beta=5.0)
    x, noise = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    loss, metrics = objective._objective(x, noise, objective._probabilities(x))
    corrupted = value * noise + (1 - value) * x
    expected = -(classifier(x).softmax(1) * classifier(corrupted).log_softmax(1)).sum(1).mean() - 5.0 * value
    torch.testing.assert_close(loss, expected)
    assert float(metrics["mean mask"].detach()) == value


def test_the_noise_is_other_training_images(images):
    """Where the mask is 1 everywhere, the classifier is shown the noise alone."""
    shown = []

    class Classifier(nn.Module):
        def forward(self, x):
            shown.append((x * 255).round().byte())
            return x.mean((2, 3)) @ torch.ones(3, 10)

    objective = Mask("g", ConstantMask(1.0), Schedule(1, shift=0), images, images, Classifier(), beta=5.0)
    torch.manual_seed(1)
    rows = torch.arange(8)
    objective.loss(rows)
    noise = shown[1]
    known = torch.cat([images.images, images.images.flip(-1)])
    places = [int((known == picture).flatten(1).all(1).nonzero()[0, 0]) % len(images) for picture in noise]
    assert len(set(places)) > 4
    assert places != rows.tolist()


class Counting(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x):
        self.calls += 1
        return 40 * self.network(x)  # certain, unlike those of an untrained network


def test_the_classifier_classifies_all_images_beforehand_if_that_is_less_work(images):
    torch.manual_seed(0)
    classifier = Counting(networks.create("alexnet")).eval()
    generator = networks.create("lan", widths=(16,))
    views = 2 * 3**2
    losses = {}
    for steps in (views * 20 // 4 - 1, views * 20 // 4):  # one step short of as many images
        schedule = Schedule(steps, batch=4, shift=1)
        objective = Mask("g", generator, schedule, images, images, classifier, beta=1.0)
        classifier.calls = 0
        objective.prepare(Job())
        assert classifier.calls == (views if steps == views * 20 // 4 else 0)
        classifier.calls = 0
        torch.manual_seed(1)
        with mixed_precision(CPU):  # as in training
            losses[steps] = [objective.loss(torch.randint(20, (4,)))[0].item() for _ in range(10)]
        assert classifier.calls == (10 if steps == views * 20 // 4 else 20)
    each, beforehand = losses.values()
    assert each == pytest.approx(beforehand, rel=1e-2)  # kept in half precision
    assert max(each) > 1.2 * min(each)


def test_classifying_beforehand_can_be_cancelled(images):
    class Impatient(Job):
        def on_progress(self, done, total, text):
            assert total == 18 * 20
            if done >= 100:
                self.cancel()

    objective = Mask(
        "g",
        networks.create("lan", widths=(16,)),
        Schedule(1000, shift=1),
        images,
        images,
        networks.create("alexnet"),
        beta=1.0,
    )
    with pytest.raises(Cancelled):
        objective.prepare(Impatient())


def trained_with(head: nn.Module) -> nn.Sequential:
    """A network with all that differs between the modes, left in training mode."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1), head).train()


@pytest.mark.parametrize(
    ("loss", "network", "head", "options"),
    [
        ("mask", "lan", nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), {"beta": 1.0}),
        ("classify-masks", "lenet", nn.Sigmoid(), {}),
    ],
)
@pytest.mark.parametrize("steps", [2, 10])  # with ten the images are classified beforehand
def test_what_a_network_is_trained_from_is_in_eval_mode_and_keeps_its_weights(
    images, tmp_path, loss, network, head, options, steps
):
    given, modes = trained_with(head), set()
    given.register_forward_hook(lambda *_: modes.update(module.training for module in given.modules()))
    before = {key: value.clone() for key, value in given.state_dict().items()}
    trained = networks.create(network)
    start = {key: value.clone() for key, value in trained.state_dict().items()}
    objective = LOSSES[loss]("x", trained, Schedule(steps, batch=10, shift=0), images, images, given, **options)
    train(objective, tmp_path, CPU, 0, Job(), resume=False)
    assert modes == {False}
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    assert all(p.grad is None for p in given.parameters())
    assert all(not torch.equal(value, start[key]) for key, value in trained.state_dict().items())


def test_f2_is_trained_on_masks_and_leaves_g_alone(images):
    generator, lenet = networks.create("lan", widths=(16,)), networks.create("lenet")
    objective = ClassifyMasks("f2", lenet, Schedule(1), images, images, generator)
    seen = []
    lenet.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    objective.loss(torch.arange(8))[0].backward()
    assert seen == [(8, 1, 32, 32)]
    assert all(p.grad is None for p in generator.parameters())
    assert 0 <= objective.validate()["validation accuracy"] <= 1


def test_accuracy_counts(images):
    class Label(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            out = torch.zeros(len(x), 10)
            out[:, 3] = 1
            return out

    assert accuracy(Label(), images) == pytest.approx(2 / 20)


def test_a_classifier_fits_two_easy_images():
    data = Images(
        torch.stack([torch.zeros(3, 32, 32), torch.full((3, 32, 32), 255.0)]).byte(), torch.tensor([0, 1]), CPU
    )
    torch.manual_seed(0)
    network = networks.create("alexnet", classes=2, dropout=0.0, dense_dropout=0.0)
    objective = Classify("classifier", network, Schedule(1), data, data)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(20):
        loss, _ = objective.loss(torch.tensor([0, 1]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert objective.validate() == {"validation accuracy": 1.0}


def test_erasing_paints_one_square_somewhere():
    images = torch.full((2000, 3, 12, 10), 7, dtype=torch.uint8)
    torch.manual_seed(0)
    painted = erase(images, 4)
    assert (images == 7).all()
    grey = (painted == 128).all(1)
    assert ((painted == 7).all(1) ^ grey).all()  # all colours of a pixel or none
    heights, widths = grey.any(2).sum(1), grey.any(1).sum(1)
    assert torch.equal(grey.sum((1, 2)), heights * widths)  # a rectangle
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (2, 4, 2, 4)  # cut at the edges
    often = grey.double().mean(0)  # of the 12 x 10 places a square may have its centre, 4 x 4 reach an inner pixel
    assert often[5, 5] == pytest.approx(4 / 12 * 4 / 10, abs=0.03)
    assert often.min() > 2 / 12 * 2 / 10 * 0.6


def test_nothing_is_erased_unless_asked_for():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert erase(images, 0) is images


@pytest.mark.parametrize("side", [0, 8])
def test_a_classifier_is_shown_partly_erased_images_where_its_schedule_says_so(side):
    class Watching(nn.Module):
        def forward(self, images):
            self.grey = float((images == 128 / 255).all(1).double().mean())
            return images.mean((2, 3)).repeat(1, 4)[:, :10].requires_grad_()

    white = Images(torch.full((16, 3, 32, 32), 255, dtype=torch.uint8), torch.arange(16) % 10, CPU)
    network = Watching()
    Classify("x", network, Schedule(1, erase=side), white, white).loss(torch.arange(16))
    assert (network.grey > 0.02) == bool(side)
