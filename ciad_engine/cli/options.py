"""Flags that several commands share; those of the attacks are generated from their schema. Imports no torch."""

from __future__ import annotations

import argparse
import contextlib
import glob
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciad_engine import attacks, bundles, datasets, outputs, typed_numbers
from ciad_engine.attacks.parameters import Parameter, schema
from ciad_engine.attacks.words import GIVEN, TARGET, TARGET_CLASS
from ciad_engine.counting import listed
from ciad_engine.detectors import DISAGREEMENT, RULES, SHIPPED
from ciad_engine.errors import SettingError
from ciad_engine.evaluation.planning import HIGHEST_SEED
from ciad_engine.files import destination
from ciad_engine.plain_text import plain
from ciad_engine.typed_numbers import NotANumberError

if TYPE_CHECKING:
    from ciad_engine.attacks.base import Attack

_KNOWN = f"bundle paper has {', '.join(SHIPPED)}"
_TRUTH = dict.fromkeys(("yes", "true", "on", "1"), True) | dict.fromkeys(("no", "false", "off", "0"), False)
_METAVARS = {"choice": "CHOICE", "bool": "yes|no", "int": "N", "float": "X"}
_LONGEST_NAME = 255 - 6  # bytes that file systems take, without a number behind the stem
_PREFIX = "setting_"  # of the attributes that hold attack settings


class Parser(argparse.ArgumentParser):
    """argparse, but every word that begins like a negative number is a value: "-1e-3", "-inf", "-8/255".

    argparse knows "-1" and "-0.5" alone, takes the others for options and says that an argument is missing.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # Options begin with two hyphens or with one and a letter.
        self._negative_number_matcher = re.compile(r"-([^-a-z]|(inf|nan))", re.IGNORECASE | re.ASCII)


class WrongUse(Exception):  # noqa: N818 - a message for argparse, not an error of the engine
    """The command line makes no sense; the text says why. Exit code 2."""


def confirmed(question: str, yes: bool, otherwise: str) -> bool:
    """Return whether the person wants what the question says: asked on a terminal, or said by `--yes`.

    Raises:
        WrongUse: nobody can be asked; `otherwise` says what to do.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise WrongUse(otherwise)
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().casefold() in ("y", "yes"):
        return True
    print("Nothing was deleted.")
    return False


def add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        metavar="NAME",
        default=bundles.DEFAULT,
        help=f"trained system: a name or a folder (default: {bundles.DEFAULT})",
    )
    add_device(parser)


def add_images_of(parser: argparse.ArgumentParser, limit: int, more: str = "") -> None:
    """Add the options that choose images of a data set; `more` is said of their number."""
    parser.add_argument(
        "--data",
        default=datasets.SAMPLES,
        metavar="PATH",
        help="CIFAR-10 in any form, a folder with a folder of pictures for each class, or 'samples' (the default)",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help=f"number of images (default: {limit}, or all of fewer{more})"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="chooses the images (default: 0)")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="NAME",
        default="auto",
        help="auto, cpu, cuda or cuda:1 (default: auto, CUDA if there is any)",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detector", metavar="NAME", default="", help=f"detector that decides; {_KNOWN} (default: the bundle's first)"
    )
    parser.add_argument(
        "--rule",
        type=_rule,
        choices=RULES,
        default="",
        help="flag an image if detector and f1 disagree (disagreement, or paper), or if the detector's score is above a"
        " threshold (graded); default: the detector's usual rule",
    )


def add_evade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evade",
        action="append",
        type=_evaded,
        default=[],
        metavar="DETECTOR[:RULE]",
        help=f"the attacker knows this detector and has to evade it, too; {_KNOWN}; may be repeated",
    )


def add_surrogate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--surrogate",
        type=_evaded,
        metavar="DETECTOR[:RULE]",
        help="also PGD that follows this detector of the bundle in the place of those of --evade, as an attacker does"
        " who has trained his own one",
    )


