"""Goals: a linear classifier and a linear detector, for which the nearest evading image is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from ciad_engine import attacks
from ciad_engine.attacks.goal import Best, Evasion, Goal, evidence_against
from ciad_engine.attacks.words import ALREADY_WRONG, FLAGGED, FOOLED, NO_ADVERSARIAL
from ciad_engine.errors import CiadError, SettingError
from tests.engine.attacks.toys import SHAPE, VALUES, Linear

HALF = VALUES // 2
EVADERS = ("fgsm", "bim", "pgd", "opgd", "square", "cw", "ddn", "lbfgs")


class Half(nn.Module):
    """Two classes, decided by the first half of the values: class 0 leads by `lead` on mid grey."""

    def __init__(self, lead: float = 2.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(HALF, generator=random, dtype=torch.float64).sign() * 0.5)
        self.lead = lead

    def forward(self, x):
        value = ((x.double().flatten(1)[:, :HALF] - 128 / 255) * self.weight).sum(1)
        return torch.stack([self.lead - value, value], 1) / 1.0


def half_detector(missing: float = 1.0) -> Evasion:
    """A detector that looks at the other half: mid grey is above its threshold by `missing`, whatever the class."""
    random = torch.Generator().manual_seed(2)
    weight = torch.randn(HALF, generator=random, dtype=torch.float64).sign() * 0.25

    def excess(images, classes):
        return missing - ((images.double().flatten(1)[:, HALF:] - 128 / 255) * weight).sum(1)

    return Evasion("half", excess)


def grey(count: int = 3) -> np.ndarray:
    return np.full((count, *SHAPE), 128, np.uint8)


# On mid grey f1 misses class 1 by 2 and moves by 2 * 0.5 * 24 / 255 per grey level; the detector misses by 1 and moves
# by 0.25 * 24 / 255. So the goal takes 21.25 and 42.5 grey levels in the two halves.
CLASSIFIER_LEVELS, DETECTOR_LEVELS = 2 * 255 / 24, 255 / 6


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "opgd"])
def test_the_smallest_budget_that_evades_is_that_of_the_harder_half(name):
    settings = {} if name == "fgsm" else {"step": 4.0, "iterations": 40}
    for eps, reached in ((math.ceil(DETECTOR_LEVELS), True), (math.floor(DETECTOR_LEVELS), False)):
        attack = attacks.create(name, eps=float(eps), **settings)
        result = attack.run(Half(), grey(), np.zeros(3, np.int64), evade=(half_detector(),))
        assert result.fooled.all()
        assert result.evaded.tolist() == [reached] * 3
        assert result.success.tolist() == [reached] * 3
        assert set(result.reason) == {FOOLED if reached else FLAGGED}
        assert result.linf.tolist() == [eps] * 3


@pytest.mark.parametrize(
    ("name", "settings", "most"),
    [
        ("cw", {"iterations": 400, "search_steps": 6, "initial_c": 0.1}, 1.06),
        # Their losses fall flat only gradually, so that the easier half is moved by more than it needs.
        ("ddn", {"iterations": 300}, 1.35),
        ("lbfgs", {"iterations": 60, "search_steps": 12, "initial_c": 0.1}, 1.35),
    ],
)
def test_the_nearest_evading_image_is_the_sum_of_both_projections(name, settings, most):
    result = attacks.create(name, **settings).run(Half(), grey(), np.zeros(3, np.int64), evade=(half_detector(),))
    assert result.success.all()
    best = math.sqrt(HALF * (CLASSIFIER_LEVELS**2 + DETECTOR_LEVELS**2)) / 255
    assert (result.l2 >= best - 1e-9).all()
    assert (result.l2 <= best * most).all()
    alone = attacks.create(name, **settings).run(Half(), grey(), np.zeros(3, np.int64))
    assert (alone.l2 <= math.sqrt(HALF) * CLASSIFIER_LEVELS / 255 * 1.06).all()  # what the detector costs, it costs


@pytest.mark.parametrize("name", EVADERS)
def test_an_image_that_fooled_but_is_flagged_does_not_vanish(name):
    never = Evasion("never", lambda images, classes: 1.0 + 0 * images.double().flatten(1).sum(1))
    short = {"cw": {"iterations": 50, "search_steps": 3, "initial_c": 1.0}, "lbfgs": {"search_steps": 6}, "ddn": {}}
    attack = attacks.create(
        name, **short.get(name, {"eps": 30.0} | ({} if name in ("fgsm", "square") else {"step": 4.0}))
    )
    result = attack.run(Half(), grey(), np.zeros(3, np.int64), evade=(never,))
    assert result.fooled.all()
    assert not result.evaded.any()
    assert not result.success.any()
    assert set(result.reason) == {FLAGGED}
    assert (result.images != grey()).any()
    np.testing.assert_array_equal(result.images, result.candidates)
    assert result.label_after.tolist() == [1, 1, 1]
    assert (result.linf > 0).all()


def test_a_failed_attack_keeps_its_candidate_beside_the_original():
    result = attacks.create("fgsm", eps=5.0).run(Half(), grey(), np.zeros(3, np.int64))
    assert not result.fooled.any()
    assert result.evaded.all()  # there was nothing to evade
    np.testing.assert_array_equal(result.images, grey())
    assert np.abs(result.candidates.astype(int) - 128).max() == 5
    assert set(result.reason) == {NO_ADVERSARIAL}
    assert result.linf.tolist() == [0, 0, 0]


def test_the_flags_are_those_of_the_8_bit_image():
    """An image that evades only between two grey levels does not count as evading."""
    # The detector asks for 42.5 levels in every value: 42 are too few, 43 are enough, and nothing lies in between.
    for levels, evades in ((42, False), (43, True)):
        result = attacks.create("fgsm", eps=float(levels)).run(
            Half(), grey(1), np.zeros(1, np.int64), evade=(half_detector(),)
        )
        x = torch.from_numpy(result.images).double() / 255
        assert (half_detector().excess(x, None) <= 0).item() is evades
        assert result.evaded.tolist() == [evades]


def test_an_image_that_is_wrong_already_is_neither():
    result = attacks.create("fgsm", eps=60.0).run(Half(), grey(), np.array([0, 1, 0]), evade=(half_detector(),))
    assert result.reason[1] == ALREADY_WRONG
    assert result.fooled.tolist() == [True, False, True]
    assert result.success.tolist() == [True, False, True]
    assert not result.evaded[1]
    alone = attacks.create("fgsm", eps=60.0).run(Half(), grey(), np.array([0, 1, 0]))
    assert alone.reason[1] == ALREADY_WRONG
    assert alone.evaded[1]  # there was nothing to evade


@pytest.mark.parametrize("name", sorted(set(attacks.own()) - set(EVADERS)))
def test_attacks_that_cannot_evade_refuse_before_anything_is_computed(name):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("the network was asked")

    with pytest.raises(SettingError, match=f"{attacks.title(name)} cannot evade a detector \\(half\\)"):
        attacks.create(name).run(Never(), grey(), np.zeros(3, np.int64), evade=(half_detector(),))


def test_the_attacks_that_say_so_are_those_that_evade():
    assert {name for name in attacks.own() if attacks.get(name).evades} == set(EVADERS)


def test_a_detector_without_a_gradient_is_refused():
    step = Evasion("step", lambda images, classes: (images.flatten(1).sum(1) > 3).double().detach() - 0.5)
    with pytest.raises(CiadError, match="'step' has no gradient with respect to the image"):
        attacks.create("bim").run(Half(), grey(), np.zeros(3, np.int64), evade=(step,))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: images.flatten(1)[:, :2], r"'odd' returned shape \(3, 2\) for 3 images"),
        (lambda images: images.flatten(1).sum(1) * math.nan, "'odd' returned NaN or infinity"),
    ],
)
def test_a_broken_detector_is_named(answer, message):
    with pytest.raises(CiadError, match=message):
        attacks.create("bim").run(
            Half(), grey(), np.zeros(3, np.int64), evade=(Evasion("odd", lambda x, c: answer(x)),)
        )


def test_a_detector_is_asked_about_the_class_that_f1_then_gives():
    """Untargeted the likeliest wrong class, with a target that one."""
    asked = []

    def excess(images, classes):
        asked.append(classes.tolist())
        return images.double().flatten(1).sum(1) * 0 - 1

    network = Linear(5, 3)
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    with torch.no_grad():
        order = network(torch.from_numpy(images) / 255).argsort(1, descending=True).numpy()
    attacks.create("fgsm", eps=1.0).run(network, images, order[:, 0], evade=(Evasion("", excess),))
    assert asked[0] == order[:, 1].tolist()
    asked.clear()
    attacks.create("fgsm", eps=1.0, target="next").run(network, images, order[:, 0], evade=(Evasion("", excess),))
    assert asked[0] == ((order[:, 0] + 1) % 5).tolist()


# The goal itself.


def logits() -> torch.Tensor:
    return torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0], [1.0, 0.5, 4.0]], dtype=torch.float64)


def test_fooled_is_any_other_class_or_the_target():
    labels = torch.tensor([0, 0, 0])
    assert Goal(labels).fooled(logits()).tolist() == [False, True, True]
    assert Goal(labels, torch.tensor([1, 1, 1])).fooled(logits()).tolist() == [False, True, False]


def test_the_margin_is_what_is_missing():
    labels, images = torch.tensor([0, 0, 0]), torch.zeros(3, *SHAPE)
    assert Goal(labels).at(logits(), images).margin().tolist() == [1.0, -3.0, -3.0]
    assert Goal(labels, torch.tensor([1, 1, 1])).at(logits(), images).margin().tolist() == [1.0, -2.0, 3.5]
    assert Goal(labels, confidence=2.0).at(logits(), images).margin().tolist() == [3.0, -1.0, -1.0]
    flags = Evasion("", lambda images, classes: torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64))
    assert Goal(labels, evade=(flags,)).at(logits(), images).margin().tolist() == [1.5, 0.25, 0.0]


def test_reached_needs_every_part():
    labels, images = torch.tensor([0, 0, 0]), torch.zeros(3, *SHAPE)
    flags = Evasion("", lambda images, classes: torch.tensor([-1.0, 0.0, 1e-9], dtype=torch.float64))
    assert Goal(labels).at(logits(), images).reached.tolist() == [False, True, True]
    # At the threshold an image is not flagged.
    assert Goal(labels, evade=(flags,)).at(logits(), images).reached.tolist() == [False, True, False]
    assert Goal(labels, confidence=3.5).at(logits(), images).reached.tolist() == [False, False, False]
    assert Goal(labels, confidence=3.0).at(logits(), images).reached.tolist() == [False, True, True]


def test_the_loss_alone_is_the_evidence_against_the_label_or_for_the_target():
    labels, images = torch.tensor([0, 1, 2]), torch.zeros(3, *SHAPE)
    assert torch.equal(Goal(labels).at(logits(), images).loss(), evidence_against(logits(), labels))
    assert torch.equal(Goal(labels, labels).at(logits(), images).loss(), -evidence_against(logits(), labels))


def test_the_loss_with_detectors_falls_flat_where_a_part_is_reached_well():
    x = torch.zeros(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    values = x.flatten(1)

    def slopes(own: float, other: float) -> tuple[float, float]:
        z = torch.stack([-values[:, 0] - own, values[:, 0] + own], 1)
        goal = Goal(torch.tensor([0]), evade=(Evasion("", lambda *_: other - values[:, 1]),))
        slope = torch.autograd.grad(goal.at(z, x).loss().sum(), x, retain_graph=True)[0].flatten()
        return slope[0].item(), slope[1].item()

    near, far = slopes(0.0, 0.0), slopes(8.0, 0.0)
    assert near[0] > 0.5
    assert near[1] == pytest.approx(0.5)
    assert far[0] < 1e-3  # f1 is fooled by a lot: the step is left to the detector
    assert far[1] == pytest.approx(0.5)
    assert slopes(0.0, -8.0)[1] < 1e-3


def test_best_prefers_the_goal_then_the_nearest_then_the_least_flagged():
    originals = torch.zeros(1, 1, 1, 1)
    best = Best(originals)
    excess = 0.0
    goal = Goal(torch.tensor([0]), evade=(Evasion("", lambda images, classes: torch.full((1,), excess)),))
    wrong, row = torch.tensor([[0.0, 1.0]]), torch.tensor([0])

    def offer(value: float, distance: float, flagged_by: float, z=wrong) -> float:
        nonlocal excess
        excess = flagged_by
        images = torch.full((1, 1, 1, 1), value)
        best.keep(row, images, torch.tensor([distance]), goal.at(z, images))
        return best.images.item()

    assert offer(1.0, 1.0, 0.5, -wrong) == 0.0  # not even fooled
    assert best.reasons() == [NO_ADVERSARIAL]
    assert offer(2.0, 9.0, 0.5) == 2.0
    assert best.reasons() == [FLAGGED]
    assert offer(3.0, 1.0, 0.7) == 2.0  # flagged by more
    assert offer(4.0, 9.0, 0.2) == 4.0
    assert offer(5.0, 5.0, -1.0) == 5.0
    assert best.reasons() == [FOOLED]
    assert offer(6.0, 1.0, 0.1) == 5.0  # nearer, but flagged
    assert offer(7.0, 6.0, -1.0) == 5.0  # farther
    assert offer(8.0, 4.0, -1.0) == 8.0


def test_a_goal_of_some_images():
    goal = Goal(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]))
    part = goal.of(torch.tensor([2, 0]))
    assert (part.labels.tolist(), part.targets.tolist()) == ([2, 0], [0, 1])
    assert goal.possible.tolist() == [True, False, True]
    assert dataclasses.replace(goal, targets=None).possible.all()
