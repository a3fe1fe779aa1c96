"""Bundles: what is saved is what is loaded, and damage is named."""

import json

import pytest
import torch

from ciad_engine import bundles, networks, systems
from ciad_engine.errors import BundleError

CPU = torch.device("cpu")


def write(folder, half=True, **changes):
    torch.manual_seed(0)
    entries, made = {}, {}
    for role, name in (("classifier", "alexnet"), ("mask_generator", "lan"), ("mask_classifier", "lenet")):
        made[role] = networks.create(name).eval()
        digest = bundles.save_network(made[role], folder / f"{role}.safetensors", half)
        entries[role] = {"network": name, "arguments": {}, "file": f"{role}.safetensors", "sha256": digest}
    content = {"name": "tiny", "classes": list("abcdefghij"), "networks": entries, **changes}
    return bundles.save_card(folder, content), made


def test_saved_networks_come_back_equal_to_half_precision(tmp_path):
    card, made = write(tmp_path)
    system = systems.load(tmp_path, CPU)
    assert system.card == card
    x = torch.rand(3, 3, 32, 32)
    for role in ("classifier", "mask_generator"):
        ours = system.network(role)(x)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, made[role](x), rtol=0.02, atol=0.02)
        assert not any(p.requires_grad for p in system.network(role).parameters())
    again = systems.load(tmp_path, CPU)
    assert torch.equal(again.network("classifier")(x), system.network("classifier")(x))


def test_full_precision_is_exact(tmp_path):
    _, made = write(tmp_path, half=False)
    loaded = systems.load(tmp_path, CPU).network("classifier").state_dict()
    for name, weight in made["classifier"].state_dict().items():
        assert torch.equal(loaded[name], weight), name


def test_a_missing_role_is_named(tmp_path):
    write(tmp_path)
    with pytest.raises(BundleError, match="second classifier"):
        systems.load(tmp_path, CPU).network(bundles.SECOND_CLASSIFIER)


def test_a_graded_detector_needs_its_threshold(tmp_path):
    write(tmp_path, thresholds={"graded": {"value": 2.5, "source": "measured"}})
    detector = systems.load(tmp_path, CPU).detector("graded")
    assert detector.threshold.value == 2.5
    write(tmp_path)
    with pytest.raises(BundleError, match="threshold"):
        systems.load(tmp_path, CPU).detector("graded")


def test_one_changed_byte_is_noticed(tmp_path):
    write(tmp_path)
    path = tmp_path / "mask_generator.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"mask_generator.safetensors is damaged"):
        systems.load(tmp_path, CPU)


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "classifier.safetensors").unlink()
    with pytest.raises(BundleError, match=r"classifier.safetensors"):
        systems.load(tmp_path, CPU)


def test_a_card_cannot_reach_outside_its_folder(tmp_path):
    inside, outside = tmp_path / "bundle", tmp_path / "outside.safetensors"
    card, _ = write(inside)
    (inside / "classifier.safetensors").rename(outside)
    card.content["networks"]["classifier"]["file"] = "../outside.safetensors"
    (inside / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="Cannot read"):
        systems.load(inside, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    card, _ = write(tmp_path)
    card.content["networks"]["classifier"]["network"] = "vgg-like"
    (tmp_path / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="vgg-like"):
        systems.load(tmp_path, CPU)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not valid JSON"), ('{"format": 99}', "format 99"), ("[]", "format None"), ('{"format": 1}', "classifier")],
)
def test_a_bad_card_is_explained(tmp_path, text, says):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(BundleError, match=says):
        bundles.read_card(tmp_path)


def test_an_unknown_name_lists_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path)
    write(tmp_path / "mine")
    assert bundles.find("tiny") == tmp_path / "mine"
    with pytest.raises(BundleError, match="tiny"):
        bundles.find("absent")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["networks"].update(classifier={}),
        lambda content: content["networks"].update(classifier="alexnet"),
        lambda content: content["networks"]["lenet-ish"].update(sha256=None),
        lambda content: content["networks"]["classifier"].update(arguments={"dropout": 5}),
        lambda content: content["networks"]["classifier"].update(arguments={"colour": "red"}),
    ],
)
def test_a_card_with_an_unusable_network_is_explained(tmp_path, spoil):
    card, _ = write(tmp_path)
    card.content["networks"]["lenet-ish"] = dict(card.content["networks"]["mask_classifier"])
    spoil(card.content)
    (tmp_path / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="card"):
        systems.load(tmp_path, CPU)


def test_a_card_nested_without_end_hides_no_other_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path)
    write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "card.json").write_text("[" * 100_000)
    assert bundles.find("tiny") == tmp_path / "good"


@pytest.mark.parametrize("threshold", [{}, {"value": "high", "source": "x"}, 3])
def test_an_unusable_threshold_is_explained(tmp_path, threshold):
    write(tmp_path, thresholds={"graded": threshold})
    with pytest.raises(BundleError, match="threshold"):
        systems.load(tmp_path, CPU).detector("graded")


def test_a_folder_here_does_not_step_in_for_a_known_name(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path / "user")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "user" / "known")
    for name in ("tiny", "own"):
        write(tmp_path / name)
    assert bundles.find("tiny") == tmp_path / "user" / "known"
    assert bundles.find("./tiny").resolve() == tmp_path / "tiny"
    assert bundles.find("own").resolve() == tmp_path / "own"
