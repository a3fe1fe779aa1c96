"""Bundles whose networks or cards would give wrong answers are refused as the damage they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from torch import nn

from ciad_engine import bundles, cli, imaging, json_text, resources, systems
from ciad_engine.detectors import base as detectors_base
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import BundleError, SettingError
from tests import untrained

CPU = torch.device("cpu")
ROLES = {**untrained.ROLES, bundles.SECOND_CLASSIFIER: ("mlp", {})}


@pytest.fixture
def folder(tmp_path) -> Path:
    untrained.write(tmp_path / "b", "b", ROLES, thresholds={0.05: Threshold(3.0, "chosen for tests")})
    return tmp_path / "b"


def change_card(folder: Path, change) -> None:
    content = json.loads((folder / bundles.CARD).read_text(encoding="utf-8"))
    change(content)
    (folder / bundles.CARD).write_text(json.dumps(content), encoding="utf-8")


def change_weights(folder: Path, role: str, change, metadata=None) -> None:
    """Rewrite a network's file, with its checksum on the card."""
    path = folder / f"{role}.safetensors"
    state = safetensors.torch.load(path.read_bytes())
    change(state)
    raw = safetensors.torch.save(state, metadata)
    path.write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    change_card(folder, lambda card: card["networks"][role].update(sha256=digest))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_weights_that_are_not_finite_are_refused(folder, role, value, all_of_them):
    def spoil(state):
        tensor = state[sorted(state)[0]].view(-1)
        tensor[slice(None) if all_of_them else -1] = float(value)

    change_weights(folder, role, spoil)
    with pytest.raises(BundleError, match=f"The {role.replace('_', ' ')} of bundle 'b' is damaged: .* NaN or infinite"):
        systems.load(folder, CPU)


@pytest.mark.parametrize("role", [bundles.CLASSIFIER, bundles.MASK_CLASSIFIER, bundles.SECOND_CLASSIFIER])
def test_finite_weights_with_answers_that_are_not_are_refused(folder, role):
    system = systems.load(folder, CPU)
    for weights in system.network(role).parameters():
        weights.fill_(1e30)
    who = "detector 'mask'" if role == bundles.MASK_CLASSIFIER else role.replace("_", " ")
    with pytest.raises(BundleError, match=f"The {who} of bundle 'b' in .* cannot be used: It gives NaN or infinity"):
        system.try_out()


@pytest.mark.parametrize("role", [bundles.CLASSIFIER, bundles.MASK_CLASSIFIER, bundles.SECOND_CLASSIFIER])
@pytest.mark.parametrize("count", [2, 9, 12])
def test_another_number_of_classes_is_refused(tmp_path, role, count):
    name, arguments = ROLES[role]
    untrained.write(tmp_path / "b", "b", {**ROLES, role: (name, {**arguments, "classes": count})})
    who = "detector 'mask'" if role == bundles.MASK_CLASSIFIER else role.replace("_", " ")
    with pytest.raises(BundleError, match=f"The {who} of bundle 'b' .* shape \\(1, {count}\\), not \\(1, 10\\)"):
        systems.load(tmp_path / "b", CPU)


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


