"""What an evaluation is to compute: a small frozen plan whose hash names the run.

Thresholds are not part of it: the rows hold scores, the tables apply thresholds to them. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ciad_engine import attacks as registry
from ciad_engine import bundles
from ciad_engine.attacks import parameters
from ciad_engine.attacks.words import NORMS, ONLY_WITH, TARGET, TARGET_CLASS, UNTARGETED
from ciad_engine.detectors import RULES
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import DAMAGE, RunError, SettingError
from ciad_engine.plain_text import plain_data

if TYPE_CHECKING:
    from ciad_engine.datasets import ImageSet
    from ciad_engine.runs import Run

SCHEMA = 5  # raise it when the engine computes other rows from the same plan
HIGHEST_SEED = 2**32 - 1

BUDGETS = (2.0, 3.0, 4.0, 8.0, 16.0)  # of the attacker who knows, in grey levels

# The paper leaves all of these open. JSMA's and C&W's are their sources' values; FGSM's budget is a usual one.
PRESETS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "paper": (
        ("fgsm", {"eps": 8.0}),
        ("jsma", {"theta": 1.0, "gamma": 0.1}),
        ("cw", {"confidence": 0.0, "iterations": 1000, "search_steps": 9}),
    ),
    # The paper does not say FGSM's budget, C&W's confidence or where the attacks aim: each is varied, to see how much
    # its figures depend on it. A random class is what CleverHans's JSMA, usual in 2017, takes where none is given.
    "sweep": (
        *(("fgsm", {"eps": eps}) for eps in (2.0, 4.0, 8.0, 16.0)),
        ("fgsm", {"eps": 8.0, "target": "random"}),
        *(("jsma", {"theta": 1.0, "gamma": 0.1, "target": target}) for target in ("untargeted", "random")),
        *(("cw", {"confidence": kappa, "iterations": 1000, "search_steps": 9}) for kappa in (0.0, 5.0, 10.0, 20.0)),
        ("cw", {"confidence": 0.0, "iterations": 1000, "search_steps": 9, "target": "random"}),
    ),
    # Attacks of every kind that do not know the detectors: within a budget, up to the boundary and, C&W with a
    # confidence, beyond it.
    "detection": (
        *(("fgsm", {"eps": eps}) for eps in (4.0, 8.0)),
        ("bim", {"eps": 8.0}),
        ("pgd", {"eps": 8.0}),
        ("universal", {}),
        ("jsma", {"theta": 1.0, "gamma": 0.1}),
        ("deepfool", {}),
        ("ddn", {}),
        ("lbfgs", {}),
        *(("cw", {"confidence": kappa, "iterations": 1000, "search_steps": 9}) for kappa in (0.0, 5.0, 10.0, 20.0)),
    ),
    # The attacker who knows the detectors: `resources/docs/adaptive.md` has the reasons. Steps stop at success, so that
    # an image counts wherever on the way it evades.
    "adaptive": (
        *(("pgd", {"eps": b, "step": b / 4, "iterations": 10, "target": "best", "stop_early": True}) for b in BUDGETS),
        *(
            (
                "opgd",
                {"eps": b, "step": b / 8, "iterations": 40, "restarts": 2, "variant": variant, "stop_early": True},
            )
            for variant in ("orthogonal", "selective")
            for b in BUDGETS
        ),
        *(("square", {"eps": b, "queries": 300}) for b in BUDGETS),
        ("cw", {"iterations": 100, "search_steps": 5, "initial_c": 10.0}),
    ),
}
# What is added to "adaptive" for an attacker who follows a surrogate's gradients. To stop at the first image that the
# surrogate misses would be too early: the detector itself may still flag it.
TRANSFERRED = tuple(("pgd", {"eps": b, "step": b / 8, "iterations": 40}) for b in BUDGETS)


@dataclasses.dataclass(frozen=True)
class AttackChoice:
    """An attack by registry name with all its settings, sorted by name.

    Attributes:
        surrogate: a detector whose gradients the attack follows in the place of those that it has to evade: the
            attacker has trained his own one. None if it knows the detectors themselves.
    """

    name: str
    settings: tuple[tuple[str, Any], ...]
    surrogate: bundles.Evaded | None = None

    def parameters(self) -> dict[str, Any]:
        """The settings as `attacks.create(name, **parameters)` takes them."""
        return dict(self.settings)

    @property
    def version(self) -> int:
        """The version of the attack's algorithm; 1 if the attack is not installed."""
        try:
            return registry.get(self.name).version
        except SettingError:
            return 1

    def text(self, classes: Sequence[str] = ()) -> str:
        """E.g. "fgsm (eps = 8)"; without settings that have no effect beside the others."""
        idle = _without_effect(self.parameters())
        shown = [(name, _typed(name, value, classes)) for name, value in self.settings if name not in idle]
        shown += [(_SURROGATE, self.surrogate.text)] if self.surrogate else []
        inner = ", ".join(f"{name} = {value}" for name, value in shown)
        return f"{self.name} ({inner})" if inner else self.name


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to compute.

    Attributes:
        bundle: name of the trained system; `bundle_checksum`: of its card.
        data: how the data set is quoted; `data_checksum`: of its content.
        official: the data are the official CIFAR-10 files, checked.
        attacks: what is run, in this order; an attack can be there several times, with other settings each.
        limit: number of images; `seed`: chooses which.
        attacked: role of the network attacked: "classifier" is the direct setting,
            "second_classifier" the transferred one.
        attacked_network: SHA-256 of that network's weights; "" in plans made before it was noted.
        classes, size: the domain of bundle and data.
        evade: the detectors that the attacker knows and has to evade.
    """

    bundle: str
    bundle_checksum: str
    data: str
    data_checksum: str
    official: bool
    attacks: tuple[AttackChoice, ...]
    limit: int
    seed: int
    attacked: str = bundles.CLASSIFIER
    attacked_network: str = ""
    classes: tuple[str, ...] = CIFAR10.classes
    size: int = CIFAR10.size
    evade: tuple[bundles.Evaded, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What rows and tables call each of the attacks; see `labels`."""
        return labels(for_labels(self.attacks))

    def title(self, label: str) -> str:
        """Return the title of the attack with this label."""
        return title(label, self.classes)

    @property
    def transferred(self) -> bool:
        return self.attacked != bundles.CLASSIFIER

    @property
    def setting(self) -> str:
        """Return the setting with the detectors to evade, such as "direct, evading mask:graded"."""
        known = ", ".join(one.text for one in self.evade)
        return ("transferred" if self.transferred else "direct") + (f", evading {known}" if known else "")

    @property
    def domain(self) -> Domain:
        return Domain(self.classes, self.size)

    @property
    def rows(self) -> int:
        """How many rows a finished run has: the benign images, and each after each attack."""
        return self.limit * (1 + len(self.attacks))

    def key(self) -> str:
        """SHA-256 (64 hex digits) of everything that decides the rows.

        Names of bundle and data do not, and the bundle's checksum says its networks'.
        """
        content = to_json(self)
        for name in ("bundle", "data", "official", "attacked_network"):
            del content[name]
        for choice, attack in zip(self.attacks, content["attacks"], strict=True):
            if choice.version > 1:
                attack["version"] = choice.version
        canonical = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