def _rule(word: str) -> str:
    """argparse type: a detector's rule; "paper" is another name of the paper's."""
    return DISAGREEMENT if word == "paper" else word


def _evaded(text: str) -> str:
    """argparse type: DETECTOR[:RULE]."""
    name, colon, rule = text.partition(":")
    return f"{name}{colon}{_rule(rule)}"


def add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture file of any size; it is scaled to the bundle's"
    )


def add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        metavar="NAME",
        help="true class of the images, by name or number (default: the classifier's class of each)",
    )


def expand(patterns: Sequence[str]) -> list[str]:
    """Return the paths meant; patterns are expanded here because Windows' shells do not.

    As much of a pattern as exists as it is written is a path, whatever signs are in its name.
    """
    paths = []
    for written in patterns:
        path, rest = written, ""
        while path and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises if a folder may not be entered
            path, part = os.path.split(path)
            rest = os.path.join(part, rest) if rest else part  # noqa: PTH118 - `Path` would drop "./"
        found = sorted(glob.glob(os.path.join(glob.escape(path), rest))) if rest else []  # noqa: PTH118, PTH207
        paths += found or [written]
    return paths


def label_number(name: str | None, classes: Sequence[str]) -> int | None:
    """Return the number of the class that `--label` names, by name or number; None for None.

    Raises:
        WrongUse: there is no such class.
    """
    return None if name is None else _class_number("--label", name, classes)


def _class_number(flag: str, name: str, classes: Sequence[str]) -> int:
    folded, bare = [one.casefold() for one in classes], name.strip()
    for known, wanted in ((list(classes), name), (folded, name.casefold()), (folded, bare.casefold())):
        if wanted in known:
            return known.index(wanted)
    with contextlib.suppress(NotANumberError):
        if 0 <= (number := typed_numbers.whole(bare)) < len(classes):
            return number
    said = typed_numbers.shown(name)
    raise WrongUse(f"{flag}: '{said}' is none of {', '.join(classes)} (or 0 to {len(classes) - 1}).")


def check_folder(
    flag: str, folder: Path | None, inputs: Iterable[Path | str] = (), endings: Collection[str] = ()
) -> None:
    """Say before anything is computed that files cannot be written to `folder`, or it holds `inputs` of these endings.

    Raises:
        WrongUse: it is a file.
        OutputError: it cannot be made, no file can be made in it, or a file that is read may be replaced.
    """
    if folder is None:
        return
    if os.path.exists(folder) and not os.path.isdir(folder):  # noqa: PTH110, PTH112 - Path's raise without permission
        raise WrongUse(f"{flag}: {folder} is a file; name a folder.")
    outputs.check_folder(folder, inputs, endings)


def check_file(flag: str, path: Path | None, inputs: Iterable[Path | str]) -> None:
    """Say before anything is computed that a file cannot be written, or is one of the `inputs`.

    Raises:
        WrongUse: it is a folder.
        OutputError: it cannot be written, or is read.
    """
    if path is None:
        return
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises without permission
        raise WrongUse(f"{flag}: {path} is a folder; name a file.")
    outputs.check_file(path, inputs)


def check_apart(first_flag: str, first: Path | None, second_flag: str, second: Path | None) -> None:
    """Say before anything is computed that two files to be written, which `check_file` admits, are the same.

    Raises:
        WrongUse: they are.
    """
    if first is None or second is None or (os.path.exists(first) and not os.path.isfile(first)):  # noqa: PTH110, PTH113
        return  # a device or a pipe takes both
    keys = {_path_key(destination(path)) for path in (first, second)}
    if len(keys) == 1 or not outputs.identities([first]).isdisjoint(outputs.identities([second])):
        raise WrongUse(f"{first_flag} and {second_flag} name the same file, {plain(second)}: name two.")


