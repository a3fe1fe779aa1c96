import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ciad_engine.attacks import jsma, saliency
from ciad_engine.attacks.catalogue import JSMA
from ciad_engine.attacks.words import NO_ADVERSARIAL, NO_PAIR
from ciad_engine.errors import SettingError

from .toys import VALUES, Curved, Linear, Recorder, answers, random_images


def all_pairs(u, v, available):
    """(best product or None, its pair) for one image, by looking at every pair in float64."""
    u, v = u.double(), v.double()
    a, b = u[:, None] + u[None], v[:, None] + v[None]
    ok = (a > 0) & (b > 0) & available[:, None] & available[None]
    ok.fill_diagonal_(False)
    if not ok.any():
        return None, None
    product = torch.where(ok, a * b, -torch.inf)
    flat = int(product.argmax())
    return float(product.max()), sorted(divmod(flat, len(u)))


def check_against_all_pairs(u, v, available, same_pair=True):
    pairs, valid = saliency.best_pairs(u, v, available)
    for i in range(len(u)):
        best, pair = all_pairs(u[i], v[i], available[i])
        assert bool(valid[i]) == (best is not None)
        if best is None:
            continue
        p, q = pairs[i].tolist()
        assert p < q
        assert available[i, p]
        assert available[i, q]
        a, b = u[i, p].double() + u[i, q].double(), v[i, p].double() + v[i, q].double()
        assert float(a * b) == best
        if same_pair:
            assert [p, q] == pair


@pytest.mark.parametrize("correlation", [-0.99, -0.9, -0.3, 0, 0.5, 0.9])
@pytest.mark.parametrize("size", [2, 3, 20, 64])
def test_the_pair_is_the_best_of_all(correlation, size):
    torch.manual_seed(size)
    u, noise = torch.randn(50, size), torch.randn(50, size)
    v = correlation * u + (1 - correlation**2) ** 0.5 * noise
    check_against_all_pairs(u, v, torch.rand(50, size) > 0.2)


# Few different numbers: many equal points, equal products and zeros.
_coarse = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.booleans()), min_size=2, max_size=12)


@given(points=_coarse)
@settings(max_examples=300, deadline=None)
def test_the_pair_is_the_best_of_all_among_ties(points):
    u, v, available = (torch.tensor([column]) for column in zip(*points, strict=True))
    check_against_all_pairs(u.float(), v.float(), available, same_pair=False)


def test_equal_points_count_in_the_order_of_their_index():
    u = torch.tensor([[1.0, 3.0, 3.0, 3.0, 1.0]])
    pairs, valid = saliency.best_pairs(u, u, torch.ones(1, 5, dtype=torch.bool))
    assert valid.all()
    assert pairs.tolist() == [[1, 2]]


def test_tiny_and_huge_gradients_have_their_pair():
    torch.manual_seed(0)
    u, v = torch.randn(10, 30), torch.randn(10, 30)
    everything = torch.ones(10, 30, dtype=torch.bool)
    expected = saliency.best_pairs(u, v, everything)[0]
    for scale in (2.0**-100, 2.0**100):
        pairs, valid = saliency.best_pairs(u * scale, v * scale, everything)
        assert valid.all()
        assert torch.equal(pairs, expected)


def test_a_front_of_all_values_is_searched_in_parts(monkeypatch):
    """u + v nearly constant: no value outdoes another, so nothing can be left out."""
    torch.manual_seed(0)
    u = torch.rand(9, 64) * 2 - 0.5
    v = 1.1 - u
    monkeypatch.setattr(saliency, "PAIRS_AT_ONCE", 64 * 64 * 2)
    check_against_all_pairs(u, v, torch.ones(9, 64, dtype=torch.bool), same_pair=False)


