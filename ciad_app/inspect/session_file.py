"""A session file (`*.ciad`): one image, the attack on it and the view, to be shown again on any machine.

JSON, so that nothing in it can run code, and with both pictures inside, pixel by pixel, so that nothing else is read.
Only the pictures and the settings are believed: classes, masks and verdict are computed anew.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ciad_app.inspect.collection import Entry
from ciad_engine import __version__, attacks, bundles
from ciad_engine.attacks.base import AttackResult
from ciad_engine.attacks.words import TARGET_CLASS
from ciad_engine.bundles import Card
from ciad_engine.errors import CiadError, ImageError
from ciad_engine.inspection import Inspection
from ciad_engine.plain_text import plain

MOST_BYTES = 1_000_000  # of a file; one with two images of 64 x 64 has 35,000
_FORMAT = 1
_LONGEST = 200  # characters of a name
_SIDES = (8, 64)
# What of an AttackResult is stored, and as what; the rest is pictures, or follows from them.
_FACTS: Mapping[str, type] = {
    "fooled": bool, "evaded": bool, "reason": str, "confidence_after": float, "l0_values": int, "l0_pixels": int,
    "l2": float, "linf": int, "ssim": float, "forwards": int, "backwards": int, "steps": int,
}  # fmt: skip
_LABELS = ("label_before", "label_after")


@dataclasses.dataclass(frozen=True)
class View:
    """How the page shows it. None and "" leave what is chosen.

    Attributes:
        part: left, top, width and height of the part of the image that is shown, in pixels.
    """

    detector: str = ""
    rule: str = ""
    gain: float | None = None
    mask_scale: float | None = None
    opacity: int = 0
    part: tuple[float, float, float, float] | None = None


def write(found: Inspection, card: Card, view: View, form: tuple[str, Mapping[str, Any]]) -> bytes:
    """Return the content of a session file; `form` is the attack that is chosen, with its settings."""
    name, settings = form
    result = None
    if found.attack is not None:
        name, settings = found.attack.attack, found.attack.settings
        result = {key: _plain(kind(getattr(found.attack, key)[0])) for key, kind in _FACTS.items()}
        result |= {key: found.classes[int(getattr(found.attack, key)[0])] for key in _LABELS}
        result["seconds"] = found.attack.seconds
    content = {
        "ciad session": _FORMAT,
        "ciad": __version__,
        "bundle": {"name": card.name, "checksum": card.checksum},
        "image": {
            "name": found.name.encode("utf-8", "replace").decode(),
            "true class": None if found.label is None else found.classes[found.label],
            "side": found.image.shape[-1],
            "pixels": _text(found.image),
            "attacked": None if found.attacked_image is None else _text(found.attacked_image),
        },
        "attack": {"name": name, "settings": dict(settings), "evade": list(found.evade), "result": result},
        "view": dataclasses.asdict(view),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a session file holds: an image with the attack on it, the view, and the chosen attack with its settings."""

    entry: Entry
    view: View
    form: tuple[str, dict[str, Any]]


def read(raw: bytes, where: str, card: Card) -> Saved:
    """Return what a session file holds.

    Args:
        card: of the loaded bundle. What an attack cost and why it failed is taken over if it was made on this bundle;
            the pictures in any case.

    Raises:
        ImageError: it is not a session file, it is damaged, or its image has another size than those of the bundle.
    """
    try:
        content = json.loads(raw, parse_constant=_refuse)
        if not isinstance(content, dict) or content.get("ciad session") != _FORMAT:
            raise ImageError(f"{where} is not a session file of this version of CIAD.")
        return _read(content, where, card)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, CiadError) as error:
        if isinstance(error, ImageError):
            raise
        why = str(error) if isinstance(error, CiadError) else "it is damaged"
        raise ImageError(f"The session {where} cannot be shown: {why.rstrip('.')}. Save it anew.") from error


