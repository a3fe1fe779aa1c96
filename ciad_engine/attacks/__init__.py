"""The attacks by name. Adding one is a class in `catalogue.py` and a module with its algorithm.

Another package adds its own through the entry point group "ciad.attacks", in its pyproject.toml:

    [project.entry-points."ciad.attacks"]
    push = "my_package.push:Push"

where `Push` is an `Attack` (`base.py`) with `name = "push"` and a `find` of its own. Importing this package imports
no torch; another package's module is imported when its attack is asked for, and had better import torch in `find`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from typing import TYPE_CHECKING

from ciad_engine.attacks import catalogue, parameters
from ciad_engine.attacks.base import Attack
from ciad_engine.errors import SettingError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_OWN: dict[str, type[Attack]] = {cls.name: cls for cls in catalogue.ALL}
_log = logging.getLogger(__name__)
GROUP = "ciad.attacks"  # of entry points: attacks of other installed packages, by name


def own() -> tuple[str, ...]:
    """Return the names of the attacks that come with CIAD, in the order they are shown."""
    return tuple(_OWN)


def names() -> tuple[str, ...]:
    """Return the names of all attacks, in the order they are shown: our own, then those of other packages."""
    return (*own(), *sorted(set(_entries()) - set(_OWN)))


def get(name: str) -> type[Attack]:
    """Return the class of the attack `name`.

    Raises:
        SettingError: there is no such attack, or another package's cannot be used.
    """
    if name not in names():
        raise SettingError(f"attack: '{name}' is none of {', '.join(names())}.")
    found = _OWN[name] if name in _OWN else _other(name)
    if isinstance(found, str):
        raise SettingError(found)
    return found


def title(name: str) -> str:
    """Return what people call the attack; the name itself if there is no such attack here."""
    return get(name).title if _usable(name) else name


def norm(name: str) -> str:
    """Return the distance the attack keeps small, "linf", "l2" or "l0"; "" if there is no such attack here."""
    return get(name).norm if _usable(name) else ""


def package(name: str) -> tuple[str, str] | None:
    """Return name and version of the package an attack comes from; None for our own."""
    entry = None if name in _OWN else _entries().get(name)
    return (entry.dist.name, entry.dist.version) if entry is not None and entry.dist is not None else None


def usable() -> dict[str, type[Attack]]:
    """Return all attacks that can be loaded, by name; those of other packages that cannot are logged, once."""
    return {name: get(name) for name in names() if _usable(name)}


def create(name: str, **settings: object) -> Attack:
    """Make the attack `name` with the given settings, the others at their defaults.

    Raises:
        SettingError: no such attack or setting, or a value out of its range.
    """
    return parameters.build(get(name), settings)


def _usable(name: str) -> bool:
    return name in _OWN or (name in _entries() and not isinstance(_other(name), str))


@functools.cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


@functools.cache
def _other(name: str) -> type[Attack] | str:
    """The class of another package's attack, or why it cannot be used, which is logged."""
    found = _loaded(_entries()[name])
    if isinstance(found, str):
        _log.warning("%s It is left out.", found)
    return found


def _loaded(entry: EntryPoint) -> type[Attack] | str:
    whose = f"attack: '{entry.name}' of the package {entry.dist.name if entry.dist else entry.value}"
    if entry.name.split() != [entry.name]:  # labels of attacks in a plan end the name with a space
        return f"{whose} has a space in its name."
    try:
        found = entry.load()
    except Exception as error:  # whatever another package's import may raise
        return f"{whose} cannot be loaded ({error})."
    if not (isinstance(found, type) and issubclass(found, Attack)) or getattr(found, "name", None) != entry.name:
        return f"{whose} is not an `ciad_engine.attacks.base.Attack` of that name."
    missing = [word for word in ("title", "source", "norm") if not isinstance(getattr(found, word, None), str)]
    return f"{whose} has no {missing[0]}." if missing else found
