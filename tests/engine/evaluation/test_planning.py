"""A plan's key names what decides the rows, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shlex

import pytest

from ciad_engine import bundles, cli
from ciad_engine.cli import evaluate
from ciad_engine.errors import RunError, SettingError
from ciad_engine.evaluation import planning
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
    assert planning.titled("fgsm eps = 2", lambda name: f"<{name}>") == "<fgsm>, eps = 2"
    assert [planning.titled(label) for label in (*most[1:], "cw", "jsma target = untargeted", "gone a = 1")] == [
        "FGSM, eps = 8",
        "FGSM, eps = 8, target = next",
        "C&W",
        "JSMA",
        "gone, a = 1",
    ]


def test_the_sweep_holds_the_papers_attacks_at_several_strengths_and_aimed() -> None:
    chosen = planning.preset("sweep")
    assert set(planning.preset("paper")) <= set(chosen)
    made = planning.make(tiny.system().card, tiny.data(), chosen, None, 0)
    assert [planning.titled(label, str) for label in made.labels] == [
        *(f"fgsm, eps = {eps}" for eps in (2, 4, 8, 16)),
        "fgsm, eps = 8, target = random",
        "jsma",
        "jsma, target = random",
        *(f"cw, confidence = {kappa}" for kappa in (0, 5, 10, 20)),
        "cw, confidence = 0, target = random",
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
    titles = [planning.titled(label, str) for label in planning.labels(several)]
    assert len(set(titles)) == len(several)
    assert titles[0] == "fgsm, eps = 2"


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
    card = dataclasses.replace(tiny.system().card, classes=("cat", "dog"))
    with pytest.raises(SettingError, match="among the 2 classes"):
        planning.make(card, tiny.data(), PLAN.attacks, None, 1)


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
        assert evaluate._choices(said) == plan.attacks
        assert (said.bundle, said.limit, said.seed, said.transferred) == ("my own", 7, 3, True)


def test_a_plan_no_command_can_say_has_none() -> None:
    twice = (planning.choose("fgsm", eps=3), planning.choose("fgsm", eps=5))
    assert planning.command(planning.make(tiny.system().card, tiny.data(), twice, 7, 3), "tiny") == ""
