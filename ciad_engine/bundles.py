"""A trained system on disk: one folder with `card.json` and a `.safetensors` file per network.

Nothing is ever unpickled. The card names each network by registry name and arguments, and says on
what, how and how well the system was trained; every file is checked against the card's SHA-256.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciad_engine import networks, resources
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import BundleError, SettingError
from ciad_engine.files import write_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ciad_engine.detectors.contrast import ContrastDetector

FORMAT = 1
CARD = "card.json"

# The roles of a bundle's networks.
CLASSIFIER = "classifier"  # f1
MASK_GENERATOR = "mask_generator"  # g
MASK_CLASSIFIER = "mask_classifier"  # f2
SECOND_CLASSIFIER = "second_classifier"  # the network of transferred attacks; may be absent
CONTROL = "control"  # a plain network of images in place of g and f2, to compare them with; may be absent
REQUIRED = (CLASSIFIER, MASK_GENERATOR, MASK_CLASSIFIER)

EVALUATIONS = "evaluations"  # where a card keeps what was measured with the bundle (`evaluation.model_card`)
# The graded rule's thresholds on a card, by the share of benign validation images each calls adversarial. The first
# is the one the rule uses; the other is for the tables.
THRESHOLDS = {0.05: "graded", 0.01: "graded, 1 %"}
CONTROL_THRESHOLDS = "thresholds of controls"  # on the card: the same for each control's scores, by its name


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a bundle without loading a network.

    Attributes:
        name: what people and plans call it.
        folder: where it lies.
        classes: class names in label order.
        content: the whole of `card.json`.
        checksum: SHA-256 of the card without its evaluations; it names the checksums of all network files.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    content: dict[str, Any]
    checksum: str

    @property
    def domain(self) -> Domain:
        """Classes and image size."""
        return Domain(self.classes, CIFAR10.size)

    def has(self, role: str) -> bool:
        return role in self.content["networks"]


@dataclasses.dataclass(frozen=True)
class System:
    """A loaded bundle: its networks by role, in eval mode, on one device."""

    card: Card
    networks: Mapping[str, nn.Module]
    device: torch.device

    @property
    def domain(self) -> Domain:
        """Classes and image size."""
        return self.card.domain

    def network(self, role: str) -> nn.Module:
        """The network of a role.

        Raises:
            BundleError: the bundle has none.
        """
        if role not in self.networks:
            raise BundleError(f"Bundle '{self.card.name}' has no {role.replace('_', ' ')}: {self.card.folder}")
        return self.networks[role]

    def detector(self, rule: str = "paper") -> ContrastDetector:
        """The contrast detector of this system with the threshold on its card.

        Raises:
            BundleError: the card has no threshold for the rule.
        """
        from ciad_engine.detectors.base import Threshold
        from ciad_engine.detectors.contrast import FIXED_RULE, PAPER, ContrastDetector

        if rule == PAPER:
            threshold = FIXED_RULE
        else:
            saved = self.card.content.get("thresholds", {}).get(rule)
            if saved is None:
                raise BundleError(f"Bundle '{self.card.name}' has no threshold for the rule '{rule}': train it again.")
            try:
                threshold = Threshold(float(saved["value"]), str(saved["source"]))
            except (KeyError, TypeError, ValueError) as error:
                raise BundleError(
                    f"The threshold of the rule '{rule}' on the card of bundle '{self.card.name}' is unusable: "
                    "restore or retrain it."
                ) from error
        return ContrastDetector(
            self.network(CLASSIFIER), self.network(MASK_GENERATOR), self.network(MASK_CLASSIFIER), rule, threshold
        )


def available() -> tuple[Card, ...]:
    """The cards of all readable bundles: shipped ones first, then those in the user's data folder."""
    found = []
    for root in (resources.path("models"), user_folder()):
        for card in sorted(root.glob(f"*/{CARD}")):
            try:
                found.append(read_card(card.parent))
            except BundleError:
                continue  # `ciad info` names it; a broken bundle must not hide the others
    return tuple(found)


def user_folder() -> Path:
    """Where bundles trained by the user are kept."""
    import platformdirs  # late: the engine also trains on machines that have only torch

    return platformdirs.user_data_path("ciad") / "models"


