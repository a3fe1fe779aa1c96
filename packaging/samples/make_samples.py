"""Draw, choose and pack the bundled sample images.

    python packaging/samples/make_samples.py draw WORK --count 250 --classes cat,dog
                                                                        draws from what train_flow.py made
    python packaging/samples/make_samples.py judge DATA WORK            trains the second judge
    python packaging/samples/make_samples.py choose DATA WORK           ranks, checks, contact sheets
    python packaging/samples/make_samples.py pack WORK resources/samples/samples.zip
    python packaging/samples/make_samples.py measure resources/samples/samples.zip      after a new bundle

Between `choose` and `pack` somebody looks at WORK/sheet-<class>.png and writes the numbers of the
images a person would not recognise into WORK/dropped.txt, one "<class> <number>" a line. Classes that were
not drawn in WORK stay in the archive as they are, with the part of the card that says how they were made.

Two judges choose: the shipped second classifier, and one trained here for this alone. Neither took
part in training the generator, and the encoder that describes images to it does not judge. f1 and
f2 do not choose: their accuracy on the samples would be true by construction.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import descriptions
import numpy as np
import torch
from archive import WRITTEN_KEYS, write_samples
from flow import FlowNet, FlowRecipe, draw
from PIL import Image, ImageDraw
from referees import Referee, load_referee, train_referee
from torch import Tensor, nn

from ciad_engine import bundles, compute, datasets, systems
from ciad_engine.domain import CIFAR10
from ciad_engine.imaging import to_unit
from ciad_engine.training import finishing

STEPS, GUIDANCE, DRAW_SEED, BATCH = 16, 2.0, 1, 125
PER_CLASS, ON_SHEET = 40, 240
BUNDLE = "paper"
JUDGE = Referee("judge", seed=101)


def draw_candidates(work: Path, count: int, names: list[str]) -> None:
    """`count` draws of each class named, else of all that were trained, into WORK/draws-<class>.npy (and .json).

    The draws are uint8 (count, 3, 32, 32); beside them stands how they were made.
    """
    (base, base_state), (detail, detail_state) = (_flow(work / f"{name}.pt") for name in ("base", "detail"))
    shares = base_state["recipe"]["shares"]
    trained = [name for name, share in zip(CIFAR10.classes, shares, strict=True) if share]
    unknown = sorted(set(names) - set(trained))
    if unknown:
        raise SystemExit(f"The flow cannot draw '{unknown[0]}': it was trained on {', '.join(trained)}.")
    note = {"steps": STEPS, "guidance": GUIDANCE, "seed": DRAW_SEED, "draws of each class": count}
    for name, state in (("base", base_state), ("detail", detail_state)):
        note[f"flow {name}"] = {**state["recipe"], "trained steps": state["step"]}
    known = descriptions.load(work)
    generator = torch.Generator().manual_seed(DRAW_SEED)
    for name in names or trained:
        label, parts = CIFAR10.classes.index(name), []
        for start in range(0, count, BATCH):
            labels = torch.full((min(BATCH, count - start),), label)
            told = descriptions.make_up(known, label, len(labels), generator)
            with compute.mixed_precision(torch.device("cpu")):
                parts.append(draw(base, detail, labels, told, generator, STEPS, GUIDANCE))
        np.save(work / f"draws-{name}.npy", torch.cat(parts).numpy())
        (work / f"draws-{name}.json").write_text(json.dumps(note))
        print(name, flush=True)


def _flow(path: Path) -> tuple[FlowNet, dict[str, Any]]:
    """The averaged network of a checkpoint of `train_flow.py`, and the checkpoint."""
    state = torch.load(path, weights_only=True)
    net = FlowNet(FlowRecipe(**state["recipe"]))
    net.load_state_dict(state["ema"])
    return net.eval(), state


@torch.inference_mode()
def judge(judges: list[nn.Module], images: Tensor) -> Tensor:
    """Lowest probability any judge gives each class, mirrored view averaged in: (N, 10)."""
    lowest = torch.ones(len(images), 10)
    for network in judges:
        for start in range(0, len(images), 500):
            batch = to_unit(images[start : start + 500])
            both = (network(batch).softmax(1) + network(batch.flip(-1)).softmax(1)) / 2
            lowest[start : start + 500] = torch.minimum(lowest[start : start + 500], both)
    return lowest


def nearest(images: Tensor, train_images: Tensor) -> Tensor:
    """L2 distance (pixels in [0, 1]) of each image to the nearest training image or its mirror."""
    flat = to_unit(images).flatten(1)
    best = torch.full((len(flat),), torch.inf)
    for mirrored in (flat, to_unit(images).flip(-1).flatten(1)):
        for start in range(0, len(train_images), 5000):
            known = to_unit(train_images[start : start + 5000]).flatten(1)
            best = torch.minimum(best, torch.cdist(mirrored, known).min(1).values)
    return best


def drawn(work: Path) -> dict[int, np.ndarray]:
    """The draws in WORK by label."""
    paths = {label: work / f"draws-{name}.npy" for label, name in enumerate(CIFAR10.classes)}
    return {label: np.load(path) for label, path in paths.items() if path.exists()}


def choose(data: Path, work: Path) -> None:
    """Rank the draws of each class, drop near-copies and near-twins, and print what was measured."""
    cifar = datasets.load(data)
    assert cifar.train is not None
    assert cifar.test is not None
    shipped = systems.load(BUNDLE, torch.device("cpu"))
    judges = [load_referee(JUDGE, work), shipped.network(bundles.SECOND_CLASSIFIER)]
    train_images = torch.from_numpy(cifar.train.images)
    # What is "near" is read off real data: how close unseen test images lie to training images.
    reference = nearest(torch.from_numpy(cifar.test.images[:1000]), train_images)
    limit = float(reference.quantile(0.02))
    report: dict[str, object] = {
        "judges": ["one trained for this alone", f"second classifier of bundle {shipped.card.checksum}"],
        "near-copy limit (2 % quantile of 1,000 test images' distances)": limit,
        "test images to training images": _quantiles(reference),
    }
    ranks, agree, kept_distances = {}, {}, []
    for label, draws in drawn(work).items():
        name, images = CIFAR10.classes[label], torch.from_numpy(draws)
        scores = judge(judges, images)
        agree[name] = float((scores.argmax(1) == label).float().mean())
        distance = nearest(images, train_images)
        flat = to_unit(images).flatten(1)
        chosen: list[int] = []
        for i in scores[:, label].argsort(descending=True).tolist():
            apart = not chosen or float(torch.cdist(flat[i : i + 1], flat[chosen]).min()) > limit
            if scores[i].argmax() == label and distance[i] > limit and apart:
                chosen.append(i)
        if not chosen:
            raise SystemExit(f"The judges agree with none of the draws of {name}: train the flows longer.")
        ranks[name] = chosen[:ON_SHEET]
        kept_distances.append(distance[chosen[:PER_CLASS]])
        _sheet(images[chosen[:ON_SHEET]].numpy(), work / f"sheet-{name}.png")
        print(name, f"agreed {agree[name]:.3f}, usable {len(chosen)}", flush=True)
    report["draws the judges agree with, by class"] = agree
    report["chosen draws to training images"] = _quantiles(torch.cat(kept_distances))
    (work / "ranks.json").write_text(json.dumps(ranks))
    (work / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


def _quantiles(values: Tensor) -> dict[str, float]:
    return {name: round(float(values.quantile(q)), 3) for name, q in (("min", 0.0), ("5 %", 0.05), ("median", 0.5))}


def _sheet(images: np.ndarray, path: Path, zoom: int = 3, columns: int = 12) -> None:
    """A numbered contact sheet."""
    cell = 32 * zoom
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (cell + 12)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, pixels in enumerate(images):
        x, y = i % columns * cell, i // columns * (cell + 12)
        sheet.paste(Image.fromarray(pixels.transpose(1, 2, 0)).resize((cell, cell), Image.Resampling.BICUBIC), (x, y))
        pen.text((x + 2, y + cell), str(i), fill="black")
    sheet.save(path)


def pack(work: Path, archive: Path) -> None:
    """Write the archive: of each class drawn in WORK the first 40 that nobody dropped, the others as they are there."""
    ranks = json.loads((work / "ranks.json").read_text())
    dropped = set()
    if (work / "dropped.txt").exists():
        dropped = {tuple(line.split()) for line in (work / "dropped.txt").read_text().splitlines() if line.strip()}
    images, labels, parts, names = [], [], [], set()
    report = json.loads((work / "report.json").read_text())
    for label, draws in drawn(work).items():
        name = CIFAR10.classes[label]
        kept = [i for place, i in enumerate(ranks[name]) if (name, str(place)) not in dropped][:PER_CLASS]
        if len(kept) < PER_CLASS:
            raise SystemExit(f"Only {len(kept)} of {PER_CLASS} images of {name} are left: draw more.")
        images.append(draws[kept])
        labels += [label] * PER_CLASS
        names.add(name)
        note = json.loads((work / f"draws-{name}.json").read_text())
        away = sum(name == of for of, _ in dropped)
        same = next((part for part in parts if part["draws"] == note), None)
        if same is None:
            parts.append({"classes": [name], "draws": note, "choice": report, "dropped by eye": away})
        else:
            same["classes"].append(name)
            same["dropped by eye"] += away
    if len(names) < len(CIFAR10.classes):
        before, card = datasets.read_samples(archive)
        stay = ~np.isin(before.labels, labels)
        images.append(before.images[stay])
        labels += before.labels[stay].tolist()
        for part in card["made"]:
            left = [name for name in part["classes"] if name not in names]
            parts += [{**part, "classes": left}] if left else []
    card = {
        "what": "Generated images, not photographs: drawn by small rectified flows trained on CIFAR-10",
        "licence": "MIT",
        "made": parts,
    }
    write_samples(archive, np.concatenate(images), np.array(labels), card)
    measure(archive)


def measure(archive: Path) -> None:
    """Write into the card how the shipped system does on the samples, beside the test set."""
    system = systems.load(BUNDLE, torch.device("cpu"))
    written, whole = datasets.read_samples(archive)
    card = {key: value for key, value in whole.items() if key not in WRITTEN_KEYS}
    card["measured"] = {
        "bundle": BUNDLE,
        "bundle checksum": system.card.checksum,
        written.source: finishing.measure(system, written),
        **system.card.content["measured"],
    }
    write_samples(archive, written.images, written.labels, card)
    print(json.dumps(card["measured"], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for name, arguments in {
        "draw": ("work",),
        "judge": ("data", "work"),
        "choose": ("data", "work"),
        "pack": ("work", "archive"),
        "measure": ("archive",),
    }.items():
        step = steps.add_parser(name)
        for argument in arguments:
            step.add_argument(argument, type=Path)
        if name == "draw":
            step.add_argument("--count", type=int, default=250, help="draws of each class")
            step.add_argument("--classes", default="", help="which, with commas (all the flow was trained on)")
    args = parser.parse_args()
    if args.step == "draw":
        draw_candidates(args.work, args.count, args.classes.split(",") if args.classes else [])
    elif args.step == "judge":
        train_referee(JUDGE, datasets.load(args.data), args.work)
    elif args.step == "choose":
        choose(args.data, args.work)
    elif args.step == "pack":
        pack(args.work, args.archive)
    else:
        measure(args.archive)


if __name__ == "__main__":
    main()
