"""The attacks by name. Adding one is one file and one line here.

Importing this package imports no torch; an attack's module is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ciad_engine.errors import SettingError

if TYPE_CHECKING:
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
}


def names() -> tuple[str, ...]:
    """The names of all attacks, in the order they are shown."""
    return tuple(_REGISTRY)


def get(name: str) -> type[Attack]:
    """The class of the attack `name`.

    Raises:
        SettingError: there is no such attack.
    """
    if name not in _REGISTRY:
        raise SettingError(f"attack: '{name}' is none of {', '.join(_REGISTRY)}.")
    module, _, cls = _REGISTRY[name].partition(":")
    found: type[Attack] = getattr(importlib.import_module(module), cls)
    return found


def create(name: str, **parameters: object) -> Attack:
    """The attack `name` with the given parameters, the others at their defaults.

    Raises:
        SettingError: no such attack or parameter, or a value out of its range.
    """
    from ciad_engine.attacks.parameters import build

    return build(get(name), parameters)