ANSWERS = {
    "a tuple": lambda x: (x.new_zeros(len(x), 10), None),
    "None": lambda x: None,
    "a vector": lambda x: x.new_zeros(len(x)),
    "one row": lambda x: x.new_zeros(1, 10)[:, :, None],
    "NaN at dark images": lambda x: x.new_zeros(len(x), 10).where(x.flatten(1).amax(1, keepdim=True) > 0.6, torch.nan),
    "failing": lambda x: x @ x.new_zeros(5, 5),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("role", ROLES)
def test_other_answers_are_refused_at_the_first_one(folder, kind, role):
    system = systems.load(folder, CPU)
    networks = {**system.networks, role: Answering(ANSWERS[kind])}
    system = systems.assemble(system.card, networks, CPU)
    images = np.stack([np.zeros(CIFAR10.shape, np.uint8), np.full(CIFAR10.shape, 255, np.uint8)])
    # The second classifier gives no verdict: it is tried out when the bundle is loaded.
    ask = system.try_out if role == bundles.SECOND_CLASSIFIER else lambda: system.inspect(images)
    with pytest.raises(BundleError, match=r"of bundle 'b' in .* cannot be used"):
        ask()


def test_a_probability_of_zero_is_sound(folder):
    system = systems.load(folder, CPU)

    def sure(x):
        return torch.tensor([[2000.0] + 9 * [0.0]]).expand(len(x), 10)

    system = systems.assemble(system.card, {**system.networks, bundles.CLASSIFIER: Answering(sure)}, CPU)
    assert np.isfinite(system.inspect(untrained.noise(2)).findings["confidence"].scores).all()


def test_a_detector_that_fails_is_named(folder, monkeypatch):
    def fail(self, inputs, classes):
        return {}["no such key"]

    system = systems.load(folder, CPU)
    monkeypatch.setattr(detectors_base.Detector, "score", fail)
    with pytest.raises(BundleError, match=r"The detector 'mask' of bundle 'b' .* cannot be used: It fails \(KeyError"):
        system.inspect(untrained.noise(1))


@pytest.mark.parametrize(
    "images",
    [untrained.noise(2) / 255, untrained.noise(2)[:, :1], untrained.noise(2)[0], untrained.noise(0), [], None],
)
def test_other_images_are_refused(folder, images):
    with pytest.raises(SettingError, match="images: bundle 'b' expects uint8"):
        systems.load(folder, CPU).inspect(images)


def test_a_default_type_of_floats_does_not_change_a_verdict(folder):
    images = untrained.noise(2)
    plain = systems.load(folder, CPU).inspect(images)
    torch.set_default_dtype(torch.float64)
    try:
        again = systems.load(folder, CPU).inspect(images)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, finding in plain.findings.items():
        np.testing.assert_array_equal(again.findings[name].scores, finding.scores)


def names(*wanted: str) -> dict[str, str]:
    return {"classes": json.dumps(list(wanted), ensure_ascii=False)}


@given(st.permutations(CIFAR10.classes), st.sampled_from([*ROLES]))
@limits(max_examples=20, deadline=None)
def test_classes_are_those_of_the_weights(tmp_path_factory, order, role):
    folder = tmp_path_factory.mktemp("bundle") / "b"
    untrained.write(folder, "b", ROLES)
    change_weights(folder, role, lambda state: None, names(*CIFAR10.classes))
    change_card(folder, lambda card: card["domain"].update(classes=list(order)))
    card = bundles.read_card(folder)
    if tuple(order) == CIFAR10.classes:
        assert bundles.load_networks(card, CPU)
    else:
        with pytest.raises(BundleError, match=f"lists the classes .* but the weights in {role}.safetensors are for"):
            bundles.load_networks(card, CPU)


@pytest.mark.parametrize("classes", [["a", "b", "c"], ["ä" * 10, "b"], [*CIFAR10.classes, "more"]])
def test_other_classes_are_refused(folder, classes):
    change_weights(folder, bundles.CLASSIFIER, lambda state: None, names(*CIFAR10.classes))
    change_card(folder, lambda card: card["domain"].update(classes=classes))
    with pytest.raises(BundleError, match="lists the classes"):
        systems.load(folder, CPU)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_of_old_bundles_name_no_classes_and_are_read(folder, metadata):
    change_weights(folder, bundles.CLASSIFIER, lambda state: None, metadata)
    assert systems.load(folder, CPU)


def test_saved_weights_name_their_classes(tmp_path):
    bundles.save_network(nn.Linear(2, 2), tmp_path / "w", classes=("ä", "b"))
    with safetensors.safe_open(tmp_path / "w", "pt") as file:
        assert file.metadata() == names("ä", "b")


def test_the_shipped_weights_name_their_classes():
    path = resources.path("models", "paper", "classifier.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == names(*CIFAR10.classes)


@given(st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999"]), st.integers(0, 2))
@limits(max_examples=12, deadline=None)
def test_numbers_on_a_card_are_finite(tmp_path_factory, number, place):
    folder = tmp_path_factory.mktemp("bundle") / "b"
    untrained.write(folder, "b", thresholds={0.05: Threshold(3.0, "chosen for tests")})

    def spoil(card):
        holder, key = [
            (card["detectors"][0]["thresholds"]["0.05"], "value"),
            (card["detectors"][1].setdefault("options", {}), "of"),
            (card.setdefault("measured", {}), "accuracy"),
        ][place]
        holder[key] = "THE NUMBER"

    change_card(folder, spoil)
    path = folder / bundles.CARD
    path.write_text(path.read_text(encoding="utf-8").replace('"THE NUMBER"', number), encoding="utf-8")
    with pytest.raises(BundleError, match=r"card\.json is unusable .* not a finite number"):
        bundles.read_card(folder)


def test_the_command_ends_with_1_and_a_sentence(folder, tmp_path, capsys):
    picture = tmp_path / "plain.png"
    imaging.save_png(picture, untrained.noise(1)[0])
    change_weights(folder, bundles.MASK_CLASSIFIER, lambda state: state[sorted(state)[0]].fill_(torch.nan))
    for words in (["inspect", str(picture)], ["inspect", str(picture), "--json"]):
        assert cli.main([*words, "--bundle", str(folder)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "mask classifier of bundle 'b' is damaged" in err
        assert "bug" not in err


@given(st.recursive(st.one_of(st.none(), st.floats(), st.text(), st.integers()),
                    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner))))  # fmt: skip
def test_json_has_no_nan(content):
    def refuse(word):
        raise AssertionError(word)

    json.loads(json_text.write(content), parse_constant=refuse)


def test_json_keeps_what_is_finite():
    content = {"a": [1, 2.5, None, True, "ä"], "b": {"c": ()}}
    assert json_text.write(content, indent=1) == json.dumps(content, indent=1)
    assert json_text.write([float("nan"), -float("inf")]) == "[null, null]"
