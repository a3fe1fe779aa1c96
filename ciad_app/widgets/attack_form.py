"""The form of an attack: its parameters, with classes by name."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QComboBox

from ciad_app.widgets.parameter_form import ParameterForm
from ciad_app.worker import AttackInfo

# The parameters every attack that can aim has (`ciad_engine.attacks.targets`, which would import torch).
TARGET, TARGET_CLASS, GIVEN = "target", "target_class", "given"


def attack_form(info: AttackInfo, classes: Sequence[str]) -> ParameterForm:
    """The form of an attack; a class to aim at is chosen by name, and only where one is asked for."""
    form = ParameterForm(info.parameters, {TARGET_CLASS: classes})
    names = {p.name for p in info.parameters}
    if TARGET in names and TARGET_CLASS in names:
        aim, given = form.editor(TARGET), form.editor(TARGET_CLASS)
        help = given.toolTip()

        def follow() -> None:
            wanted = form.values()[TARGET] == GIVEN
            given.setEnabled(wanted)
            given.setToolTip(help if wanted else f"Choose the target '{GIVEN}' to set this. {help}")

        if isinstance(aim, QComboBox):
            aim.currentTextChanged.connect(lambda _: follow())
        follow()
    return form
