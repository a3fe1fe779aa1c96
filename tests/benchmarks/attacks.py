"""Our attacks beside those of other libraries: the same network, images and settings, in one run.

    python -m tests.benchmarks.attacks [--data PATH] [--images 256] [--peer-images 256] [--csv FILE]

Success and distance are of the 8-bit image, for everybody, among those that fool; `as floats` says the same of what
a library hands back, before it is rounded. The time ends when it is known which images fool: torchattacks and ART
do not say, so their result is given to the network once more. Forward and backward passes are counted in images
that went through the network, by hooks on it. `network` is the part of the time that the bare network takes for as
many passes in full batches: 1 would be an attack that does nothing else; what computes gradients of the weights as
well, which nobody needs, stays below. Every measurement has a process of its own, in which the library has
attacked two images before; quick ones are measured in turn, several times, and the best counts. Peak memory is
what the process needed beyond what it held before the attack. A library that is not installed is left out:
`pip install foolbox torchattacks adversarial-robustness-toolbox`.

    python -m tests.benchmarks.attacks --profile ATTACK [--data PATH] [--images 256]

prints instead where our attack's time goes, by operation.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OURS = "CIAD"
QUICK, ROUNDS = ("fgsm", "bim"), 5  # taken in turn so often, the best counts: a second's noise would decide them
# Settings in our words; what a library calls them stands in its function below.
SETTINGS: dict[str, dict[str, Any]] = {
    "fgsm": {"eps": 8},
    "bim": {"eps": 8, "step": 2, "iterations": 10},
    "jsma": {"theta": 1.0, "gamma": 0.1, "target": "next"},
    "cw": {"iterations": 1000, "search_steps": 9, "learning_rate": 0.01, "initial_c": 1e-3},
    "deepfool": {"iterations": 50, "overshoot": 0.02, "candidates": 10},
    "ddn": {"iterations": 100, "gamma": 0.05, "first_norm": 1.0},
}
COLUMNS = (
    "attack", "library", "images", "success", "as floats", "mean L2", "L2 as floats", "mean L0", "forward", "backward",
    "seconds", "ms an image", "network", "peak MB", "ratio",
)  # fmt: skip


def ours(attack: str, network: Any, x: Any, labels: Any) -> Any:
    from ciad_engine import attacks, imaging

    made = attacks.create(attack, **SETTINGS[attack])
    return made.run(network, imaging.to_lattice(x).cpu().numpy(), labels.cpu().numpy()).images


def foolbox(attack: str, network: Any, x: Any, labels: Any) -> Any:
    import foolbox as library

    model = library.PyTorchModel(network, bounds=(0, 1))
    epsilon = 8 / 255 if attack in ("fgsm", "bim") else None
    made = {
        "fgsm": lambda: library.attacks.LinfFastGradientAttack(),
        "bim": lambda: library.attacks.LinfBasicIterativeAttack(abs_stepsize=2 / 255, steps=10, random_start=False),
        "cw": lambda: library.attacks.L2CarliniWagnerAttack(
            binary_search_steps=9, steps=1000, stepsize=0.01, confidence=0, initial_const=1e-3
        ),
        "deepfool": lambda: library.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02),
        "ddn": lambda: library.attacks.DDNAttack(init_epsilon=1.0, steps=100, gamma=0.05),
    }[attack]()
    _, clipped, _ = made(model, x, labels, epsilons=epsilon)
    return clipped


def torchattacks(attack: str, network: Any, x: Any, labels: Any) -> Any:
    import torchattacks as library

    made = {
        "fgsm": lambda: library.FGSM(network, eps=8 / 255),
        "bim": lambda: library.BIM(network, eps=8 / 255, alpha=2 / 255, steps=10),
        "jsma": lambda: library.JSMA(network, theta=1.0, gamma=0.1),  # its target is the next class
        "deepfool": lambda: library.DeepFool(network, steps=50, overshoot=0.02),
    }[attack]()
    return looked_at(network, made(x, labels))


def art(attack: str, network: Any, x: Any, labels: Any) -> Any:
    import torch
    from art.attacks.evasion import BasicIterativeMethod, CarliniL2Method, DeepFool, FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    kind = "gpu" if x.is_cuda else "cpu"
    model = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type=kind
    )
    size = len(x)
    made = {
        "fgsm": lambda: FastGradientMethod(model, eps=8 / 255, batch_size=size),
        "bim": lambda: BasicIterativeMethod(
            model, eps=8 / 255, eps_step=2 / 255, max_iter=10, batch_size=size, verbose=False
        ),
        # Its iterations are line searches; with its defaults (10 of them) it is meant to be compared.
        "cw": lambda: CarliniL2Method(
            model, binary_search_steps=9, initial_const=1e-3, max_iter=100, batch_size=size, verbose=False
        ),
        "deepfool": lambda: DeepFool(model, max_iter=50, epsilon=0.02, nb_grads=10, batch_size=size, verbose=False),
    }[attack]()
    return looked_at(network, torch.from_numpy(made.generate(x.cpu().numpy(), labels.cpu().numpy())).to(x.device))


def looked_at(network: Any, candidates: Any) -> Any:
    """The candidates, of which it is known now whether they fool."""
    import torch

    with torch.no_grad():
        network(candidates).argmax(1)
    return candidates


LIBRARIES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    OURS: (ours, tuple(SETTINGS)),
    "foolbox": (foolbox, ("fgsm", "bim", "cw", "deepfool", "ddn")),
    "torchattacks": (torchattacks, ("fgsm", "bim", "jsma", "deepfool")),
    "art": (art, ("fgsm", "bim", "cw", "deepfool")),
}


class Peak(threading.Thread):
    """The most memory this process held while it ran, in bytes, looked at every 5 ms (Linux)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped, self.start_bytes, self.most = False, self.held(), 0

    @staticmethod
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def run(self) -> None:
        while not self.stopped:
            self.most = max(self.most, self.held())
            time.sleep(0.005)


