"""The attacks by name. Adding one is one file and one line here.

Another package adds its own through the entry point group "ciad.attacks", in its pyproject.toml:

    [project.entry-points."ciad.attacks"]
    push = "my_package.push:Push"

where `Push` is an `Attack` (`base.py`) with `name = "push"`. Importing this package imports no torch;
an attack's module is imported when it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
from typing import TYPE_CHECKING

from ciad_engine.errors import SettingError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ciad_engine.attacks.base import Attack

_REGISTRY = {
    "fgsm": "ciad_engine.attacks.fgsm:FGSM",
    "bim": "ciad_engine.attacks.projected_gradient:BIM",
    "pgd": "ciad_engine.attacks.projected_gradient:PGD",
    "jsma": "ciad_engine.attacks.jsma:JSMA",
    "cw": "ciad_engine.attacks.carlini_wagner:CarliniWagnerL2",
    "lbfgs": "ciad_engine.attacks.lbfgs:LBFGS",
    "deepfool": "ciad_engine.attacks.deepfool:DeepFool",
    "ddn": "ciad_engine.attacks.ddn:DDN",
    "universal": "ciad_engine.attacks.universal:Universal",
}


_log = logging.getLogger(__name__)
GROUP = "ciad.attacks"  # of entry points: attacks of other installed packages, by name


def own() -> tuple[str, ...]:
    """The names of the attacks that come with CIAD, in the order they are shown."""
    return tuple(_REGISTRY)


def names() -> tuple[str, ...]:
    """The names of all attacks, in the order they are shown: our own, then those of other packages."""
    return (*own(), *sorted(set(_plugins()) - set(_REGISTRY)))


def get(name: str) -> type[Attack]:
    """The class of the attack `name`.

    Raises:
        SettingError: there is no such attack, or another package's cannot be used.
    """
    if name in _REGISTRY:
        module, _, cls = _REGISTRY[name].partition(":")
        found: type[Attack] = getattr(importlib.import_module(module), cls)
        return found
    if name not in _plugins():
        raise SettingError(f"attack: '{name}' is none of {', '.join(names())}.")
    return _load(_plugins()[name])


def package(name: str) -> tuple[str, str] | None:
    """Name and version of the package an attack comes from; None for our own."""
    entry = None if name in _REGISTRY else _plugins().get(name)
    return (entry.dist.name, entry.dist.version) if entry is not None and entry.dist is not None else None


def usable() -> dict[str, type[Attack]]:
    """All attacks that can be loaded, by name; those of other packages that cannot are logged. Imports torch."""
    found = {}
    for name in names():
        try:
            found[name] = get(name)
        except SettingError as error:
            _leave_out(str(error))
    return found


@functools.cache  # once
def _leave_out(reason: str) -> None:
    _log.warning("%s It is left out.", reason)


@functools.cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> type[Attack]:
    from ciad_engine.attacks.base import Attack

    whose = entry.dist.name if entry.dist else entry.value
    if entry.name.split() != [entry.name]:  # labels of attacks in a plan end the name with a space
        raise SettingError(f"attack: '{entry.name}' of the package {whose} has a space in its name.")
    try:
        found = entry.load()
    except Exception as error:  # whatever another package's import may raise
        raise SettingError(f"attack: '{entry.name}' of the package {whose} cannot be loaded ({error}).") from error
    if not (isinstance(found, type) and issubclass(found, Attack)) or getattr(found, "name", None) != entry.name:
        raise SettingError(
            f"attack: '{entry.name}' of the package {whose} is no `ciad_engine.attacks.base.Attack` of that name."
        )
    missing = [told for told in ("title", "source", "norm") if not isinstance(getattr(found, told, None), str)]
    if missing:
        raise SettingError(f"attack: '{entry.name}' of the package {whose} has no {missing[0]}.")
    return found


def create(name: str, **parameters: object) -> Attack:
    """The attack `name` with the given parameters, the others at their defaults.

    Raises:
        SettingError: no such attack or parameter, or a value out of its range.
    """
    from ciad_engine.attacks.parameters import build

    return build(get(name), parameters)
