"""A trained system on disk: a folder with `card.json`, a `.safetensors` file per network, and its evaluations.

Nothing is ever unpickled. The card lists each network by registry name and arguments, the detectors made of them
with their thresholds, and on what, how and how well the system was trained. Every network file is checked against
the card's SHA-256. What was measured with the bundle lies in `evaluations/`, one JSON file per run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciad_engine import detectors, folders, networks, resources
from ciad_engine.detectors.threshold import RATES, Threshold
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import DAMAGE, BundleError, CiadError, SettingError
from ciad_engine.files import MOST_TEXT, MOST_WEIGHTS, read_bounded, write_whole
from ciad_engine.moments import instant
from ciad_engine.plain_text import plain_data

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT = 2
DEFAULT = "paper"  # the name of the bundle that is used unless another one is chosen
CARD = "card.json"
EVALUATIONS = "evaluations"  # the folder; in format 1, a key of the card
TRAINING = "training"  # the folder of checkpoints and curves, if the bundle was trained here

_CLASSES = "classes"  # in the metadata of a weights file: the names of the classes in label order, as a JSON list

# The roles of the networks that the program itself refers to; a bundle may have others.
CLASSIFIER = "classifier"  # f1
MASK_GENERATOR = "mask_generator"  # g
MASK_CLASSIFIER = "mask_classifier"  # f2
SECOND_CLASSIFIER = "second_classifier"  # attacked in the transferred setting; may be absent
CONTROL = "control"  # a plain classifier of images, the detector "mlp"; may be absent


@dataclasses.dataclass(frozen=True)
class DetectorEntry:
    """A detector as a card lists it.

    Attributes:
        name: its name in tables and on the command line; `kind`: in the registry of `ciad_engine.detectors`.
        networks: the detector's name of a network -> its role in the bundle.
        thresholds: by false positive rate on benign validation images.
        options: further settings of its kind.
    """

    name: str
    kind: str
    networks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    thresholds: Mapping[float, Threshold] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a bundle without loading a network.

    Attributes:
        name: the bundle's name in plans and on the command line.
        folder: where it lies.
        domain: its classes, in label order, and the size of its images.
        detectors: in the order in which they are shown.
        content: the whole of `card.json`.
        checksum: the bundle's identity: a SHA-256 of its networks, detectors (without thresholds), domain and seed.
        earlier: identities under which runs of the same networks may know it.
    """

    name: str
    folder: Path
    domain: Domain
    detectors: tuple[DetectorEntry, ...]
    content: dict[str, Any]
    checksum: str
    earlier: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.domain.classes

    def has(self, role: str) -> bool:
        return role in self.content["networks"]

    def knows(self, checksum: str) -> bool:
        """Return whether a run with this bundle checksum was made with the networks of this bundle."""
        return checksum == self.checksum or checksum in self.earlier

    def detector(self, name: str) -> DetectorEntry | None:
        """Return the detector `name`, or None if the bundle has none."""
        return next((entry for entry in self.detectors if entry.name == name), None)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return what was measured with the bundle, the earliest run first; `evaluation.model_card` reads it.

        The file of a run replaces what a card of format 1 holds of the same run.

        Raises:
            BundleError: a file cannot be read or is not JSON.
        """
        files = [_read_json(path) for path in sorted((self.folder / EVALUATIONS).glob("*.json"))]
        found = {str(entry.get("run")): entry for entry in (*self.content.get(EVALUATIONS, ()), *files)}
        return sorted(found.values(), key=lambda entry: instant(entry.get("created")))


@dataclasses.dataclass(frozen=True)
class Evaded:
    """A detector that must stay quiet for an attack to succeed.

    Attributes:
        name, rule: of the detector; `threshold`: of that rule.
        networks: SHA-256 of its kind, networks and options.
    """

    name: str
    rule: str
    threshold: float
    networks: str

    @property
    def text(self) -> str:
        """Detector and rule as `evaded` reads them."""
        return f"{self.name}:{self.rule}"


def evaded(card: Card, text: str) -> Evaded:
    """Return the detector of a bundle that "NAME" or "NAME:RULE" stands for, as an attack has to evade it.

    Raises:
        SettingError: the bundle has no such detector, or it cannot be evaded by that rule.
    """
    name, _, rule = text.partition(":")
    entry = card.detector(name)
    if entry is None:
        known = ", ".join(one.name for one in card.detectors)
        raise SettingError(f"evade: bundle '{card.name}' has no detector '{name}'; it has {known}.")
    rule, threshold = detectors.get(entry.kind).to_evade(name, entry.thresholds, rule)
    digest = hashlib.sha256(json.dumps(_decides(card, entry), sort_keys=True).encode()).hexdigest()
    return Evaded(name, rule, threshold.value, digest)


def _decides(card: Card, entry: DetectorEntry) -> list[Any]:
    """Return what decides a detector's score of an image: kind, weights, options, and the same of its parts."""
    weights = [card.content["networks"][role].get("sha256", "") for _, role in sorted(entry.networks.items())]
    names = detectors.get(entry.kind).parts(entry.options)
    parts = [_decides(card, part) for part in card.detectors if part.name in names]
    return [entry.kind, weights, dict(entry.options), *parts]


