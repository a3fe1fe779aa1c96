"""Write ATTACKS.md from the attacks themselves: what each does, and its settings.

    .venv/bin/python packaging/attack_docs.py

The same fields make the window's form, the command line's flags and the rows of the database.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from ciad_engine import attacks
from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import Parameter, schema
from ciad_engine.attacks.words import NORMS, TARGET, TARGET_CLASS, TARGET_SEED

PAGE = Path(__file__).resolve().parents[1] / "ATTACKS.md"
AIMS = (TARGET, TARGET_CLASS, TARGET_SEED)  # explained once, and again where an attack has another
HEAD = """# Attacks

Each attack takes 8-bit images and returns 8-bit images: what is called a success fools the classifier as it is saved.
Settings are flags of `ciad attack`, `ciad inspect` and `ciad evaluate`, fields of the window's form, and in Python
arguments: `ciad_engine.attacks.create("fgsm", eps=4).run(network, images, labels)`. In an evaluation with several
attacks that have a setting of one name write `--set fgsm.eps=4`; and there `--seed` is the evaluation's own, which
chooses the images, so an attack's is `--set pgd.seed=5`.

(This page is made by `packaging/attack_docs.py`.)
"""


def page() -> str:
    """The text of ATTACKS.md."""
    found = [attacks.get(name) for name in attacks.own()]
    shared = [p for p in schema(found[0]) if p.name in AIMS]
    parts = [HEAD, *(_section(cls) for cls in found), "## Where to aim\n", _table(shared)]
    return "\n".join(parts) + "\n"


def _section(cls: type[Attack]) -> str:
    text = inspect.getdoc(cls) or ""
    common = schema(attacks.get(attacks.own()[0]))
    own = [p for p in schema(cls) if p.name not in AIMS or p not in common]
    return f"## {cls.title}\n\n`{cls.name}`: keeps {NORMS[cls.norm]} small.\n\n{text}\n\n{_table(own)}\n"


def _table(found: list[Parameter]) -> str:
    lines = ["| Setting | Default | Admitted | Meaning |", "|---|---|---|---|"]
    for p in found:
        admitted = {"choice": ", ".join(p.choices), "bool": "yes, no"}.get(p.kind, p.range)
        default = {True: "yes", False: "no"}[p.default] if p.kind == "bool" else p.default
        default = f"{default:g}" if p.kind == "float" else default
        lines.append(f"| `--{p.name.replace('_', '-')}` | {default} | {admitted} | {p.help} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