def _read(content: Mapping[str, Any], where: str, card: Card) -> Saved:
    bundle, image, attack = content["bundle"], content["image"], content["attack"]
    side = _of(int, image["side"])
    if side != card.domain.size:
        name = _plain_text(bundle["name"])
        raise ImageError(
            f"The image of {where} has {side}x{side} pixels, those of bundle {card.name} {card.domain.size}x"
            f"{card.domain.size}: load bundle {name} first."
        )
    pixels, attacked = _pixels(image["pixels"], side), image["attacked"]
    changed = None if attacked is None else _pixels(attacked, side)
    true_class = image["true class"]
    label = card.domain.classes.index(true_class) if true_class in card.domain.classes else None
    checksum = _of(str, bundle["checksum"])
    name, settings = _of(str, attack["name"]), dict(attack["settings"])
    evade = tuple(_of(str, text) for text in attack["evade"])
    attacks.create(name, **settings)  # raises SettingError for an unknown attack or setting
    if settings.get(TARGET_CLASS, 0) >= len(card.domain.classes):
        raise ValueError(TARGET_CLASS)
    result = None
    if attack["result"] is not None and card.knows(checksum):
        evade = tuple(bundles.evaded(card, text).text for text in evade)
        result = _result(attack["result"], name, settings, pixels if changed is None else changed, card)
        if bool(result.fooled[0]) != (changed is not None):
            raise ValueError("fooled")
    entry = Entry(
        pixels, label, _plain_text(image["name"]), f"from {where}", changed, result, evade if result else (), checksum
    )
    return Saved(entry, _view(content["view"], side), (name, settings))


def _result(
    facts: Mapping[str, Any], name: str, settings: dict[str, Any], image: npt.NDArray[np.uint8], card: Card
) -> AttackResult:
    arrays: dict[str, Any] = {}
    for key, kind in _FACTS.items():
        value = math.nan if kind is float and facts[key] is None else _of(kind, facts[key])
        if kind is not str and value < (-1 if key == "ssim" else 0):  # SSIM is negative of opposite pictures
            raise ValueError(key)
        arrays[key] = np.array([_plain_text(value) if kind is str else value])
    for key in _LABELS:
        arrays[key] = np.array([card.domain.classes.index(facts[key])])  # raises ValueError for another class
    return AttackResult(
        images=image[None], candidates=image[None], seconds=_of(float, facts["seconds"]), attack=name,
        settings=settings, **arrays,
    )  # fmt: skip


def _view(content: Mapping[str, Any], size: int) -> View:
    part = None
    if content["part"] is not None:
        left, top, width, height = (float(_of(float, value)) for value in content["part"])
        if not (abs(left) <= size and abs(top) <= size and min(width, height) >= 1 and max(width, height) <= 3 * size):
            raise ValueError("part")
        part = (left, top, width, height)
    return View(
        _of(str, content["detector"]),
        _of(str, content["rule"]),
        None if content["gain"] is None else _of(float, content["gain"]),
        None if content["mask_scale"] is None else _of(float, content["mask_scale"]),
        min(max(_of(int, content["opacity"]), 0), 100),
        part,
    )


def _of(kind: type, value: Any) -> Any:
    """Return a value if it is of a kind (an int is a float, too), and finite."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(kind.__name__)
    return value


def _plain_text(value: object) -> str:
    """Return a text from outside as one short line that can be shown anywhere."""
    text = plain(_of(str, value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: bool | str | float) -> bool | str | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(image: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()


def _pixels(text: object, side: int) -> npt.NDArray[np.uint8]:
    """Return uint8 (3, side, side)."""
    try:
        raw = base64.b64decode(_of(str, text), validate=True)
    except binascii.Error as error:
        raise ValueError("pixels") from error
    if not _SIDES[0] <= side <= _SIDES[1]:
        raise ValueError("side")
    return np.frombuffer(raw, np.uint8).reshape(3, side, side).copy()


def _refuse(constant: str) -> None:
    raise ValueError(constant)
