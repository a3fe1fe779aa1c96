"""The form of an attack: its parameters, with classes by name."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QComboBox

from ciad_app.widgets.parameter_form import ParameterForm
from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import schema
from ciad_engine.attacks.words import ONLY_WITH, TARGET, TARGET_CLASS


def attack_form(attack: type[Attack], classes: Sequence[str]) -> ParameterForm:
    """The form of an attack; a class to aim at is chosen by name, and it and the seed only where they are asked for."""
    parameters = schema(attack)
    form = ParameterForm(parameters, {TARGET_CLASS: classes})
    names = {p.name for p in parameters}
    for name, needed in ONLY_WITH.items():
        if TARGET in names and name in names:
            _only_for(form, name, needed)
    return form


def _only_for(form: ParameterForm, name: str, needed: str) -> None:
    """Enable the parameter `name` while the target is `needed`."""
    aim, editor = form.editor(TARGET), form.editor(name)
    help = editor.toolTip()

    def follow() -> None:
        wanted = form.values()[TARGET] == needed
        editor.setEnabled(wanted)
        editor.setToolTip(help if wanted else f"Choose the target '{needed}' to set this. {help}")

    if isinstance(aim, QComboBox):
        aim.currentTextChanged.connect(lambda _: follow())
    follow()