def read_by(arguments: argparse.Namespace, card: bundles.Card) -> Iterator[Path]:
    """Yield the files read by a command that takes a data set: those, the bundles', and the database."""
    database: Path | None = getattr(arguments, "database", None)
    if database is not None:
        yield database
    evaluator: str | None = getattr(arguments, "evaluator", None)
    for folder in (card.folder, *([] if evaluator is None else [bundles.find(evaluator)])):
        with contextlib.suppress(OSError):
            yield from folder.iterdir()
    yield from datasets.files(arguments.data)


def free_paths(
    folder: Path, stem: str, endings: Sequence[str], taken: set[tuple[Path, str]], inputs: Collection[outputs.Identity]
) -> list[Path]:
    """Return a path in `folder` for each ending, with a number behind the stem if one is `taken`, and add them to it.

    `taken` are folders, resolved, and names in lower case, because some file systems do not tell cases apart. A path
    that leads to one of the `inputs` is taken, too. A stem that makes too long a name is cut.
    """
    room = _LONGEST_NAME - max(len(ending.encode()) for ending in endings)
    stem = stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
    stems = itertools.chain((stem,), (f"{stem}-{number}" for number in itertools.count(2)))
    tried = ([folder / f"{one}{ending}" for ending in endings] for one in stems)
    paths = next(
        paths
        for paths in tried
        if taken.isdisjoint(map(_path_key, paths)) and outputs.identities(paths).isdisjoint(inputs)
    )
    taken.update(map(_path_key, paths))
    return paths


def _path_key(path: Path) -> tuple[Path, str]:
    """Return what two paths of one file have in common: its folder and its name in lower case."""
    return path.parent.resolve(), path.name.casefold()


def _whole(low: int, high: float, words: str) -> Callable[[str], int]:
    """Return an argparse type: a whole number from `low` to `high`; `words` describe it."""

    def read(text: str) -> int:
        why = ""
        try:
            if low <= (number := typed_numbers.whole(text)) <= high:
                return number
        except NotANumberError as error:
            why = error.why
        raise argparse.ArgumentTypeError(f"'{typed_numbers.shown(text)}' is not a whole number {words}{why}")

    return read


positive = _whole(1, math.inf, "from 1")
seed = _whole(0, HIGHEST_SEED, f"from 0 to {HIGHEST_SEED}")


def add_attack_settings(parser: argparse.ArgumentParser) -> None:
    """One flag per parameter name of all attacks, and `--set ATTACK.NAME=VALUE`."""
    group = parser.add_argument_group("settings of the attacks")
    owners: dict[str, list[tuple[str, Parameter]]] = {}
    for attack, cls in attacks.usable().items():
        for parameter in schema(cls):
            owners.setdefault(parameter.name, []).append((attack, parameter))
    for name, declared in owners.items():
        meanings: dict[str, list[str]] = {}  # a setting that means the same to several attacks is explained once
        for attack, parameter in declared:
            meanings.setdefault(_help(parameter), []).append(attack)
        text = "; ".join(f"{', '.join(said_by)}: {meaning}" for meaning, said_by in meanings.items())
        # Where the command has a flag of that name already, `--set` still reaches the setting.
        with contextlib.suppress(argparse.ArgumentError):
            group.add_argument(
                _flag(name),
                dest=_PREFIX + name,
                default=argparse.SUPPRESS,
                metavar=_METAVARS[declared[0][1].kind],
                help=text.replace("%", "%%"),
            )
    group.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="ATTACK.NAME=VALUE",
        help="a setting of one attack, e.g. --set fgsm.eps=4; may be repeated",
    )