_SURROGATE, _NONE = "surrogate", "none"
_LATER = ("classes", "size", "evade")  # fields that plans got later


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain data, without fields it got later that have their default: keys stay the same."""
    defaults = {f.name: f.default for f in dataclasses.fields(plan) if f.name in _LATER}
    content = dataclasses.asdict(plan)
    content["attacks"] = [
        {"name": c.name, "settings": c.parameters()}
        | ({_SURROGATE: dataclasses.asdict(c.surrogate)} if c.surrogate else {})
        for c in plan.attacks
    ]
    return {name: value for name, value in content.items() if name not in _LATER or value != defaults[name]}


def from_json(content: Mapping[str, Any]) -> Plan:
    """The plan that `to_json` made plain data of.

    Raises:
        RunError: it is not a plan.
    """
    try:
        content = plain_data(dict(content))
        fields = {f.name for f in dataclasses.fields(Plan)}
        if unknown := sorted(content.keys() - fields):
            raise ValueError(f"it has the unknown field '{unknown[0]}'")
        plain = {name: _of_kind(content[name], kind) for name, kind in _KINDS.items() if name in content}
        lists = {"classes": CIFAR10.classes, "evade": (), **{name: content[name] for name in content}}
        plan = Plan(
            **plain,
            attacks=tuple(map(_choice_from_json, lists["attacks"])),
            evade=tuple(map(_evaded_from_json, lists["evade"])),
            classes=tuple(_of_kind(one, str) for one in lists["classes"]),
        )
        if not plan.attacks or len(set(plan.labels)) < len(plan.attacks):
            raise ValueError("its attacks cannot be told apart, or there is none")
        if not 1 <= plan.limit <= _MOST_IMAGES or not 0 <= plan.seed <= HIGHEST_SEED or not plan.domain.classes:
            raise ValueError("its number of images or its seed is impossible")
        return plan
    except DAMAGE as error:
        raise RunError(
            f"This is not the plan of an evaluation ({error}); delete the run and start it again."
        ) from error


# What the simple fields of a plan hold.
_KINDS: dict[str, type] = {
    **dict.fromkeys(("bundle", "bundle_checksum", "data", "data_checksum", "attacked", "attacked_network"), str),
    **dict.fromkeys(("limit", "seed", "size"), int),
    "official": bool,
}
_MOST_IMAGES = 2**31


def _of_kind(value: Any, kind: type) -> Any:
    """Return a value of just this kind; raises TypeError if it is another."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} is not of type {kind.__name__}")
    return value


