"""Bundles: what is saved is what is loaded, and damage is named."""

import copy
import dataclasses
import gzip
import json
from pathlib import Path

import pytest
import torch

from ciad_engine import bundles, systems
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import BundleError, SettingError
from tests import untrained

CPU = torch.device("cpu")


FIXTURE = Path(__file__).parents[1] / "fixtures" / "card_format_1.json.gz"


def test_saved_networks_come_back_equal_to_half_precision(tmp_path):
    card, made = untrained.write(tmp_path)
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
    _, made = untrained.write(tmp_path, half=False)
    loaded = systems.load(tmp_path, CPU).network("classifier").state_dict()
    for name, weight in made["classifier"].state_dict().items():
        assert torch.equal(loaded[name], weight), name


def test_a_missing_role_is_named(tmp_path):
    untrained.write(tmp_path)
    with pytest.raises(BundleError, match="second classifier"):
        systems.load(tmp_path, CPU).network(bundles.SECOND_CLASSIFIER)


def test_a_graded_rule_needs_its_threshold(tmp_path):
    untrained.write(tmp_path, thresholds={0.05: Threshold(2.5, "measured")})
    verdict = systems.load(tmp_path, CPU).inspect(untrained.noise(2))
    assert verdict.by("mask", "graded").threshold == Threshold(2.5, "measured")
    untrained.write(tmp_path)
    with pytest.raises(SettingError, match="no threshold"):
        systems.load(tmp_path, CPU).inspect(untrained.noise(2)).by("mask", "graded")


def test_one_changed_byte_is_noticed(tmp_path):
    untrained.write(tmp_path)
    path = tmp_path / "mask_generator.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"mask_generator.safetensors is damaged"):
        systems.load(tmp_path, CPU)


def test_a_missing_file_is_named(tmp_path):
    untrained.write(tmp_path)
    (tmp_path / "classifier.safetensors").unlink()
    with pytest.raises(BundleError, match=r"classifier.safetensors"):
        systems.load(tmp_path, CPU)


def test_a_card_cannot_reach_outside_its_folder(tmp_path):
    inside, outside = tmp_path / "bundle", tmp_path / "outside.safetensors"
    card, _ = untrained.write(inside)
    (inside / "classifier.safetensors").rename(outside)
    card.content["networks"]["classifier"]["file"] = "../outside.safetensors"
    (inside / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="Cannot read"):
        systems.load(inside, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    card, _ = untrained.write(tmp_path)
    card.content["networks"]["classifier"]["network"] = "vgg-like"
    (tmp_path / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="vgg-like"):
        systems.load(tmp_path, CPU)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ('{"format": 99}', "format 99"),
        ("[]", "not a JSON object"),
        ('{"format": 1}', "classifier"),
    ],
)
def test_a_bad_card_is_explained(tmp_path, text, says):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(BundleError, match=says):
        bundles.read_card(tmp_path)


def test_an_unknown_name_lists_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path)
    untrained.write(tmp_path / "mine")
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
    card, _ = untrained.write(tmp_path)
    card.content["networks"]["lenet-ish"] = dict(card.content["networks"]["mask_classifier"])
    spoil(card.content)
    (tmp_path / "card.json").write_text(json.dumps(card.content))
    with pytest.raises(BundleError, match="card"):
        systems.load(tmp_path, CPU)


def test_a_card_nested_without_end_hides_no_other_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path)
    untrained.write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "card.json").write_text("[" * 100_000)
    assert bundles.find("tiny") == tmp_path / "good"


@pytest.mark.parametrize("threshold", [{}, {"value": "high", "source": "x"}, 3])
@pytest.mark.parametrize("form", [1, 2])
def test_an_unusable_threshold_is_explained(tmp_path, threshold, form):
    card, _ = untrained.write(tmp_path)
    if form == 1:
        content = {**old_card(), "thresholds": {"graded": threshold}}
    else:
        content = card.content
        content["detectors"][0]["thresholds"] = {"0.05": threshold}
    with pytest.raises(BundleError, match=r"card\.json is unusable \(.+\); restore or retrain it"):
        bundles.card_of(tmp_path, content)


def test_a_folder_here_does_not_step_in_for_a_known_name(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path / "user")
    monkeypatch.chdir(tmp_path)
    untrained.write(tmp_path / "user" / "known")
    for name in ("tiny", "own"):
        untrained.write(tmp_path / name)
    assert bundles.find("tiny") == tmp_path / "user" / "known"
    assert bundles.find("./tiny").resolve() == tmp_path / "tiny"
    assert bundles.find("own").resolve() == tmp_path / "own"


# Identity, domain and detectors of a card.


def old_card():
    return json.loads(gzip.decompress(FIXTURE.read_bytes()))


