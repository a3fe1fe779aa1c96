"""The form of an attack: its parameters, with classes by name."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QComboBox

from ciad_app.widgets.parameter_form import ParameterForm
from ciad_app.worker import AttackInfo

# The parameters every attack that can aim has (`ciad_engine.attacks.targets`, which would import torch).
TARGET, TARGET_CLASS, TARGET_SEED = "target", "target_class", "target_seed"
GIVEN, RANDOM = "given", "random"


def attack_form(info: AttackInfo, classes: Sequence[str]) -> ParameterForm:
    """The form of an attack; a class to aim at is chosen by name, and it and the seed only where they are asked for."""
    form = ParameterForm(info.parameters, {TARGET_CLASS: classes})
    names = {p.name for p in info.parameters}
    for name, needed in ((TARGET_CLASS, GIVEN), (TARGET_SEED, RANDOM)):
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