def papernot(network, image, label, aim, theta, limit):
    """Algorithm 3 for one image with a full Jacobian and all pairs; the images after each step."""
    x = torch.tensor(image).float().div(255).flatten()
    trace = []
    for _ in range(limit):
        jacobian = torch.autograd.functional.jacobian(lambda f: network(f.view(1, 3, 4, 4))[0], x)
        alpha, beta = jacobian[aim].float(), (jacobian.sum(0) - jacobian[aim]).float()
        inside = x < 1 - 1e-6 if theta > 0 else x > 1e-6
        sign = 1 if theta > 0 else -1
        best, pair = all_pairs(sign * alpha, -sign * beta, inside)
        if best is None:
            return trace, "no pair"
        x = x.clone()
        x[pair] = (x[pair] + theta).clamp(0, 1)
        trace.append(x.view(3, 4, 4))
        if int(network(trace[-1][None]).argmax()) == aim:
            return trace, "reached"
    return trace, "budget"


@pytest.mark.parametrize("theta", [1.0, 0.2, -1.0, -0.4])
def test_every_step_is_papernots(theta, monkeypatch):
    network, images = Curved(seed=5).eval(), random_images(10, seed=6)
    labels = answers(network, images)
    outcomes = set()
    for image, label in zip(images, labels, strict=True):
        aim = (label + 1) % 10
        trace, outcome = papernot(network, image, label, aim, theta, 12)
        chosen = []
        monkeypatch.setattr(
            jsma, "best_pairs", lambda *a, into=chosen: into.append(saliency.best_pairs(*a)) or into[-1]
        )
        result = JSMA(theta=theta, gamma=0.5, target="next").run(network, image[None], np.array([label]))
        before = image.reshape(-1) / 255
        for after, (pairs, valid) in zip(trace, chosen, strict=False):
            assert valid.item()
            moved = np.flatnonzero(np.abs(after.flatten().numpy() - before) > 1e-6)
            assert set(moved) <= set(pairs[0].tolist())  # one of the two may have stood at its end
            before = after.flatten().numpy()
        assert result.steps[0] == len(trace)
        outcomes.add(outcome)
        if outcome == "reached":
            assert result.success[0]
            assert np.abs(result.images[0] / 255 - trace[-1].numpy()).max() <= 0.5 / 255 + 1e-6
        else:
            assert result.reason[0] == (NO_PAIR if outcome == "no pair" else NO_ADVERSARIAL)
    assert "reached" in outcomes


def test_only_the_asked_direction():
    network, images = Curved(), random_images(30)
    labels = answers(network, images)
    for theta in (0.5, -0.5):
        result = JSMA(theta=theta, gamma=1).run(network, images, labels)
        assert result.success.any()
        change = result.images.astype(int) - images
        assert (change * np.sign(theta) >= 0).all()


@pytest.mark.parametrize("theta", [1.0, 0.3])
def test_the_budget_holds_and_counts_passes(theta):
    network, images = Curved(seed=7), random_images(40)
    labels = answers(network, images)
    result = JSMA(theta=theta, gamma=0.25, target="least-likely").run(network, images, labels)
    limit = int(VALUES * 0.25 / 2)
    assert result.steps.max() == limit
    assert (result.l0_values <= 2 * result.steps).all()
    tested = ~np.isin(result.reason, [NO_PAIR])
    # One before the attack, one before each step and after the last; one more where floats had to be rounded.
    more = result.forwards[tested] - result.steps[tested]
    assert set(more.tolist()) == ({2} if theta == 1 else {2, 3})
    np.testing.assert_array_equal(result.backwards[tested], 2 * result.steps[tested])
    # Where no pair is left, the two gradients that showed it are spent as well.
    np.testing.assert_array_equal(result.backwards[~tested], 2 * result.steps[~tested] + 2)


def test_without_a_target_it_goes_for_the_runner_up_and_takes_any_wrong_class():
    network, images = Linear(), random_images(20)
    labels = answers(network, images)
    result = JSMA(gamma=1).run(network, images, labels)
    assert result.success.mean() > 0.8
    with torch.no_grad():
        logits = network(torch.tensor(images).float() / 255)
    runner_up = logits.topk(2, 1).indices[:, 1].numpy()
    for i in range(20):
        targeted = JSMA(gamma=1, target="given", target_class=int(runner_up[i]))
        other = targeted.run(network, images[i : i + 1], labels[i : i + 1])
        assert result.steps[i] <= other.steps[0] or not other.success[0]
        if result.success[i] and result.label_after[i] == runner_up[i]:
            np.testing.assert_array_equal(result.images[i], other.images[0])