def available() -> tuple[Card, ...]:
    """The cards of all readable bundles: shipped ones first, then those in the user's data folder."""
    found = []
    for root in roots():
        for card in sorted(root.glob(f"*/{CARD}")):
            try:
                found.append(read_card(card.parent))
            except BundleError:
                continue  # `ciad info` names it; a broken bundle must not hide the others
    return tuple(found)


def user_folder() -> Path:
    """Return where the user's own bundles are kept.

    Raises:
        CiadError: nobody knows the user's home.
    """
    return folders.of_user("data", "name a bundle by its folder") / "models"


def roots() -> tuple[Path, ...]:
    """Return the folders in which bundles lie: those shipped, and the user's own if it is known."""
    shipped = resources.path("models")
    try:
        return (shipped, user_folder())
    except CiadError:
        return (shipped,)


def find(name: str) -> Path:
    """The folder of the bundle called `name`, or of the bundle at the path `name`.

    A folder of that name here comes after the bundles that go by it, unless it is written as a path (`./paper`).

    Raises:
        BundleError: there is none; lists what there is.
    """
    direct = Path(name)
    # Not Path.is_file, which raises if the name is too long or a folder above may not be entered.
    here = os.path.isfile(direct / CARD)  # noqa: PTH113
    if here and any(mark in name for mark in ("/", os.sep)):
        return direct
    shipped = resources.path("models", name)
    if os.path.isfile(shipped / CARD):  # noqa: PTH113
        return shipped
    for card in available():
        if card.name == name:
            return card.folder
    if here:
        return direct
    known = ", ".join(card.name for card in available()) or "none"
    raise BundleError(f"No bundle called '{name}' and no folder of that name with a {CARD} (available: {known}).")


def reference(card: Card) -> str:
    """Return by what `find` finds the bundle in later sessions: its name, or its folder if no other one goes by it."""
    first = next((other for other in available() if other.name == card.name), None)
    folder = card.folder.absolute()
    return card.name if first is not None and first.folder.absolute() == folder else str(folder)


def with_checksum(checksum: str) -> Card | None:
    """Return the card of the available bundle that a run with this bundle checksum was made with, if it is here."""
    return next((card for card in available() if card.knows(checksum)), None)


def read_card(folder: Path) -> Card:
    """Read and check `card.json` of a bundle folder, of this format or of format 1.

    Raises:
        BundleError: missing, not JSON, another format, or incomplete.
    """
    card = card_of(folder, _read_json(folder / CARD))
    if not card.detectors:
        path = folder / CARD
        raise BundleError(f"The bundle's card {path} lists no detector; add one to it, or restore or retrain it.")
    return card