def prepared(data: str, count: int, device_name: str) -> tuple[Any, Any, Any]:
    """The shipped classifier and the first `count` images it classifies correctly, as floats, with their labels."""
    import torch

    from ciad_engine import bundles, compute, datasets, imaging, systems

    device = compute.choose_device(device_name)
    network = systems.load("paper", device).network(bundles.CLASSIFIER)
    found = datasets.choose(data)
    everything = torch.from_numpy(found.images[: 4 * count]).to(device)
    labels = torch.from_numpy(found.labels[: 4 * count].astype(np.int64)).to(device)
    with torch.no_grad():
        right = torch.cat([network(imaging.to_unit(part)).argmax(1) for part in everything.split(100)]) == labels
    chosen = right.nonzero()[:count, 0]
    return network, imaging.to_unit(everything[chosen]), labels[chosen]


def bare(network: Any, x: Any) -> tuple[float, float]:
    """Seconds of one image's forward and backward pass (to the image) through the network, in this batch."""
    import torch

    def once() -> tuple[float, float]:
        begun = time.perf_counter()
        out = network(here)
        wait(x)
        between = time.perf_counter()
        torch.autograd.grad(out.sum(), here)
        wait(x)
        return between - begun, time.perf_counter() - between

    # The quickest order of an image's values, and of no weight a gradient: what an attack may hope for.
    here = x.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = [(weight, weight.requires_grad) for weight in network.parameters()]
    network.requires_grad_(False)
    both = [once() for _ in range(5)]
    for weight, before in wanted:
        weight.requires_grad_(before)
    return min(one for one, _ in both) / len(x), min(other for _, other in both) / len(x)