def changed(card, **changes):
    """The card as it is read after these keys have changed; a value may be a function of the old one."""
    content = copy.deepcopy(card.content)
    for key, value in changes.items():
        content[key] = value(content.get(key)) if callable(value) else value
    return bundles.save_card(card.folder, content)


def test_a_card_comes_back_as_it_was_written(tmp_path):
    card, _ = untrained.write(tmp_path, thresholds={0.05: Threshold(2.5, "a"), 0.01: Threshold(4.0, "b")}, seed_of="x")
    assert json.loads((tmp_path / "card.json").read_text())["format"] == 2
    assert bundles.read_card(tmp_path) == card
    assert (card.name, card.domain, card.classes) == ("tiny", CIFAR10, CIFAR10.classes)
    assert [(entry.name, entry.kind) for entry in card.detectors] == [
        (name, name) for name in ("mask", "shuffled-mask", "constant-mask", "confidence")
    ]
    mask = card.detector("mask")
    assert mask.networks == {"generator": "mask_generator", "classifier": "mask_classifier"}
    assert mask.thresholds == {0.05: Threshold(2.5, "a"), 0.01: Threshold(4.0, "b")}
    assert (card.detector("constant-mask").thresholds, card.detector("magic")) == ({}, None)
    assert bundles.detectors_json(card.detectors) == card.content["detectors"]
    options = dataclasses.replace(mask, name="other", options={"draws": 8})
    again = changed(card, detectors=bundles.detectors_json([*card.detectors, options]))
    assert again.detectors == (*card.detectors, options)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"title": "other words"}, True),
        ({"name": "another"}, True),
        ({"measured": {"test images": {"n": 3, "f1": 0.5}}}, True),
        ({"detectors": lambda listed: [{**one, "thresholds": {}} for one in listed]}, True),
        ({"detectors": lambda listed: listed[:1]}, False),
        ({"detectors": lambda listed: [{**listed[0], "options": {"draws": 3}}, *listed[1:]]}, False),
        ({"earlier_checksums": ["ab" * 32]}, True),
        ({"networks": lambda networks: dict(reversed(networks.items()))}, True),
        ({"networks": lambda networks: _with(networks, "mask_classifier", sha256="ab" * 32)}, False),
        ({"networks": lambda networks: _with(networks, "classifier", network="vgg-like")}, False),
        ({"networks": lambda networks: _with(networks, "classifier", arguments={"classes": 3})}, False),
        ({"networks": lambda networks: {**networks, "control": networks["classifier"]}}, False),
        ({"domain": lambda domain: {**domain, "size": 48}}, False),
        ({"domain": lambda domain: {**domain, "classes": [*domain["classes"][:9], "lorry"]}}, False),
        ({"domain": lambda domain: {**domain, "classes": domain["classes"][::-1]}}, False),
        ({"seed": 4}, False),
    ],
)
def test_the_identity_is_of_networks_detectors_domain_and_seed(tmp_path, changes, same):
    card, _ = untrained.write(tmp_path, thresholds={0.05: Threshold(2.5, "a")})
    assert (changed(card, **changes).checksum == card.checksum) == same


def _with(networks, role, **changes):
    return {**networks, role: {**networks[role], **changes}}


def test_evaluations_are_no_part_of_the_card(tmp_path):
    card, _ = untrained.write(tmp_path)
    assert card.evaluations() == []
    for run, created in (("cd" * 32, "2024-05-02"), ("ab" * 32, "2024-05-03"), ("ef" * 32, "2024-05-01")):
        path = bundles.save_evaluation(card, {"run": run, "created": created, "tables": []})
        assert path == tmp_path / "evaluations" / f"{run[:12]}.json"
    assert bundles.read_card(tmp_path) == card
    assert [entry["run"][:2] for entry in card.evaluations()] == ["ef", "cd", "ab"]
    bundles.save_evaluation(card, {"run": "cd" * 32, "created": "2024-05-04", "tables": []})
    assert [entry["run"][:2] for entry in card.evaluations()] == ["ef", "ab", "cd"]


def test_a_card_knows_its_own_and_earlier_identities(tmp_path):
    card, _ = untrained.write(tmp_path)
    assert card.knows(card.checksum)
    assert not card.knows("ab" * 32)
    renewed = changed(card, earlier_checksums=["ab" * 32, "cd" * 32])
    assert [renewed.knows(one) for one in (card.checksum, "ab" * 32, "cd" * 32, "ef" * 32, "")] == [
        True, True, True, False, False,
    ]  # fmt: skip


SHIPPED = "f00ab8fb5957"  # the checksum that runs with the shipped card of format 1 have