def attack_settings(
    arguments: argparse.Namespace, names: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return what the command line sets of the attacks `names`, by attack; ranges are not checked yet.

    `classes` are those of the bundle: a class to aim at is given by name or number.

    Raises:
        WrongUse: no such attack or class, a setting that none or several of them have, or no value of its kind.
    """
    for name in names:
        try:
            attacks.get(name)
        except SettingError as error:
            raise WrongUse(str(error)) from error
    known = {name: {p.name: p for p in schema(cls)} for name, cls in attacks.usable().items()}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in names}
    plain = {key.removeprefix(_PREFIX): text for key, text in vars(arguments).items() if key.startswith(_PREFIX)}
    for setting, text in plain.items():
        owners = [name for name in chosen if setting in known[name]]
        if len(owners) != 1:
            raise WrongUse(_not_one(setting, owners, known, tuple(chosen)))
        chosen[owners[0]][setting] = _value(known[owners[0]][setting], owners[0], text, classes)
    for assignment in arguments.assignments:
        name, setting, text = _split(assignment)
        if name not in chosen:
            among = f"not among {', '.join(chosen)}" if chosen else "not asked for"
            raise WrongUse(f"--set {assignment}: the attack '{name}' is {among}.")
        if setting not in known[name]:
            has = ", ".join(known[name]) or "none"
            raise WrongUse(f"--set {assignment}: {name} has no setting '{setting}'; it has {has}.")
        chosen[name][setting] = _value(known[name][setting], name, text, classes)
    for settings in chosen.values():
        if TARGET_CLASS in settings:
            settings.setdefault(TARGET, GIVEN)  # what else could be meant
    return chosen


def create_attack(arguments: argparse.Namespace, name: str | None, classes: Sequence[str]) -> Attack | None:
    """Make the attack `name` with the settings of the command line; None for None, which admits no settings.

    Raises:
        WrongUse: as `attack_settings`, or a value is out of its range.
    """
    settings = attack_settings(arguments, [] if name is None else [name], classes)
    try:
        return None if name is None else attacks.create(name, **settings[name])
    except SettingError as error:
        raise WrongUse(str(error)) from error


def _split(assignment: str) -> tuple[str, str, str]:
    target, equals, text = assignment.partition("=")
    name, dot, setting = target.partition(".")
    if not (equals and dot and name and setting and text):
        raise WrongUse(f"--set {assignment}: write it as ATTACK.NAME=VALUE, for instance fgsm.eps=4.")
    return name.strip(), setting.strip().replace("-", "_"), text  # a class may begin or end with a space


def _not_one(
    setting: str, owners: Sequence[str], known: Mapping[str, Mapping[str, Parameter]], chosen: Sequence[str]
) -> str:
    flag = _flag(setting)
    if owners:
        return f"{flag} is a setting of {listed(owners)}; choose one: --set {owners[0]}.{setting}=..."
    elsewhere = [name for name, settings in known.items() if setting in settings]
    return f"{flag} is a setting of {listed(elsewhere)}, not of {listed(chosen) if chosen else 'a plain inspection'}."


def _value(parameter: Parameter, attack: str, text: str, classes: Sequence[str]) -> float | int | str | bool:
    """Return the text as the parameter's kind; its range is checked when the attack is made."""
    if parameter.name == TARGET_CLASS:
        return _class_number(f"{attack}: {TARGET_CLASS}", text, classes)
    text = text.strip()
    if parameter.kind == "choice":
        return text
    if parameter.kind == "bool":
        if text.casefold() not in _TRUTH:
            raise WrongUse(f"{attack}: {parameter.name} = '{text}' is neither yes nor no.")
        return _TRUTH[text.casefold()]
    try:
        return parameter.read(text)
    except NotANumberError as error:
        said = f"'{typed_numbers.shown(text)}' is not {parameter.wanted}{error.why}"
        raise WrongUse(f"{attack}: {parameter.name} = {said}.") from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(p: Parameter) -> str:
    """The parameter's own sentence, its range with unit and its default."""
    default = {True: "yes", False: "no"}[p.default] if p.kind == "bool" else p.default
    if p.kind in ("int", "float"):
        default = f"{p.default:g}" if p.kind == "float" else str(p.default)
    choices = f" one of {', '.join(p.choices)}" if p.choices else _range(p)
    return f"{p.help.rstrip('.')}{',' if choices else ''}{choices} (default: {default})"


def _range(p: Parameter) -> str:
    return f" {p.range}" if p.kind in ("int", "float") and p.range else ""