def _choice_from_json(content: Mapping[str, Any]) -> AttackChoice:
    surrogate, settings = content.get(_SURROGATE), content["settings"]
    chosen = tuple(sorted((_of_kind(key, str), value) for key, value in settings.items()))
    if any(type(value) not in (str, bool, int, float) or value != value for _, value in chosen):
        raise TypeError("a setting of an attack is neither a number nor a word")
    if TARGET_CLASS in settings and not (type(settings[TARGET_CLASS]) is int and settings[TARGET_CLASS] >= 0):
        raise ValueError(f"{TARGET_CLASS} is the number of no class")
    return AttackChoice(_of_kind(content["name"], str), chosen, _evaded_from_json(surrogate) if surrogate else None)


def _evaded_from_json(content: Mapping[str, Any]) -> bundles.Evaded:
    one = bundles.Evaded(**content)
    if one.rule not in RULES or type(one.threshold) not in (int, float) or one.threshold != one.threshold:
        raise ValueError("a detector to evade has no such rule, or no threshold")
    return dataclasses.replace(one, name=_of_kind(one.name, str), networks=_of_kind(one.networks, str))


def of_run(run: Run) -> Plan:
    """Return the plan of a run.

    Raises:
        RunError: the run is damaged, or of a version of the program whose plans this one cannot read; it is named.
    """
    if run.damage:
        raise RunError(f"Run {run.short} is damaged ({run.damage}); delete it: ciad runs delete {run.short}")
    try:
        return from_json(run.plan)
    except RunError as error:
        raise RunError(f"Run {run.short}: {error}") from error


def can_go_on(run: Run) -> bool:
    """Whether this version of the engine would compute the run's rows as the one that began it."""
    try:
        return of_run(run).key() == run.key
    except RunError:
        return False


