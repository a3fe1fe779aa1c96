"""Our attacks against other people's on the shipped classifier: equal where they should be, else no worse.

The libraries are those of requirements.txt here; a test whose library is missing is skipped.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ciad_engine import bundles, datasets, systems
from ciad_engine.attacks.catalogue import BIM, FGSM, JSMA, CarliniWagnerL2, DeepFool
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model
from ciad_engine.attacks.words import FOOLED
from ciad_engine.imaging import to_lattice, to_unit
from ciad_engine.jobs import Job

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    found = systems.load("paper", torch.device("cpu")).network(bundles.CLASSIFIER)
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def known(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images that the classifier is right about, some of each class, and their labels."""
    samples = datasets.samples()
    images, labels = torch.from_numpy(samples.images), torch.from_numpy(samples.labels.astype(np.int64))
    with torch.no_grad():
        right = (network(to_unit(images)).argmax(1) == labels).nonzero()[:, 0]
    chosen = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))[:64]]
    return images[chosen], labels[chosen]


def same_levels(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The share of values that are the same grey level."""
    return float((to_lattice(ours.detach()) == to_lattice(theirs.detach())).double().mean())


@pytest.mark.parametrize("library", ["foolbox", "torchattacks"])
def test_fgsm_and_bim_are_theirs(library, network, known):
    """In double precision: in single the sign of a slope of almost nothing is anybody's, and BIM adds that up."""
    module = pytest.importorskip(library)
    exact = copy.deepcopy(network).double()
    images, labels = known
    x = to_unit(images).double()
    if library == "foolbox":
        model = module.PyTorchModel(exact, bounds=(0, 1))
        fgsm = module.attacks.LinfFastGradientAttack()(model, x, labels, epsilons=8 / 255)[1]
        many = module.attacks.LinfBasicIterativeAttack(abs_stepsize=2 / 255, steps=10, random_start=False)
        bim = many(model, x, labels, epsilons=8 / 255)[1]
    else:
        fgsm = module.FGSM(exact, eps=8 / 255)(x, labels)
        bim = module.BIM(exact, eps=8 / 255, alpha=2 / 255, steps=10)(x, labels)
    for attack, theirs in ((FGSM(eps=8), fgsm), (BIM(eps=8, step=2, iterations=10), bim)):
        ours = attack.find(Model(exact, len(x)), x, Goal(labels), Job()).images
        assert same_levels(ours, theirs) > 0.9999
        assert same_levels(ours, x) < 0.1


def test_fgsm_is_that_of_art(network, known):
    module = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    images, labels = known
    x, loss = to_unit(images), torch.nn.CrossEntropyLoss()
    model = PyTorchClassifier(network, loss, (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type="cpu")
    theirs = module.FastGradientMethod(model, eps=8 / 255, batch_size=64).generate(x.numpy(), labels.numpy())
    ours = FGSM(eps=8).find(Model(network, len(x)), x, Goal(labels), Job()).images
    assert same_levels(ours, torch.from_numpy(theirs)) > 0.999


def test_jsma_changes_as_many_values_as_torchattacks(network, known):
    library = pytest.importorskip("torchattacks")
    images, labels = (part[:6] for part in known)
    theirs = to_lattice(library.JSMA(network, theta=1.0, gamma=0.1)(to_unit(images), labels).detach())
    ours = JSMA(theta=1, gamma=0.1, target="next").run(network, images.numpy(), labels.numpy())
    with torch.no_grad():
        reached = network(to_unit(theirs)).argmax(1) == (labels + 1) % 10
    compared = 0
    for i in range(6):
        # Where no pair is valid theirs moves the first value twice and goes on; such an image is not compared.
        if reached[i] and ours.success[i]:
            compared += 1
            assert ours.l0_values[i] == int((theirs[i] != images[i]).sum())
    assert compared >= 3


def distances(candidates: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return (candidates - to_unit(images)).flatten(1).norm(dim=1)


def test_carlini_and_wagner_comes_as_near_as_foolbox(network, known):
    library = pytest.importorskip("foolbox")
    images, labels = (part[:16] for part in known)
    attack = library.attacks.L2CarliniWagnerAttack(
        binary_search_steps=5, steps=150, stepsize=0.01, confidence=0, initial_const=1e-2
    )
    model = library.PyTorchModel(network, bounds=(0, 1))
    theirs, _, success = attack(model, to_unit(images), labels, epsilons=None)
    ours = CarliniWagnerL2(search_steps=5, iterations=150, initial_c=1e-2).find(
        Model(network, 16), to_unit(images), Goal(labels), Job()
    )
    fooled = torch.tensor([reason == FOOLED for reason in ours.reason])
    assert fooled.sum() >= success.sum()
    both = fooled & success
    assert both.sum() >= 12
    # As floats, as theirs is: what 8 bits cost on top is the same for everybody.
    assert distances(ours.images, images)[both].mean() <= 1.01 * distances(theirs, images)[both].mean()


def test_deepfool_comes_as_near_as_foolbox(network, known):
    library = pytest.importorskip("foolbox")
    images, labels = known
    model = library.PyTorchModel(network, bounds=(0, 1))
    attack = library.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
    theirs, _, success = attack(model, to_unit(images), labels, epsilons=None)
    ours = DeepFool().find(Model(network, 64), to_unit(images), Goal(labels), Job())
    fooled = torch.tensor([reason == FOOLED for reason in ours.reason])
    assert fooled.sum() >= success.sum()
    both = fooled & success
    assert distances(ours.images, images)[both].mean() <= 1.02 * distances(theirs, images)[both].mean()