def find(name: str) -> Path:
    """The folder of the bundle called `name`, or of the bundle at the path `name`.

    A folder of that name here comes after the bundles that go by it, unless it is written as a path (`./paper`).

    Raises:
        BundleError: there is none; lists what there is.
    """
    direct = Path(name)
    here = (direct / CARD).is_file()
    if here and any(mark in name for mark in ("/", os.sep)):
        return direct
    shipped = resources.path("models", name)
    if (shipped / CARD).is_file():
        return shipped
    for card in available():
        if card.name == name:
            return card.folder
    if here:
        return direct
    known = ", ".join(card.name for card in available()) or "none"
    raise BundleError(f"No bundle called '{name}' and no folder of that name with a {CARD} (available: {known}).")


def read_card(folder: Path) -> Card:
    """Read and check `card.json` of a bundle folder.

    Raises:
        BundleError: missing, not JSON, another format version, or incomplete.
    """
    path = folder / CARD
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
    except OSError as error:
        raise BundleError(f"Cannot read the bundle's card {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"The bundle's card {path} is not valid JSON ({error}); restore or retrain it.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise BundleError(f"{path} has format {found!r}; this version of CIAD reads format {FORMAT}.")
    roles = content.get("networks")
    roles = roles if isinstance(roles, dict) else {}
    missing = [role for role in REQUIRED if role not in roles]
    if missing or not isinstance(content.get("name"), str) or not isinstance(content.get("classes"), list):
        what = f"has no {missing[0]}" if missing else "has no name or no classes"
        raise BundleError(f"The bundle's card {path} {what}; restore or retrain it.")
    for role, entry in roles.items():
        wanted = {"network": str, "arguments": dict, "file": str, "sha256": str}
        if not isinstance(entry, dict) or any(not isinstance(entry.get(key), kind) for key, kind in wanted.items()):
            raise BundleError(f"The bundle's card {path} does not say all of its {role}; restore or retrain it.")
    return Card(content["name"], folder, tuple(content["classes"]), content, _checksum(content))


def _checksum(content: Mapping[str, Any]) -> str:
    """Of what a card says without its evaluations, which name it; however the file is laid out."""
    told = {key: value for key, value in content.items() if key != EVALUATIONS}
    return hashlib.sha256(_as_file(told)).hexdigest()


def _as_file(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def load(name: str | Path, device: torch.device) -> System:
    """Load a bundle by name or path; weights stored in half precision are computed in float32.

    Raises:
        BundleError: missing or damaged (a file's SHA-256 differs from the card), or its weights do
            not fit the network the card names.
    """
    card = read_card(find(str(name)))
    return System(card, load_networks(card, device), device)


def load_networks(card: Card, device: torch.device) -> dict[str, nn.Module]:
    """The networks a card names, from the files beside it. Raises BundleError as `load` does."""
    import safetensors
    import safetensors.torch
    import torch

    loaded = {}
    for role, entry in card.content["networks"].items():
        # A card is untrusted: only a plain file name may be opened, and only in its own folder.
        path = card.folder / Path(entry["file"]).name
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise BundleError(f"Cannot read {path}, a part of bundle '{card.name}': {error.strerror}.") from error
        if hashlib.sha256(raw).hexdigest() != entry["sha256"]:
            raise BundleError(f"{path} is damaged: its SHA-256 is not the one on the card. Install the bundle again.")
        try:
            network = networks.create(entry["network"], **entry["arguments"])
        except SettingError as error:
            raise BundleError(f"The card of bundle '{card.name}' in {card.folder} is unusable: {error}") from error
        try:
            state = {key: t.float() if t.is_floating_point() else t for key, t in safetensors.torch.load(raw).items()}
            network.load_state_dict(state)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise BundleError(f"{path} does not hold the weights of a '{entry['network']}': {error}") from error
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
        loaded[role] = network.to(device).eval().requires_grad_(False)
    return loaded


def save_network(network: nn.Module, path: Path, half: bool = True) -> str:
    """Write a network's weights and return the file's SHA-256; `half` stores floats as float16."""
    import safetensors.torch
    import torch

    state = {
        key: (t.half() if half and t.dtype == torch.float32 else t).detach().cpu().contiguous()
        for key, t in network.state_dict().items()
    }
    raw = safetensors.torch.save(state)
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def save_card(folder: Path, content: Mapping[str, Any]) -> Card:
    """Write `card.json` (format version added) and read it back."""
    write_whole(folder / CARD, _as_file({"format": FORMAT, **content}))
    return read_card(folder)
