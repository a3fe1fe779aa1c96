"""A plan's key names what decides the rows, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shlex

import pytest

from ciad_engine import bundles, cli
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.cli import evaluate
from ciad_engine.domain import Domain
from ciad_engine.errors import DataError, RunError, SettingError
from ciad_engine.evaluation import planning, records
from tests.engine.evaluation import tiny

PLAN = planning.Plan(
    bundle="paper",
    bundle_checksum="a" * 64,
    data="CIFAR-10 test set",
    data_checksum="b" * 64,
    official=True,
    attacks=(planning.AttackChoice("fgsm", (("eps", 8.0),)),),
    limit=100,
    seed=1,
)


def test_key_depends_on_what_decides_the_rows() -> None:
    changes = (
        {"bundle_checksum": "c" * 64},
        {"data_checksum": "c" * 64},
        {"attacks": ()},
        {"attacks": (planning.AttackChoice("fgsm", (("eps", 4.0),)),)},
        {"limit": 101},
        {"seed": 2},
        {"attacked": "second_classifier"},
    )
    keys = {dataclasses.replace(PLAN, **change).key() for change in changes}
    assert len(keys | {PLAN.key()}) == len(changes) + 1
    assert len(PLAN.key()) == 64


def test_key_ignores_names() -> None:
    renamed = dataclasses.replace(PLAN, bundle="mine", data="a copy", official=False)
    assert renamed.key() == PLAN.key()


def test_key_changes_with_the_engine_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PLAN.key()
    monkeypatch.setattr(planning, "SCHEMA", planning.SCHEMA + 1)
    assert PLAN.key() != before


def test_key_is_the_same_on_every_machine() -> None:
    assert PLAN.key() == "ffa44062a0fe30a3972e8cc403890ca64854169e020ff5c600b5d21ea3aef68e"


# As CIAD stored it before plans had a domain and detectors to evade, with the key that the run had.
OLD = """{"bundle": "paper", "bundle_checksum": "BUNDLE", "data": "CIFAR-10 test set", "data_checksum": "DATA",
"official": true, "attacks": [{"name": "fgsm", "settings": {"eps": 8.0}}], "limit": 100, "seed": 1,
"attacked": "classifier", "attacked_network": "WEIGHTS"}""".replace("BUNDLE", "a" * 64).replace("DATA", "b" * 64)


def test_an_old_plan_keeps_its_key() -> None:
    plan = planning.from_json(json.loads(OLD))
    assert plan.key() == "ffa44062a0fe30a3972e8cc403890ca64854169e020ff5c600b5d21ea3aef68e"
    assert planning.to_json(plan) == json.loads(OLD)  # fields it did not have are not added
    assert (plan.classes, plan.size, plan.evade) == (planning.CIFAR10.classes, 32, ())


EVADED = bundles.Evaded("mask", "disagreement", 0.5, "c" * 64)


def test_key_depends_on_the_domain_and_on_what_is_to_be_evaded() -> None:
    changes = (
        {"classes": (*PLAN.classes[:9], "lorry")},
        {"size": 48},
        {"evade": (EVADED,)},
        *(
            {"evade": (dataclasses.replace(EVADED, **change),)}
            for change in ({"name": "mlp"}, {"rule": "graded"}, {"threshold": 0.6}, {"networks": "d" * 64})
        ),
    )
    keys = {dataclasses.replace(PLAN, **change).key() for change in changes}
    assert len(keys | {PLAN.key()}) == len(changes) + 1
    for change in changes:
        plan = dataclasses.replace(PLAN, **change)
        again = planning.from_json(json.loads(json.dumps(planning.to_json(plan))))
        assert (again, again.key()) == (plan, plan.key())


def test_only_a_changed_algorithm_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(PLAN, attacks=(planning.AttackChoice("cw", ()),))
    keys = PLAN.key(), other.key()
    monkeypatch.setattr(FGSM, "version", 2)
    assert PLAN.key() != keys[0]
    assert other.key() == keys[1]


def test_plain_data_and_back() -> None:
    text = json.dumps(planning.to_json(PLAN))
    again = planning.from_json(json.loads(text))
    assert again == PLAN
    assert again.key() == PLAN.key()


@pytest.mark.parametrize("content", [{}, {"attacks": 3}, {"attacks": [{}]}, {"attacks": [], "colour": "red"}])
def test_what_is_no_plan_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(RunError, match="not the plan"):
        planning.from_json(content)


def test_choose_fills_in_defaults_and_evens_numbers() -> None:
    assert planning.choose("fgsm") == planning.choose("fgsm", eps=8) == planning.choose("fgsm", eps=8.0)
    assert planning.choose("fgsm", eps=4).parameters()["eps"] == 4.0
    assert set(planning.choose("jsma").parameters()) >= {"theta", "gamma"}
    with pytest.raises(SettingError, match="eps"):
        planning.choose("fgsm", eps=-1)


def test_an_attack_that_is_there_several_times_is_told_apart_by_what_differs() -> None:
    weak, strong, aimed = (
        planning.AttackChoice("fgsm", (("eps", eps), ("target", target)))
        for eps, target in ((2.0, "untargeted"), (8.0, "untargeted"), (8.0, "next"))
    )
    other = planning.AttackChoice("cw", (("confidence", 5.0),))
    several = dataclasses.replace(PLAN, attacks=(weak, other, strong))
    assert several.labels == ("fgsm eps = 2", "cw", "fgsm eps = 8")
    assert dataclasses.replace(PLAN, attacks=(strong,)).labels == ("fgsm",)
    most = dataclasses.replace(PLAN, attacks=(weak, strong, aimed)).labels
    assert most == tuple(
        f"fgsm eps = {eps}, target = {to}" for eps, to in ((2, "untargeted"), (8, "untargeted"), (8, "next"))
    )
    assert [planning.attack_of(label) for label in (*most, "cw")] == ["fgsm"] * 3 + ["cw"]
    assert [planning.title(label) for label in (*most[1:], "cw", "jsma target = untargeted", "gone a = 1")] == [
        "FGSM (L∞), eps = 8",
        "FGSM (L∞), eps = 8, target = next",
        "C&W (L2)",
        "JSMA (L0)",
        "gone, a = 1",
    ]


def test_titles_and_texts_call_a_target_class_by_its_name() -> None:
    aimed = [planning.choose("fgsm", target="given", target_class=k) for k in (0, 1)]
    plan = dataclasses.replace(PLAN, attacks=tuple(aimed), classes=("beech", "white oak"))
    assert plan.labels[1] == "fgsm target_class = 1"  # the key of rows, whatever the classes are called
    assert plan.title(plan.labels[1]) == "FGSM (L∞), target_class = white oak"
    assert records.subject(plan, plan.labels[1]).title == plan.title(plan.labels[1])
    assert "target_class = white oak" in aimed[1].text(plan.classes)
    assert planning.title(plan.labels[1]) == "FGSM (L∞), target_class = 1"
    assert "target_class = 1" in aimed[1].text()


def test_the_sweep_holds_the_papers_attacks_at_several_strengths_and_aimed() -> None:
    chosen = planning.preset("sweep")
    assert set(planning.preset("paper")) <= set(chosen)
    made = planning.make(tiny.system().card, tiny.data(), chosen, None, 0)
    assert [planning.title(label) for label in made.labels] == [
        *(f"FGSM (L∞), eps = {eps}" for eps in (2, 4, 8, 16)),
        "FGSM (L∞), eps = 8, target = random",
        "JSMA (L0)",
        "JSMA (L0), target = random",
        *(f"C&W (L2), confidence = {kappa}" for kappa in (0, 5, 10, 20)),
        "C&W (L2), confidence = 0, target = random",
    ]


def test_the_papers_preset() -> None:
    chosen = {choice.name: choice.parameters() for choice in planning.preset("paper")}
    assert list(chosen) == ["fgsm", "jsma", "cw"]
    assert (chosen["fgsm"]["eps"], chosen["jsma"]["theta"], chosen["jsma"]["gamma"]) == (8.0, 1.0, 0.1)
    assert chosen["cw"]["confidence"] == 0.0
    with pytest.raises(SettingError, match="none of paper"):
        planning.preset("papers")


def test_settings_without_effect_make_no_other_plan() -> None:
    assert planning.choose("fgsm", target_class=3, target_seed=4) == planning.choose("fgsm")
    aimed = planning.choose("fgsm", target="given", target_class=3, target_seed=4)
    assert (aimed.parameters()["target_class"], aimed.parameters()["target_seed"]) == (3, 0)
    drawn = planning.choose("fgsm", target="random", target_class=3, target_seed=4)
    assert (drawn.parameters()["target_class"], drawn.parameters()["target_seed"]) == (0, 4)


def test_the_text_leaves_out_settings_without_effect() -> None:
    aims = [{}, {"target": "next"}, {"target": "given", "target_class": 3}, {"target": "random", "target_seed": 4}]
    assert [planning.choose("fgsm", **aim).text() for aim in aims] == [
        "fgsm (eps = 8, target = untargeted)",
        "fgsm (eps = 8, target = next)",
        "fgsm (eps = 8, target = given, target_class = 3)",
        "fgsm (eps = 8, target = random, target_seed = 4)",
    ]
    alone = planning.AttackChoice("mine", (("target_class", 3),))  # where nothing else can be aimed, it counts
    assert alone.text() == "mine (target_class = 3)"


def test_titles_stay_apart() -> None:
    words = ("untargeted", "next", "random", "best")
    several = [("fgsm", planning.choose("fgsm", eps=eps, target=word).parameters()) for eps in (2, 4) for word in words]
    titles = [planning.title(label) for label in planning.labels(several)]
    assert len(set(titles)) == len(several)
    assert titles[0] == "FGSM (L∞), eps = 2"


def test_make_quotes_bundle_and_data() -> None:
    system, data = tiny.system(), tiny.data(official=True)
    plan = planning.make(system.card, data, (planning.choose("fgsm"),), None, 5)
    assert (plan.bundle, plan.bundle_checksum) == ("tiny", system.card.checksum)
    assert (plan.data, plan.data_checksum, plan.official) == ("synthetic images", data.checksum, True)
    assert (plan.limit, plan.seed, plan.transferred) == (40, 5, False)
    assert planning.make(system.card, data, PLAN.attacks, 3, 5, "second_classifier").transferred


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 0}, "limit = 0 .* 1 to 40"),
        ({"limit": 41}, "limit = 41 .* 1 to 40"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**32}, "seed"),
        ({"attacks": ()}, "at least one of fgsm"),
        ({"attacks": (planning.AttackChoice("fgsm", ()),) * 2}, "fgsm is chosen twice; change one of the two"),
        (
            {"attacks": tuple(planning.choose("fgsm", eps=eps) for eps in (8.0, 8.0000000000001))},
            "than can be told apart",
        ),
        ({"attacked": "third_classifier"}, "no third classifier"),
        ({"data": tiny.data(0)}, "no image"),
    ],
)
def test_make_refuses_what_cannot_be_run(change: dict[str, object], message: str) -> None:
    usual = {"card": tiny.system().card, "data": tiny.data(), "attacks": PLAN.attacks, "limit": None, "seed": 1}
    arguments = {**usual, **change}
    with pytest.raises(SettingError, match=message):
        planning.make(**arguments)


def test_make_refuses_labels_the_bundle_does_not_know() -> None:
    card = dataclasses.replace(tiny.system().card, domain=Domain(("cat", "dog"), 32))
    with pytest.raises(DataError, match="airplane"):
        planning.make(card, tiny.data(), PLAN.attacks, None, 1)


def test_labels_and_classes_are_the_bundles() -> None:
    """Labels are numbers: a plan quotes the data as they are once they are matched with the bundle by class name."""
    data, card = tiny.data(), tiny.system().card
    turned = dataclasses.replace(card, domain=Domain(tuple(reversed(card.classes)), 32))
    plan, other = (planning.make(each, data, PLAN.attacks, None, 1) for each in (card, turned))
    assert plan.data_checksum == data.checksum
    assert (other.data_checksum, other.classes) == (data.matched(turned.domain).checksum, turned.classes)
    assert other.data_checksum != plan.data_checksum
    with pytest.raises(DataError, match="48"):
        planning.make(dataclasses.replace(card, domain=Domain(card.classes, 48)), data, PLAN.attacks, None, 1)


def test_a_plan_quotes_the_detectors_it_evades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FGSM, "evades", True)
    card = tiny.system(threshold=1.5).card
    plan = planning.make(card, tiny.data(), PLAN.attacks, None, 1, evade=("mask", "mlp:graded", "confidence"))
    assert [(one.name, one.rule, one.threshold) for one in plan.evade] == [
        ("mask", "disagreement", 0.5),
        ("mlp", "graded", 1.5),
        ("confidence", "graded", 1.5),
    ]
    assert planning.command(plan, "tiny").endswith(
        " --evade mask:disagreement --evade mlp:graded --evade confidence:graded"
    )
    named = dataclasses.replace(plan, evade=(dataclasses.replace(plan.evade[0], name="of mine; $HOME"),))
    assert shlex.split(planning.command(named, "tiny"))[-2:] == ["--evade", "of mine; $HOME:disagreement"]
    networks = {one.name: one.networks for one in plan.evade}
    assert len(set(networks.values())) == 3
    content = {"networks": {**card.content["networks"], bundles.MASK_CLASSIFIER: {"sha256": "other weights"}}}
    other = dataclasses.replace(card, content=content)
    assert bundles.evaded(other, "mask").networks != networks["mask"]
    assert bundles.evaded(other, "mlp:graded").networks == networks["mlp"]


@pytest.mark.parametrize(
    ("evade", "attacked", "message"),
    [
        ("squeeze", "classifier", "evade: bundle 'tiny' has no detector 'squeeze'; it has mask, mlp, shuffled-mask"),
        ("mask:best", "classifier", "evade: 'best' is none of disagreement, graded"),
        ("constant-mask:graded", "classifier", "'constant-mask' gives every image the same class"),
        ("confidence:disagreement", "classifier", "evade: the detector 'f1's confidence' cannot decide by the rule"),
        ("mask", "second_classifier", "evade: an attacker who knows the detectors attacks f1 itself"),
    ],
)
def test_make_refuses_detectors_that_cannot_be_evaded(
    evade: str, attacked: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FGSM, "evades", True)
    with pytest.raises(SettingError, match=message):
        planning.make(tiny.system().card, tiny.data(), PLAN.attacks, None, 1, attacked, (evade,))


def test_make_refuses_attacks_that_cannot_evade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FGSM, "evades", False)
    with pytest.raises(SettingError, match="evade: FGSM cannot evade a detector; leave it out"):
        planning.make(tiny.system().card, tiny.data(), PLAN.attacks, None, 1, evade=("mask",))


def test_plans_are_told_apart_by_what_differs() -> None:
    def of(*chosen: planning.AttackChoice) -> planning.Plan:
        return dataclasses.replace(PLAN, attacks=chosen)

    weak = planning.AttackChoice("fgsm", (("eps", 2.0), ("target", "untargeted")))
    strong = planning.AttackChoice("fgsm", (("eps", 8.0), ("target", "untargeted")))
    other = planning.AttackChoice("cw", (("confidence", 0.0),))
    texts = [[one.text() for one in chosen] for chosen in planning.told_apart([of(weak), of(strong, other), of(weak)])]
    assert texts == [["fgsm (eps = 2)"], ["fgsm (eps = 8)", "cw"], ["fgsm (eps = 2)"]]
    assert planning.told_apart([of(strong)]) == [(planning.AttackChoice("fgsm", ()),)]


def test_the_command_of_a_plan_runs_that_plan() -> None:
    card, data = tiny.system().card, tiny.data()
    own = (planning.choose("fgsm", eps=3, target_class=5), planning.choose("pgd", iterations=4, target="next"))
    aimed = (
        planning.choose("cw", target="given", target_class=5),
        planning.choose("jsma", target="random", target_seed=8),
    )
    some = tuple(choice for choice in planning.preset("sweep") if choice.name == "fgsm")
    for chosen in (planning.preset("paper"), planning.preset("sweep"), some, own, aimed):
        plan = planning.make(card, data, chosen, 7, 3, bundles.SECOND_CLASSIFIER)
        program, *words = shlex.split(planning.command(plan, "my own"))
        assert program == "ciad"
        said = cli._parser(words).parse_args(words)
        assert evaluate._choices(said, card.classes) == plan.attacks
        assert (said.bundle, said.limit, said.seed, said.transferred) == ("my own", 7, 3, True)


@pytest.mark.parametrize("named", ["7", "a stop sign", "Bear"])
def test_the_command_of_a_plan_aims_at_a_class_by_name(named: str) -> None:
    classes = ("bear", "8", "9", "10", "11", "12", "13", "14", "15", named)  # class 9 is not the one called "9"
    aimed = planning.choose("fgsm", target="given", target_class=9)
    plan = dataclasses.replace(PLAN, classes=classes, attacks=(aimed,))
    _, *words = shlex.split(planning.command(plan, "tiny"))
    assert evaluate._choices(cli._parser(words).parse_args(words), classes) == (aimed,)


def test_a_plan_no_command_can_say_has_none() -> None:
    twice = (planning.choose("fgsm", eps=3), planning.choose("fgsm", eps=5))
    assert planning.command(planning.make(tiny.system().card, tiny.data(), twice, 7, 3), "tiny") == ""
