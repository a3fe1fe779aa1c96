"""The parameter schema: one declaration in a dataclass field feeds form, flags, database and docs.

An attack is a frozen dataclass whose fields are made by `parameter`. `schema` reads them back as plain data, `check`
validates an instance, `build` makes one from loose values.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any, TypeVar

from ciad_engine import typed_numbers
from ciad_engine.errors import SettingError

Built = TypeVar("Built")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyper-parameter as the form, the flags and the docs show it.

    Attributes:
        title: label of the form.
        help: one sentence, for tooltip and `--help`.
        low, high: inclusive range, for numbers.
        unit: e.g. "/255" or "steps"; may be empty.
        choices: the admitted values of a choice.
        place: parameters with a higher one come behind the others, though a base class declares them.
        name: field name; the command-line flag is `--name` with hyphens.
    """

    default: Any
    title: str
    help: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    place: int = 0
    name: str = ""

    @property
    def kind(self) -> str:
        """Return "choice", "bool", "int" or "float"."""
        return "choice" if self.choices else type(self.default).__name__

    @property
    def range(self) -> str:
        """E.g. "from 0 to 255 grey levels" or "from 1 steps"; empty where any number will do."""
        bounds = (("from", self.low), ("to", self.high))
        shown = "d" if self.kind == "int" else "g"
        words = [f"{word} {bound:{shown}}" for word, bound in bounds if bound is not None]
        unit = "grey levels" if self.unit == "/255" else self.unit
        return " ".join([*words, unit] if words and unit else words)

    @property
    def wanted(self) -> str:
        """Return what a number has to be, such as "a whole number from 1 steps"."""
        return f"{'a whole number' if self.kind == 'int' else 'a number'} {self.range}".rstrip()

    def read(self, text: str) -> float | int:
        """Return the number that a person typed, with or without the unit behind it; its range is not checked.

        Raises:
            NotANumberError: it is none of this kind.
        """
        bare = text.strip().removesuffix(self.unit) or text
        return typed_numbers.whole(bare) if self.kind == "int" else typed_numbers.number(bare)


def parameter(default: float | int | str | bool, title: str, help: str, **more: Any) -> Any:
    """Return a dataclass field that carries its own documentation; `Parameter` explains the arguments."""
    return dataclasses.field(default=default, metadata={"parameter": Parameter(default, title, help, **more)})


def schema(cls: type) -> tuple[Parameter, ...]:
    """Return the parameters of a dataclass by their place, then in the order of its fields."""
    found = (
        dataclasses.replace(field.metadata["parameter"], name=field.name)
        for field in dataclasses.fields(cls)
        if "parameter" in field.metadata
    )
    return tuple(sorted(found, key=lambda parameter: parameter.place))


def check(instance: object) -> None:
    """Validate every parameter of a dataclass instance; call it from `__post_init__`.

    A whole number given for a float becomes a float, so that equal settings are equal in a plan's hash.

    Raises:
        SettingError: names field, value and range of the first one that is wrong.
    """
    for p in schema(type(instance)):
        value = getattr(instance, p.name)
        where = f"{getattr(type(instance), 'name', type(instance).__name__)}: {p.name} = {_shown(value)}"
        if p.kind == "choice":
            if value not in p.choices:
                raise SettingError(f"{where} is none of {', '.join(p.choices)}.")
        elif p.kind == "bool":
            if not isinstance(value, bool):
                raise SettingError(f"{where} is neither true nor false.")
        else:
            number = isinstance(value, numbers.Integral if p.kind == "int" else numbers.Real)  # numpy's, too
            low = -math.inf if p.low is None else p.low
            high = math.inf if p.high is None else p.high
            if not number or isinstance(value, bool) or not _finite(value) or not low <= value <= high:
                raise SettingError(f"{where} is not {p.wanted}.")
            object.__setattr__(instance, p.name, int(value) if p.kind == "int" else float(value))


def _finite(value: Any) -> bool:
    """Return whether a float holds the number."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _shown(value: object) -> str:
    try:
        return typed_numbers.shown(repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of more than 4,300 digits"


def build(cls: type[Built], values: dict[str, Any]) -> Built:
    """Make a `cls` from loose values, the others at their defaults.

    Raises:
        SettingError: an unknown name, or a value that `check` refuses.
    """
    known = {p.name for p in schema(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        name = getattr(cls, "name", cls.__name__)
        raise SettingError(f"{name}: no parameter '{unknown[0]}'; it has {', '.join(sorted(known)) or 'none'}.")
    return cls(**values)


def values(instance: object) -> dict[str, Any]:
    """The parameters of an instance as plain data, for the database and the side-car files."""
    return {p.name: getattr(instance, p.name) for p in schema(type(instance))}