def card_of(folder: Path, content: dict[str, Any]) -> Card:
    """Return the card that says `content`; raises BundleError as `read_card` does."""
    path, found = folder / CARD, content.get("format", FORMAT)
    if type(found) is not int or found not in (1, FORMAT):
        raise BundleError(f"{path} has format {str(found)[:40]}; this version of CIAD reads formats 1 and {FORMAT}.")
    roles = content.get("networks")
    if not isinstance(roles, dict) or CLASSIFIER not in roles or not isinstance(content.get("name"), str):
        raise BundleError(f"The bundle's card {path} has no {CLASSIFIER} or no name; restore or retrain it.")
    for role, entry in roles.items():
        wanted = {"network": str, "arguments": dict, "file": str, "sha256": str}
        if not isinstance(entry, dict) or any(not isinstance(entry.get(key), kind) for key, kind in wanted.items()):
            raise BundleError(f"The bundle's card {path} is incomplete for its {role}; restore or retrain it.")
    try:
        _check_numbers(content)
        _check_kinds(content)
        domain = _domain(content)
        listed = _detectors_of_format_1(content) if found == 1 else _detectors(content)
        checksum = _checksum_of_format_1(content) if found == 1 else _identity(content, domain, listed)
        earlier = tuple(map(str, content.get("earlier_checksums", ())))
    except DAMAGE as error:
        raise BundleError(f"The bundle's card {path} is unusable ({error!r}); restore or retrain it.") from error
    return Card(content["name"], folder, domain, listed, content, checksum, earlier)


# What programs show of a card; it may have other parts, and lack these.
_KINDS: dict[str, type] = {
    **dict.fromkeys(("title", "created", "licence", "hardware"), str),
    **dict.fromkeys(
        ("data", "software", "recipe", "training", "measured", "thresholds", "thresholds of controls"), dict
    ),
    **dict.fromkeys(("limits", "earlier_checksums", EVALUATIONS), list),
}


def _check_kinds(content: Mapping[str, Any]) -> None:
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name, kind()), kind):
            raise TypeError(f"its '{name}' is not of type {kind.__name__}")
    if not all(isinstance(entry, dict) for entry in content.get(EVALUATIONS, ())):
        raise TypeError(f"its '{EVALUATIONS}' are not objects")
    json.dumps(content, ensure_ascii=False).encode()  # half a character can be neither shown nor written again


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = plain_data(json.loads(read_bounded(path, MOST_TEXT)))
    except OSError as error:
        raise BundleError(f"Cannot read {path}, a part of a bundle: {error.strerror}.") from error
    except DAMAGE as error:
        raise BundleError(f"{path}, a part of a bundle, is not valid JSON ({error}); restore it.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}, a part of a bundle, is not a JSON object; restore it.")
    return content