def test_no_pair_left():
    """White images cannot be raised; black ones cannot be lowered."""
    network = Curved()
    for theta, level in ((1.0, 255), (-1.0, 0)):
        images = np.full((3, 3, 4, 4), level, np.uint8)
        labels = answers(network, images)
        result = JSMA(theta=theta).run(network, images, labels)
        assert (result.reason == NO_PAIR).all()
        np.testing.assert_array_equal(result.images, images)
        assert (result.steps == 0).all()


def test_small_steps_end_at_the_ends_of_the_range():
    """Ten times 0.1 is not quite 1 in floats; the value must leave the search all the same."""
    network = Linear(2)
    with torch.no_grad():  # values 0 and 1 help most; then 2 and 3; the label cannot be left
        network.weight.zero_()
        network.weight[:4, 1] = torch.tensor([4.0, 4.0, 1.0, 1.0])
        network.weight[:4, 0] = torch.tensor([-4.0, -4.0, -1.0, -1.0])
        network.bias[0] = 1000
    images, labels = np.zeros((1, 3, 4, 4), np.uint8), np.zeros(1, int)
    # Ten steps a pair, then nothing is left that helps.
    result = JSMA(theta=0.1, gamma=1).run(network, images, labels)
    assert result.steps[0] == 20
    assert result.reason[0] == NO_PAIR


def test_progress_counts_finished_images():
    network, images, job = Curved(), random_images(10), Recorder()
    JSMA(gamma=1).run(network, images, answers(network, images), job)
    assert job.fractions[0] == 0
    assert job.fractions == sorted(job.fractions)
    assert job.fractions[-1] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"theta": 0},
        {"theta": 1.1},
        {"theta": -2},
        {"gamma": -0.1},
        {"gamma": 1.5},
        {"target": "any"},
        {"target_class": -1},
    ],
)
def test_bad_settings(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        JSMA(**wrong)


def test_answers_known_and_asked_again_are_put_together():
    """With a step of less than the range some images end on grey levels, others have to be rounded."""
    network, images = Curved(seed=7), random_images(40)
    labels = answers(network, images)
    result = JSMA(theta=0.3, gamma=0.25, target="least-likely").run(network, images, labels)
    assert len(set((result.forwards - result.steps)[result.steps > 0].tolist())) == 2
    np.testing.assert_array_equal(result.label_after, answers(network, result.images))


def test_untargeted_succeeds_if_any_target_does():
    """The runner-up alone does not: with few values to change it is out of reach where another class is not."""
    network, images = Curved(seed=7), random_images(60, seed=8)
    labels = answers(network, images)
    fixed = [
        JSMA(gamma=0.17, target="given", target_class=aim).run(network, images[labels != aim], labels[labels != aim])
        for aim in range(10)
    ]
    within_reach = np.zeros(60, bool)
    for aim, result in enumerate(fixed):
        within_reach[labels != aim] |= result.success
    result = JSMA(gamma=0.17).run(network, images, labels)
    with torch.no_grad():
        runner_up = network.eval()(torch.tensor(images).float() / 255).topk(2, 1).indices[:, 1].numpy()
    toward = np.array([fixed[aim].success[(labels != aim)[:i].sum()] for i, aim in enumerate(runner_up)])
    assert 0 < toward.sum() < within_reach.sum() < 60
    assert (result.success >= within_reach).all()
    # A failed attack spends its budget on every class, and shows the attempt that came nearest.
    failed = ~result.success
    assert failed.any()
    limit = int(VALUES * 0.17 / 2)
    assert (result.steps[failed] <= 9 * limit).all()
    assert (result.steps[failed & (result.reason == NO_ADVERSARIAL)] > limit).any()
    assert (result.l0_values <= 2 * limit).all()