def test_a_card_of_format_1_keeps_its_checksum(tmp_path):
    content = old_card()
    card = bundles.card_of(tmp_path, content)
    assert card.checksum.startswith(SHIPPED)
    assert (card.domain, card.earlier) == (CIFAR10, ())
    assert bundles.card_of(tmp_path, {**content, "evaluations": []}).checksum == card.checksum
    assert bundles.card_of(tmp_path, {**content, "title": "other"}).checksum != card.checksum
    assert card.evaluations() == content["evaluations"]


def test_a_run_recorded_with_a_card_of_format_1_is_added_or_replaces_that_of_the_card(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps(old_card()))
    card = bundles.read_card(tmp_path)
    first, *others = card.evaluations()
    new = {"run": "ab" * 32, "created": "2099-01-01", "tables": []}
    again = {**first, "tables": []}
    for entry in (new, again):
        bundles.save_evaluation(card, entry)
    assert card.evaluations() == [again, *others, new]


def test_a_card_of_format_1_has_the_papers_detectors(tmp_path):
    content = old_card()
    card = bundles.card_of(tmp_path, content)
    assert [(entry.name, entry.kind, dict(entry.networks)) for entry in card.detectors] == [
        ("mask", "mask", untrained.MASKS),
        ("mlp", "direct", {"classifier": "control"}),
        ("shuffled-mask", "shuffled-mask", untrained.MASKS),
        ("constant-mask", "constant-mask", untrained.MASKS),
        ("confidence", "confidence", {}),
    ]
    for name, saved in (("mask", content["thresholds"]), *content["thresholds of controls"].items()):
        found = card.detector(name).thresholds
        assert {rate: dataclasses.asdict(threshold) for rate, threshold in found.items()} == {
            0.05: saved["graded"],
            0.01: saved["graded, 1 %"],
        }
    assert card.detector("constant-mask").thresholds == {}
    del content["networks"]["control"]
    assert bundles.card_of(tmp_path, content).detector("mlp") is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c.pop("domain"), "unusable"),
        (lambda c: c["domain"].update(size="32"), "its size is not a whole number"),
        (lambda c: c["domain"].update(size=4096), "size"),
        (lambda c: c["domain"].update(classes=["one"]), "two or more"),
        (lambda c: c["domain"].update(classes="ab"), "not a list of names"),
        (lambda c: c.pop("detectors"), "detectors"),
        (lambda c: c["detectors"].append(dict(c["detectors"][0])), "two detectors of the same name"),
        (lambda c: c["detectors"][0]["networks"].update(generator="magic"), "needs the network 'magic'"),
        (lambda c: c["detectors"][0].pop("kind"), "kind"),
        (lambda c: c.update(detectors=3), "unusable"),
        (lambda c: c.update(detectors=[]), "lists no detector"),
        (lambda c: c.pop("name"), "no name"),
    ],
)
def test_an_incomplete_card_is_explained(tmp_path, spoil, says):
    card, _ = untrained.write(tmp_path)
    spoil(card.content)
    with pytest.raises(BundleError, match=rf"card\.json.*{says}"):
        bundles.save_card(tmp_path, card.content)


def test_a_detector_of_an_unknown_kind_is_explained(tmp_path):
    card, _ = untrained.write(tmp_path)
    magic = changed(card, detectors=lambda listed: [*listed, {"name": "x", "kind": "magic", "networks": {}}])
    with pytest.raises(BundleError, match=r"The card of bundle 'tiny' in .* is unusable: detector: 'magic' is none of"):
        systems.load(magic.folder, CPU)


def test_a_card_is_for_the_size_its_domain_has(tmp_path):
    card, _ = untrained.write(tmp_path)
    assert changed(card, domain={"classes": ["a", "b"], "size": 48}).domain == Domain(("a", "b"), 48)


def test_what_a_combined_detector_is_made_of_decides_what_is_evaded(tmp_path) -> None:
    """Images made against one second opinion must not pass for images made against another."""
    threshold = {0.05: Threshold(1.0, "")}

    def digest(sha256: str, **options: object) -> str:
        networks = {
            role: {"network": "mlp", "arguments": {}, "file": f"{role}.safetensors", "sha256": found}
            for role, found in (("classifier", "0" * 64), ("whole", sha256))
        }
        listed = (
            bundles.DetectorEntry("combined", "combined", {}, threshold, {"of": ["whole"], **options}),
            bundles.DetectorEntry("whole", "direct", {"classifier": "whole"}, {}),
        )
        content = {
            "name": "x",
            "domain": {"classes": ["a", "b"], "size": 32},
            "networks": networks,
            "detectors": bundles.detectors_json(listed),
        }
        return bundles.evaded(bundles.card_of(tmp_path, content), "combined:graded").networks

    assert digest("1" * 64) == digest("1" * 64)
    assert len({digest("1" * 64), digest("2" * 64), digest("1" * 64, fit={"whole": [0.0, 1.0]})}) == 3