def _domain(content: Mapping[str, Any]) -> Domain:
    """Return the domain on a card; cards of format 1 are for images of 32x32."""
    found = content.get("domain") or {"classes": content["classes"], "size": CIFAR10.size}
    classes, size = found["classes"], found["size"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or type(size) is not int:
        raise ValueError("its classes are not a list of names, or its size is not a whole number")
    return Domain(tuple(classes), size)


def _check_numbers(content: Any, place: str = "it") -> None:
    """Raise ValueError if a number is NaN or infinite, which JSON has not, but Python's reader takes."""
    if isinstance(content, float) and not math.isfinite(content):
        raise ValueError(f"{place} is {content}, not a finite number")
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        _check_numbers(value, str(key) if place == "it" else f"{place}: {key}")


def _identity(content: Mapping[str, Any], domain: Domain, listed: Sequence[DetectorEntry]) -> str:
    decides = {
        "networks": {role: [e["network"], e["arguments"], e["sha256"]] for role, e in content["networks"].items()},
        "domain": [list(domain.classes), domain.size],
        "seed": content.get("seed"),
        # A run holds the scores of these: with another detector on the card it is another run, of the same images.
        "detectors": [[e.name, e.kind, dict(e.networks), dict(e.options)] for e in listed],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _detectors(content: Mapping[str, Any]) -> tuple[DetectorEntry, ...]:
    found = tuple(
        DetectorEntry(
            str(entry["name"]),
            str(entry["kind"]),
            {str(own): str(role) for own, role in entry["networks"].items()},
            {float(rate): _threshold(saved) for rate, saved in entry.get("thresholds", {}).items()},
            dict(entry.get("options", {})),
        )
        for entry in content["detectors"]
    )
    missing = {role for entry in found for role in entry.networks.values()} - content["networks"].keys()
    if missing:
        raise ValueError(f"a detector needs the network '{min(missing)}', which the card does not list")
    if len({entry.name for entry in found}) < len(found):
        raise ValueError("it lists two detectors of the same name")
    return found


def detectors_json(entries: Sequence[DetectorEntry]) -> list[dict[str, Any]]:
    """Return detectors as a card lists them."""
    return [
        {
            "name": entry.name,
            "kind": entry.kind,
            "networks": dict(entry.networks),
            "thresholds": {f"{rate:g}": dataclasses.asdict(t) for rate, t in entry.thresholds.items()},
            **({"options": dict(entry.options)} if entry.options else {}),
        }
        for entry in entries
    ]


def _threshold(saved: Mapping[str, Any]) -> Threshold:
    return Threshold(float(saved["value"]), str(saved["source"]))


# Format 1 knew the paper's triple alone, with the thresholds of the graded rule and of each control under these keys.
_KEYS_OF_FORMAT_1 = dict(zip(RATES, ("graded", "graded, 1 %"), strict=True))


def _detectors_of_format_1(content: Mapping[str, Any]) -> tuple[DetectorEntry, ...]:
    def thresholds(saved: Mapping[str, Any]) -> dict[float, Threshold]:
        return {rate: _threshold(saved[key]) for rate, key in _KEYS_OF_FORMAT_1.items() if key in saved}

    roles, controls = content["networks"], content.get("thresholds of controls", {})
    masks = {"generator": MASK_GENERATOR, "classifier": MASK_CLASSIFIER}
    missing = [role for role in masks.values() if role not in roles]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    found = [DetectorEntry("mask", "mask", masks, thresholds(content.get("thresholds", {})))]
    if CONTROL in roles:
        found.append(DetectorEntry("mlp", "direct", {"classifier": CONTROL}, thresholds(controls.get("mlp", {}))))
    for kind in ("shuffled-mask", "constant-mask"):
        found.append(DetectorEntry(kind, kind, masks, thresholds(controls.get(kind, {}))))
    found.append(DetectorEntry("confidence", "confidence", {}, thresholds(controls.get("confidence", {}))))
    return tuple(found)


def _checksum_of_format_1(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a card of format 1 without its evaluations, by which its runs know it."""
    return hashlib.sha256(_as_file({key: value for key, value in content.items() if key != EVALUATIONS})).hexdigest()


def _as_file(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain_data(dict(content)), indent=1, ensure_ascii=False) + "\n").encode()


def weights_file(card: Card, role: str) -> Path:
    """Return where a network's weights lie. A card is untrusted: that is a plain name in the card's own folder."""
    return card.folder / Path(card.content["networks"][role]["file"]).name


def read_weights(card: Card, role: str) -> bytes:
    """Return the file of a network's weights.

    Raises:
        BundleError: it is missing, no regular file, or damaged: its SHA-256 is not the card's.
    """
    path = weights_file(card, role)
    try:
        raw = read_bounded(path, MOST_WEIGHTS)
    except OSError as error:
        text = f"Cannot read {path}, a part of bundle '{card.name}': {error.strerror}. Install the bundle again."
        raise BundleError(text) from error
    if hashlib.sha256(raw).hexdigest() != card.content["networks"][role]["sha256"]:
        raise BundleError(f"{path} is damaged: its SHA-256 is not the one on the card. Install the bundle again.")
    return raw


def files_of(card: Card) -> list[Path]:
    """Return the files in the folder that belong to the bundle: networks, evaluations, checkpoints; last the card."""
    parts = [weights_file(card, role) for role in card.content["networks"]]
    parts += sorted((card.folder / EVALUATIONS).glob("*.json"))
    parts += sorted(path for kind in ("*.safetensors", "*.csv") for path in (card.folder / TRAINING).glob(kind))
    found = [path for path in dict.fromkeys(parts) if os.path.isfile(path)]  # noqa: PTH113 - raises nothing
    return [*found, card.folder / CARD]


def delete(card: Card) -> None:
    """Remove a bundle's files; whatever else lies in its folder stays. The card goes last, so it can be tried again.

    Raises:
        BundleError: the bundle comes with the program, or a file cannot be removed.
    """
    if card.folder.resolve().is_relative_to(resources.path("models").resolve()):
        raise BundleError(f"Bundle '{card.name}' in {card.folder} comes with the program; it is not deleted.")
    path = card.folder
    try:
        for path in files_of(card):
            path.unlink(missing_ok=True)
        for path in (card.folder / EVALUATIONS, card.folder / TRAINING, card.folder):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
    except OSError as error:
        text = f"Cannot remove {path}, a part of bundle '{card.name}': {error.strerror}. Check its permissions."
        raise BundleError(text) from error


def load_networks(card: Card, device: torch.device) -> dict[str, nn.Module]:
    """Load the networks that a card lists, from the files beside it; half precision is computed in float32.

    Raises:
        BundleError: a file is missing or damaged (its SHA-256 is not the card's), its weights do not fit or are not
            finite, or they were trained for other classes than those on the card.
    """
    import safetensors
    import safetensors.torch
    import torch

    loaded = {}
    for role, entry in card.content["networks"].items():
        path, raw = weights_file(card, role), read_weights(card, role)
        try:
            network = networks.create(entry["network"], **entry["arguments"])
        except SettingError as error:
            raise BundleError(f"The card of bundle '{card.name}' in {card.folder} is unusable: {error}") from error
        try:
            network.load_state_dict(safetensors.torch.load(raw))
        except (RuntimeError, safetensors.SafetensorError, *DAMAGE) as error:
            text = f"{path} does not hold the weights of a '{entry['network']}'. Install the bundle again. ({error})"
            raise BundleError(text) from error
        _check_weights(card, role, path, network)
        _check_classes(card, path, raw)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
        loaded[role] = network.to(device).eval().requires_grad_(False)
    return loaded


def _check_weights(card: Card, role: str, path: Path, network: nn.Module) -> None:
    bad = [name for name, weights in network.state_dict().items() if not weights.isfinite().all()]
    if bad:
        raise BundleError(
            f"The {role.replace('_', ' ')} of bundle '{card.name}' is damaged: {path} holds NaN or infinite weights "
            f"({bad[0]}). Install the bundle again, or train it again."
        )


def _check_classes(card: Card, path: Path, raw: bytes) -> None:
    """Refuse weights that name other classes than the card; those of old bundles name none."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])  # it was read before, by safetensors
    names = header.get("__metadata__", {}).get(_CLASSES)
    if names is not None and names != _as_text(card.classes):
        raise BundleError(
            f"The card of bundle '{card.name}' in {card.folder} lists the classes {', '.join(card.classes)}, but the "
            f"weights in {path.name} are for {names}. Restore the card, or install the bundle again."
        )


def _as_text(classes: Sequence[str]) -> str:
    return json.dumps(list(classes), ensure_ascii=False)


def save_network(network: nn.Module, path: Path, half: bool = True, classes: Sequence[str] | None = None) -> str:
    """Write a network's weights and return the file's SHA-256; `half` stores floats as float16.

    The names of the classes that it was trained for stand beside them, so that a card cannot exchange them.
    """
    import safetensors.torch
    import torch

    state = {
        key: (t.half() if half and t.dtype == torch.float32 else t).detach().cpu().contiguous()
        for key, t in network.state_dict().items()
    }
    raw = safetensors.torch.save(state, None if classes is None else {_CLASSES: _as_text(classes)})
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def save_card(folder: Path, content: Mapping[str, Any]) -> Card:
    """Write `card.json` (format added) and read it back."""
    write_whole(folder / CARD, _as_file({"format": FORMAT, **content}))
    return read_card(folder)


def save_evaluation(card: Card, entry: Mapping[str, Any]) -> Path:
    """Write what a run measured beside the card, in the place of an earlier file of the run; the card does not change.

    Raises:
        BundleError: the file cannot be written.
    """
    path = card.folder / EVALUATIONS / f"{str(entry['run'])[:12]}.json"
    try:
        write_whole(path, (json.dumps(plain_data(dict(entry)), ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise BundleError(f"Cannot write {path}: {error.strerror}. Check the folder's permissions.") from error
    return path