def labels(attacks: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[str, ...]:
    """A label for each attack (registry name, settings) among these, by which they can be told apart.

    It is the name alone, or where the attack is there several times, the name and the settings in which these
    differ: "fgsm eps = 4".
    """
    varied = differing(attacks)
    found = []
    for name, settings in attacks:
        own = [f"{key} = {_figure(value)}" for key, value in settings.items() if (name, key) in varied]
        found.append(f"{name} {', '.join(own)}" if own else name)
    return tuple(found)


def for_labels(choices: Sequence[AttackChoice]) -> list[tuple[str, dict[str, Any]]]:
    """Return names and settings for `labels`; the surrogate is among these if an attack of that name has one."""
    having = {choice.name for choice in choices if choice.surrogate}

    def surrogate(choice: AttackChoice) -> dict[str, str]:
        text = choice.surrogate.text if choice.surrogate else _NONE
        return {_SURROGATE: text} if choice.name in having else {}

    return [(choice.name, choice.parameters() | surrogate(choice)) for choice in choices]


def differing(attacks: Iterable[tuple[str, Mapping[str, Any]]]) -> set[tuple[str, str]]:
    """Return attack and setting where the attacks of a name among these (name, settings) have several values."""
    values: dict[tuple[str, str], set[Any]] = {}
    for name, settings in attacks:
        for key, value in settings.items():
            values.setdefault((name, key), set()).add(value)
    return {which for which, found in values.items() if len(found) > 1}


def _figure(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)  # all digits anybody gives, and no ".0"


def _typed(setting: str, value: Any, classes: Sequence[str]) -> str:
    """Return a setting's value as it is typed: a class by its name, because "7" may be the name of another one."""
    return classes[int(value)] if setting == TARGET_CLASS and int(value) < len(classes) else _figure(value)


_UNTOLD = ("", f"{TARGET} = {UNTARGETED}", f"{_SURROGATE} = {_NONE}")


def attack_of(label: str) -> str:
    """The registry name of the attack with this label."""
    return label.partition(" ")[0]


def title(label: str, classes: Sequence[str] = ()) -> str:
    """Return the title of the attack with this label, with its norm and the label's settings: "FGSM (L∞), eps = 4".

    A class to aim at is one of `classes`; without them it has its number. "target = untargeted" and "surrogate = none"
    are left out: titles differ all the same, because the others of that attack name theirs.
    """
    name, _, own = label.partition(" ")
    norm = registry.norm(name)
    settings = [one.partition(" = ") for one in own.split(", ") if one not in _UNTOLD]
    called = [f"{setting}{equals}{_typed(setting, value, classes)}" for setting, equals, value in settings]
    return ", ".join((f"{registry.title(name)} ({NORMS[norm]})" if norm else registry.title(name), *called))


def told_apart(plans: Sequence[Plan]) -> list[tuple[AttackChoice, ...]]:
    """The attacks of each plan with those settings alone that are not the same in all of these plans."""
    varied = differing((attack.name, attack.parameters()) for plan in plans for attack in plan.attacks)

    def own(attack: AttackChoice) -> AttackChoice:
        return AttackChoice(attack.name, tuple(one for one in attack.settings if (attack.name, one[0]) in varied))

    return [tuple(map(own, plan.attacks)) for plan in plans]


def choose(name: str, **settings: Any) -> AttackChoice:
    """The attack `name` with the given settings and all others at their defaults.

    Raises:
        SettingError: no such attack or setting, or a value out of its range.
    """
    attack = registry.create(name, **settings)
    known = {p.name: p for p in parameters.schema(type(attack))}
    values = parameters.values(attack)
    # 8 and 8.0 are the same number, so they must be the same plan; nor may a setting make another without an effect.
    filled = {key: float(value) if known[key].kind == "float" else value for key, value in values.items()}
    for key in _without_effect(filled):
        filled[key] = known[key].default
    return AttackChoice(name, tuple(sorted(filled.items())))


def _without_effect(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of those among an attack's settings that have none, because its target is another."""
    target = settings.get(TARGET)
    return tuple(name for name, word in ONLY_WITH.items() if name in settings and target not in (None, word))


def preset(name: str) -> tuple[AttackChoice, ...]:
    """The attacks of a preset.

    "paper": FGSM eps 8/255, JSMA theta 1 gamma 0.1, C&W kappa 0, untargeted; "sweep": FGSM with four eps, JSMA,
    C&W with four kappa, and each of the three once aimed at a random class; "detection": attacks of every kind that do
    not know the detectors; "adaptive", which needs detectors to evade: PGD, orthogonal and selective PGD and Square
    with five eps, and C&W.

    Raises:
        SettingError: there is no such preset.
    """
    if name not in PRESETS:
        raise SettingError(f"preset: '{name}' is none of {', '.join(PRESETS)}.")
    return tuple(choose(attack, **settings) for attack, settings in PRESETS[name])


def transferred(surrogate: bundles.Evaded) -> tuple[AttackChoice, ...]:
    """Return the attacks of an attacker who has this detector in the place of those that it has to evade."""
    return tuple(
        dataclasses.replace(choose(attack, **settings), surrogate=surrogate) for attack, settings in TRANSFERRED
    )


def command(plan: Plan, bundle: str) -> str:
    """The command line that runs this plan with the `bundle` named so, but for where the data lie.

    "" where a command cannot say it: an attack several times that is not one of a preset.
    """
    parts = [f"ciad evaluate --bundle {shlex.quote(bundle)} --data PATH --limit {plan.limit} --seed {plan.seed}"]
    surrogates = list(dict.fromkeys(choice.surrogate for choice in plan.attacks if choice.surrogate))
    attacks = tuple(choice for choice in plan.attacks if not choice.surrogate)
    if plan.attacks != attacks + tuple(choice for one in surrogates for choice in transferred(one)):
        return ""
    names = list(dict.fromkeys(choice.name for choice in attacks))
    known = [
        (name, preset(name) == attacks)
        for name in PRESETS
        if tuple(choice for each in names for choice in preset(name) if choice.name == each) == attacks
    ]
    if known:
        name, whole = known[0]
        parts.append(f"--preset {name}" if whole else f"--preset {name} --attacks {','.join(names)}")
    elif len(names) < len(attacks):
        return ""
    else:
        usual = {name: choose(name).parameters() for name in names}
        base = {choice.name: choice.parameters() for choice in preset("paper")}
        parts.append(f"--attacks {','.join(names)}")
        parts += [
            f"--set {shlex.quote(f'{choice.name}.{key}={_typed(key, value, plan.classes)}')}"
            for choice in attacks
            for key, value in choice.settings
            if value != base.get(choice.name, usual[choice.name])[key]
        ]
    if plan.transferred:
        parts.append("--transferred")
    parts += [f"--evade {shlex.quote(one.text)}" for one in plan.evade]
    parts += [f"--surrogate {shlex.quote(one.text)}" for one in surrogates]
    return " ".join(parts)


def make(
    card: bundles.Card,
    data: ImageSet,
    attacks: Sequence[AttackChoice],
    limit: int | None,
    seed: int,
    attacked: str = bundles.CLASSIFIER,
    evade: Sequence[str] = (),
) -> Plan:
    """Return a plan that can be run on this bundle and these labelled images.

    Args:
        limit: number of images; None takes all.
        attacked: role of the attacked network.
        evade: detectors that the attacker knows, each "NAME" or "NAME:RULE".

    Raises:
        DataError: the data's classes or image size are not the bundle's; lists what is missing.
        SettingError: another argument does not fit; describes what would.
    """
    data = data.matched(card.domain)
    wanted = checked_limit(data, limit)
    if not 0 <= seed <= HIGHEST_SEED:
        raise SettingError(f"seed = {seed} is not a whole number from 0 to {HIGHEST_SEED}.")
    if not attacks:
        raise SettingError(f"attacks: none is chosen; choose at least one of {', '.join(registry.names())}.")
    twice = next((choice for k, choice in enumerate(attacks) if choice in attacks[:k]), None)
    if twice is not None:
        raise SettingError(
            f"attacks: {twice.text(card.classes)} is chosen twice; change one of the two or leave it out."
        )
    if len(set(labels(for_labels(attacks)))) < len(attacks):
        raise SettingError("attacks: two of them differ by less than can be told apart; change one or leave it out.")
    if not card.has(attacked):
        raise SettingError(f"attacked: bundle '{card.name}' has no {attacked.replace('_', ' ')}.")
    if evade and attacked != bundles.CLASSIFIER:
        raise SettingError(
            "evade: an attacker who knows the detectors attacks f1 itself; leave out the transferred setting."
        )
    if not evade and any(choice.surrogate for choice in attacks):
        raise SettingError("surrogate: it stands for a detector that the attacker has to evade; choose that, too.")
    for choice in attacks if evade else ():
        if not registry.get(choice.name).evades:
            raise SettingError(f"evade: {registry.title(choice.name)} cannot evade a detector; leave it out.")
    return Plan(
        bundle=card.name,
        bundle_checksum=card.checksum,
        data=data.source,
        data_checksum=data.checksum,
        official=data.official,
        attacks=tuple(attacks),
        limit=wanted,
        seed=seed,
        attacked=attacked,
        attacked_network=card.content["networks"][attacked].get("sha256", ""),
        classes=card.domain.classes,
        size=card.domain.size,
        evade=tuple(bundles.evaded(card, one) for one in evade),
    )


def checked_limit(data: ImageSet, limit: int | None) -> int:
    """Return how many images to take if at most `limit` are wanted; None takes all.

    Raises:
        SettingError: there are not as many, or none at all.
    """
    count = len(data.images)
    wanted = count if limit is None else limit
    if count == 0:
        raise SettingError(f"data: {data.source} holds no image; choose another data set.")
    if not 1 <= wanted <= count:
        raise SettingError(f"limit = {wanted} is not a number from 1 to {count}, the images of {data.source}.")
    return wanted
