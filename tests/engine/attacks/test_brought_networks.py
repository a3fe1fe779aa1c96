"""Networks and labels that people bring: they work with every attack, or the message says what is wrong."""

from __future__ import annotations

import collections
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from torch import nn

from ciad_engine import attacks
from ciad_engine.attacks import words
from ciad_engine.attacks.goal import Evasion
from ciad_engine.errors import CiadError, SettingError

from .test_contract import SMALL, small
from .toys import VALUES, Curved, Wrapped, answers, random_images

QUICK = {
    **SMALL, "pgd": {"iterations": 3}, "cw": {"iterations": 6}, "square": {"queries": 8}, "lbfgs": {"iterations": 3},
}  # fmt: skip
every_attack = pytest.mark.parametrize("name", QUICK)


def quick(name):
    return attacks.create(name, **QUICK[name])


def base() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 10)
    return nn.Sequential(*layers).to(torch.float32).eval()


def same(one, other):
    for field in ("images", "candidates", "fooled", "reason", "l2", "forwards", "backwards", "steps"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


def frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but people have it
        return torch.jit.freeze(torch.jit.script(base()))


WORKING = {
    "in place": lambda: nn.Sequential(nn.Threshold(-1, 0, inplace=True), base()),
    "frozen": frozen,
    "float64": lambda: base().double(),
    "half": lambda: base().half(),
    "bfloat16": lambda: base().bfloat16(),
}


@every_attack
@pytest.mark.parametrize("kind", WORKING)
def test_they_can_be_attacked(name, kind):
    network, images = WORKING[kind](), random_images(3)
    with torch.no_grad():
        weights = next(network.parameters(), torch.zeros(1))
        labels = network(torch.tensor(images).to(weights.dtype) / 255).argmax(1).numpy()
    if (name, kind) == ("cw", "half"):  # its weight of the margin soon exceeds what half precision holds
        with pytest.raises(CiadError, match="gradient is NaN or infinite"):
            quick(name).run(network, images, labels)
        return
    result = quick(name).run(network, images, labels)
    assert words.ALREADY_WRONG not in result.reason
    if kind in ("in place", "frozen"):
        same(result, quick(name).run(base(), images, labels))


@every_attack
def test_the_default_type_of_floats_changes_nothing(name):
    network, images = base(), random_images(3)
    labels = answers(network, images)
    plain = quick(name).run(network, images, labels)
    torch.set_default_dtype(torch.float64)
    try:
        again = quick(name).run(network, images, labels)
    finally:
        torch.set_default_dtype(torch.float32)
    same(plain, again)


def failing(x):
    raise KeyError("x")


class Other(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.inner, self.function = base(), function

    def forward(self, x):
        return self.function(self.inner, x)


Pair = collections.namedtuple("Pair", "logits aux")
REFUSED = {
    "a tuple": (Other(lambda n, x: (n(x), None)), "returns a tuple, not a tensor"),
    "a named tuple": (Other(lambda n, x: Pair(n(x), None)), "returns a Pair, not a tensor"),
    "a dict": (Other(lambda n, x: {"logits": n(x)}), "returns a dict, not a tensor"),
    "None": (Other(lambda n, x: None), "returns a NoneType, not a tensor"),
    "an array": (Other(lambda n, x: n(x).detach().numpy()), "returns a ndarray, not a tensor"),
    "classes": (Other(lambda n, x: n(x).argmax(1)), "returns torch.int64"),
    "complex": (Other(lambda n, x: torch.complex(n(x), n(x))), "returns torch.complex64"),
    "a map": (Other(lambda n, x: n(x)[:, :, None]), "not \\(N, classes\\)"),
    "one row": (Other(lambda n, x: n(x)[0]), "not \\(N, classes\\)"),
    "infinity": (Other(lambda n, x: n(x) * torch.inf), "NaN or infinite"),
    "for other images": (nn.Sequential(nn.Flatten(), nn.Linear(VALUES + 1, 10)), "must take images of shape"),
    "failing": (Other(lambda n, x: failing(x)), "must take images .* but fails \\(KeyError: 'x'\\)"),
    "lazy": (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "cannot be put into eval mode"),
    "nowhere": (base().to("meta"), "'meta'"),
    "a function": (lambda x: x, "expected a torch.nn.Module, got function"),
    "weights": (base().state_dict(), "expected a torch.nn.Module, got OrderedDict"),
}


@every_attack
@pytest.mark.parametrize("kind", REFUSED)
def test_those_that_cannot_be_attacked_are_refused_alike(name, kind):
    network, message = REFUSED[kind]
    with pytest.raises(CiadError, match=message):
        quick(name).run(network, random_images(2), [0, 1])


@every_attack
def test_a_gradient_that_cannot_be_computed_is_told(name):
    def spoiled(n, x):
        hidden = n[0](x).sigmoid()
        out = n[3](hidden.flatten(1))
        hidden.mul_(2)  # the sigmoid's gradient needs what it was
        return out

    network, images = Other(spoiled), random_images(2)
    if name == "square":  # it asks for none; the check of its results does
        return
    with pytest.raises(CiadError, match="gradient cannot be computed"):
        quick(name).run(network, images, answers(network, images))


@every_attack
def test_a_gradient_that_is_zero_everywhere_is_the_reason(name):
    def flat(z):
        return z.detach() + 0 * z

    network, images = Wrapped(Curved(), flat), random_images(3)
    result = small(name).run(network, images, answers(network, images))
    assert set(result.reason[~result.success]) <= {words.NO_ADVERSARIAL if name == "square" else words.FLAT}
    assert (result.backwards > 0).all() == (name != "square")


@every_attack
def test_a_gradient_that_is_zero_at_one_image_is_the_reason_there_alone(name):
    """Of an image by itself and among others; where the others are finished first, too."""
    images = random_images(6)
    images[2] = 255
    network = Curved()
    forward = network.forward
    network.forward = lambda x: forward(x * (x.flatten(1).amin(1) < 0.5)[:, None, None, None])
    labels = answers(network, images)
    result, alone = (small(name).run(network, images[s], labels[s]) for s in (slice(None), slice(2, 3)))
    assert result.reason[2] == alone.reason[0]
    assert words.FLAT not in np.delete(result.reason, 2)
    if name in ("fgsm", "bim", "deepfool", "jsma"):  # the others begin elsewhere, or come to where there is a slope
        assert result.reason[2] == words.FLAT


def test_a_universal_perturbation_cannot_be_computed_without_a_gradient():
    with pytest.raises(SettingError, match="gradient is zero at all"):
        attacks.create("universal", passes=1).fitted(Wrapped(Curved(), lambda z: z.detach() + 0 * z), random_images(20))
    assert attacks.create("universal", passes=1).fitted(base(), torch.tensor(random_images(20)))


FORMS = {
    "list": list, "tuple": tuple, "array of bytes": lambda x: np.array(x, np.uint8), "tensor": torch.tensor,
    "int32": lambda x: torch.tensor(x, dtype=torch.int32), "numbers of numpy": lambda x: [np.int64(v) for v in x],
}  # fmt: skip


@every_attack
def test_labels_and_images_may_be_of_any_form(name):
    network, images = base(), random_images(3)
    labels = answers(network, images).tolist()
    plain = quick(name).run(network, images, np.array(labels))
    for form in FORMS.values():
        same(plain, quick(name).run(network, torch.tensor(images), form(labels)))


@given(
    st.one_of(
        st.lists(
            st.one_of(
                st.none(), st.floats(), st.text(), st.booleans(), st.integers(), st.lists(st.integers(0, 9), max_size=2)
            ),
            max_size=3,
        ),
        st.none(),
        st.integers(),
        st.sampled_from([torch.tensor(1.5), np.array([2**64 - 1] * 2, np.uint64)]),
    )
)
@example([False, 0])
@limits(max_examples=60, deadline=None)  # fmt: skip
def test_other_labels_are_refused(labels):
    good = isinstance(labels, list) and len(labels) == 2 and all(type(v) is int and 0 <= v < 10 for v in labels)
    if good:
        attacks.create("fgsm").run(base(), random_images(2), labels)
        return
    with pytest.raises(SettingError, match="labels: "):
        attacks.create("fgsm").run(base(), random_images(2), labels)


@pytest.mark.parametrize(
    ("excess", "message"),
    [
        (lambda x, c: None, "returned a NoneType, not a tensor"),
        (lambda x, c: 1 / 0, "'odd' fails at images .*ZeroDivisionError"),
        (lambda x, c: x.flatten(1).sum(1).mul(torch.nan), "NaN"),
    ],
)
def test_detectors_that_fail_are_named(excess, message):
    network, images = base(), random_images(2)
    with pytest.raises(CiadError, match=message):
        quick("pgd").run(network, images, answers(network, images), evade=(Evasion("odd", excess),))