def wait(x: Any) -> None:
    import torch

    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def give_back_freed() -> None:
    """What was freed before is no part of what an attack needs (glibc; nothing elsewhere)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def measure(attack: str, library: str, data: str, count: int, device_name: str) -> dict[str, Any]:
    """One measurement, in this process."""
    from ciad_engine import memory

    if library == OURS:
        memory.keep_freed()
    import torch

    from ciad_engine import imaging

    network, x, labels = prepared(data, count, device_name)
    originals = imaging.to_lattice(x)
    forward, backward = bare(network, x)
    run = LIBRARIES[library][0]
    run("fgsm", network, x[:2], labels[:2])  # whatever is imported and set up at the first call
    counts = {"forward": 0, "backward": 0}

    def seen(module: Any, inputs: Any, output: Any) -> None:
        counts["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: counts.__setitem__("backward", counts["backward"] + len(gradient)))

    hook = network.register_forward_hook(seen)
    give_back_freed()
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats(x.device)
    peak = Peak()
    peak.start()
    times: list[float] = []
    while len(times) < 15 and sum(times) < 5:
        counts.update(forward=0, backward=0)
        started = time.perf_counter()
        out = run(attack, network, x, labels)
        wait(x)
        times.append(time.perf_counter() - started)
        if len(times) == 1:
            peak.stopped = True
            peak.join()
    hook.remove()
    seconds = min(times)
    floats = imaging.to_unit(torch.from_numpy(out)) if isinstance(out, np.ndarray) else out.detach().float()
    lattice = imaging.to_lattice(floats.to(x.device))

    def fools(candidates: Any) -> Any:
        with torch.no_grad():
            answer = network(candidates.to(x.device)).argmax(1)
        return answer == (labels + 1) % 10 if SETTINGS[attack].get("target") == "next" else answer != labels

    fooled = fools(imaging.to_unit(lattice))
    before = fools(floats)
    way = (floats.to(x.device) - x).double().flatten(1)[before]
    change = (lattice.double() - originals.double()).flatten(1)[fooled]
    used = torch.cuda.max_memory_allocated(x.device) if x.is_cuda else peak.most - peak.start_bytes
    spent = counts["forward"] * forward + counts["backward"] * backward
    return {
        "images": len(x),
        "success": float(fooled.double().mean()),
        "as floats": float(before.double().mean()),
        "mean L2": float((change / 255).norm(dim=1).mean()) if fooled.any() else float("nan"),
        "L2 as floats": float(way.norm(dim=1).mean()) if before.any() else float("nan"),
        "mean L0": float((change != 0).sum(1).double().mean()) if fooled.any() else float("nan"),
        "forward": counts["forward"] / len(x),
        "backward": counts["backward"] / len(x),
        "seconds": seconds,
        "ms an image": 1000 * seconds / len(x),
        "network": spent / seconds,
        "peak MB": used / 2**20,
    }


def profile(attack: str, data: str, count: int, device_name: str) -> None:
    """Print the operations of our attack by the time they take themselves."""
    from ciad_engine import memory

    memory.keep_freed()
    import torch
    from torch.profiler import ProfilerActivity

    network, x, labels = prepared(data, count, device_name)
    ours("fgsm", network, x, labels)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if x.is_cuda else [])]
    with torch.profiler.profile(activities=activities) as seen:
        ours(attack, network, x, labels)
    order = "self_cuda_time_total" if x.is_cuda else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=50))


def in_own_process(attack: str, library: str, count: int, data: str, device: str) -> dict[str, Any] | None:
    """`measure`; None, and a word why, where the library is not installed or fails."""
    command = [sys.executable, "-m", "tests.benchmarks.attacks", "--data", data, "--device", device]
    done = subprocess.run([*command, "--one", attack, library, str(count)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{attack:9} {library:13} {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="samples", help="test images in any form `ciad data` reads (samples)")
    parser.add_argument("--images", type=int, default=256, help="images in our batch (256)")
    parser.add_argument("--peer-images", type=int, help="images in the others' batch (as many)")
    parser.add_argument("--attacks", default=",".join(SETTINGS), help="of them, with commas")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="of them, with commas")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--profile", metavar="ATTACK", help="where our time goes, in place of the table")
    parser.add_argument("--one", nargs=3, metavar=("ATTACK", "LIBRARY", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        attack, library, count = options.one
        print(json.dumps(measure(attack, library, options.data, int(count), options.device)))
        return
    if options.profile:
        profile(options.profile, options.data, options.images, options.device)
        return
    lines: list[dict[str, Any]] = []
    print(f"{'attack':9} {'library':13}" + "".join(f"{name:>13}" for name in COLUMNS[2:]), flush=True)
    for attack in options.attacks.split(","):
        asked = [library for library in options.libraries.split(",") if attack in LIBRARIES[library][1]]
        best: dict[str, dict[str, Any]] = {}
        for _ in range(ROUNDS if attack in QUICK else 1):
            for library in asked:
                count = options.images if library == OURS else options.peer_images or options.images
                found = in_own_process(attack, library, count, options.data, options.device)
                if found is not None and (library not in best or found["seconds"] < best[library]["seconds"]):
                    best[library] = {"attack": attack, "library": library, **found}
        for line in best.values():
            line["ratio"] = line["ms an image"] / best[OURS]["ms an image"] if OURS in best else float("nan")
            shown = "".join(f"{line[name]:13.3f}" if name != "images" else f"{line[name]:13}" for name in COLUMNS[2:])
            print(f"{attack:9} {line['library']:13}{shown}", flush=True)
        lines += best.values()
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
