"""Train one of the two flows that draw the bundled samples; continues from its checkpoint.

    python packaging/samples/train_flow.py base DATA WORK
    python packaging/samples/train_flow.py detail DATA WORK

DATA is CIFAR-10 in any form `ciad data` reads; WORK holds what `descriptions.py` made and receives
`<flow>.pt` (the checkpoint) and `<flow>.log`. A run that is stopped goes on where it was, at most two minutes back.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import descriptions
import numpy as np
import torch
from flow import RECIPES, Ema, FlowNet, FlowRecipe, flow_loss, optimizers

from ciad_engine import compute, datasets

SAVE_SECONDS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flow", choices=RECIPES)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--plain", action="store_true", help="do not compile (no C++ compiler needed)")
    args = parser.parse_args()
    recipe = RECIPES[args.flow]
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint = args.work / f"{args.flow}.pt"

    torch.manual_seed(recipe.seed)
    train = datasets.load(args.data).train
    if train is None:
        raise SystemExit(f"{args.data} has no training images.")
    images = torch.from_numpy(train.images)
    labels = torch.from_numpy(train.labels.astype(np.int64))
    known = descriptions.load(args.work) if recipe.description else None
    often = torch.tensor(recipe.shares)[labels] / labels.bincount()[labels]
    net = FlowNet(recipe)
    ema = Ema(net, recipe.ema_half_life)
    optims = optimizers(net, recipe)
    base_rates = [o.param_groups[0]["lr"] for o in optims]
    step, losses = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if FlowRecipe(**state["recipe"]) != recipe:
            raise SystemExit(f"{checkpoint} is of another recipe: delete it to start again.")
        net.load_state_dict(state["net"])
        ema.net.load_state_dict(state["ema"])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        step = state["step"]
        torch.set_rng_state(state["rng"])

    def save() -> None:
        state = {
            "net": net.state_dict(),
            "ema": ema.net.state_dict(),
            "optims": [o.state_dict() for o in optims],
            "step": step,
            "rng": torch.get_rng_state(),
            "recipe": dataclasses.asdict(recipe),
        }
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    run = net if args.plain else torch.compile(net)
    start = saved_at = time.monotonic()
    while step < recipe.steps:
        rows = torch.multinomial(often, recipe.batch, replacement=True)
        batch = images[rows]
        flip = torch.rand(recipe.batch) < 0.5
        batch[flip] = batch[flip].flip(-1)
        told = torch.where(flip[:, None], known.mirrored[rows], known.plain[rows]) if known else None
        factor = min(1.0, (step + 1) / recipe.warmup, (1 - step / recipe.steps) / recipe.decay)
        for optim, rate in zip(optims, base_rates, strict=True):
            for group in optim.param_groups:
                group["lr"] = rate * factor
        with compute.mixed_precision(torch.device("cpu")):
            loss = flow_loss(run, batch, labels[rows], told, recipe)
        loss.backward()
        for optim in optims:
            optim.step()
            optim.zero_grad()
        step += 1
        ema.update(net, step)
        losses.append(loss.item())
        if step % 50 == 0:
            line = f"{step} loss {np.mean(losses[-50:]):.4f} {time.monotonic() - start:.0f} s"
            print(line, flush=True)
            with (args.work / f"{args.flow}.log").open("a") as log:
                log.write(line + "\n")
        if time.monotonic() - saved_at > SAVE_SECONDS:
            save()
            saved_at = time.monotonic()
    save()


if __name__ == "__main__":
    main()
