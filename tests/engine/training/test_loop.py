"""The training loop: it learns, and a stopped run goes on exactly as if it had not been stopped."""

import csv
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from ciad_engine.errors import BundleError, CiadError
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.training import loop
from ciad_engine.training.loop import Metric, Objective, epoch_rows, train
from ciad_engine.training.recipes import Schedule

CPU = torch.device("cpu")


class Regression(Objective):
    """A small network with dropout and batch norm: everything whose state could be lost."""

    name = "toy"

    def __init__(self, schedule: Schedule):
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.schedule = schedule
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(64, 4, generator=generator)
        self.y = self.x.sum(1, keepdim=True)
        self.count = 64

    def loss(self, rows):
        error = (self.network(self.x[rows]).float() - self.y[rows]).square().mean()
        return error, {"error": error.detach()}

    def validate(self):
        with torch.no_grad():
            return {"validation error": float((self.network(self.x) - self.y).square().mean())}


SCHEDULE = Schedule(steps=120, batch=16, learning_rate=0.02)


class StopAt(Job):
    def __init__(self, step: int):
        super().__init__()
        self.stop = step

    def on_progress(self, done, total, text):
        if done == self.stop:
            self.cancel()


def weights(stage):
    return torch.cat([t.flatten().float() for t in stage.network.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 50, 119])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, optimizer, stop):
    schedule = Schedule(steps=120, batch=16, optimizer=optimizer, learning_rate=0.01, weight_decay=0.01)
    whole, first, second = (Regression(schedule) for _ in range(3))
    train(whole, tmp_path / "whole", CPU, 7, Job(), resume=False)
    with pytest.raises(Cancelled):
        train(first, tmp_path / "part", CPU, 7, StopAt(stop), resume=False)
    train(second, tmp_path / "part", CPU, 7, Job(), resume=True)
    assert torch.equal(weights(whole), weights(second))
    assert (tmp_path / "part" / "toy.csv").read_text() == (tmp_path / "whole" / "toy.csv").read_text()


def test_it_learns_and_reports(tmp_path):
    class Recorder(Job):
        def __init__(self):
            super().__init__()
            self.metrics = []

        def on_partial(self, result):
            self.metrics.append(result)

    job, stage = Recorder(), Regression(SCHEDULE)
    before = stage.validate()["validation error"]
    record = train(stage, tmp_path, CPU, 0, job, resume=False)
    assert record["validation"]["validation error"] < before / 3
    assert record["seed"] == 0
    assert [m.step for m in job.metrics] == [50, 100, 120]
    assert all(isinstance(m, Metric) and m.values["loss"] >= 0 for m in job.metrics)
    with (tmp_path / "toy.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "metric", "value"]
    assert rows[-1][1] == "validation error"
    assert not stage.network.training


def test_another_seed_gives_another_network(tmp_path):
    one, two = Regression(SCHEDULE), Regression(SCHEDULE)
    train(one, tmp_path / "one", CPU, 1, Job(), resume=False)
    train(two, tmp_path / "two", CPU, 2, Job(), resume=False)
    assert not torch.equal(weights(one), weights(two))


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    stage = Regression(SCHEDULE)  # seeds the generator itself
    torch.set_rng_state(state)
    train(stage, tmp_path, CPU, 0, Job(), resume=False)
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    with pytest.raises(Cancelled):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, StopAt(10), resume=False)
    with pytest.raises(BundleError, match="another schedule"):
        train(Regression(Schedule(steps=60, batch=16)), tmp_path, CPU, 0, Job(), resume=True)
    with pytest.raises(BundleError, match="another schedule"):
        train(Regression(SCHEDULE), tmp_path, CPU, 1, Job(), resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(Cancelled):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, StopAt(10), resume=False)
    path = tmp_path / "toy.checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"toy\.checkpoint"):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, Job(), resume=True)


def test_divergence_is_said(tmp_path, monkeypatch):
    stage = Regression(Schedule(steps=60, batch=16))
    stage.y = stage.y * torch.inf
    with pytest.raises(CiadError, match="diverged"):
        train(stage, tmp_path, CPU, 0, Job(), resume=False)


def test_each_epoch_shows_every_image_once_in_a_new_order():
    epochs = [torch.cat([epoch_rows(40, 10, step, 0) for step in range(4 * e, 4 * e + 4)]) for e in range(2)]
    for order in epochs:
        assert sorted(order.tolist()) == list(range(40))
    assert not torch.equal(*epochs)


def test_a_long_gradient_is_cut_to_its_limit(tmp_path):
    """The first step of Nesterov momentum .9 moves the weights by 1.9 times rate times gradient."""

    def moved(clip):
        stage = Regression(Schedule(steps=1, batch=64, optimizer="sgd", learning_rate=0.1, clip=clip))
        before = [p.detach().clone() for p in stage.network.parameters()]
        train(stage, tmp_path / str(clip), CPU, 0, Job(), resume=False)
        pairs = zip(before, stage.network.parameters(), strict=True)
        return float(torch.cat([(new.detach() - old).flatten() for old, new in pairs]).norm())

    assert moved(0.01) == pytest.approx(1.9 * 0.1 * 0.01, rel=0.01)
    assert moved(None) > 0.02


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    with pytest.raises(Cancelled):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, StopAt(10), False, {"data": "one"})
    with pytest.raises(BundleError, match="data set"):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, Job(), True, {"data": "another"})
    train(Regression(SCHEDULE), tmp_path, CPU, 0, Job(), True, {"data": "one"})


def test_resuming_a_finished_stage_adds_nothing_to_its_curve(tmp_path):
    train(Regression(SCHEDULE), tmp_path, CPU, 0, Job(), resume=False)
    whole = (tmp_path / "toy.csv").read_text()
    train(Regression(SCHEDULE), tmp_path, CPU, 0, Job(), resume=True)
    assert (tmp_path / "toy.csv").read_text() == whole


def test_weights_that_diverged_are_not_saved(tmp_path):
    with pytest.raises(Cancelled):
        train(Regression(SCHEDULE), tmp_path, CPU, 0, StopAt(10), resume=False)
    good = (tmp_path / "toy.checkpoint.safetensors").read_bytes()
    stage = Regression(SCHEDULE)
    stage.y = stage.y * torch.inf
    with pytest.raises(Cancelled):
        train(stage, tmp_path, CPU, 0, StopAt(20), resume=True)
    assert (tmp_path / "toy.checkpoint.safetensors").read_bytes() == good


class Using(Regression):
    """It computes with a network that has all that differs between the modes, and does to it what `harm` does."""

    def __init__(self, harm=lambda network: None):
        super().__init__(Schedule(steps=50, batch=16))
        self.used = Regression(SCHEDULE).network
        self.given, self.harm, self.modes = (self.used,), harm, set()
        self.used.register_forward_hook(lambda *_: self.modes.update(m.training for m in self.used.modules()))

    def loss(self, rows):
        error = (self.network(self.x[rows]) - self.used(self.x[rows])).square().mean()
        self.harm(self.used)
        return error, {}

    def validate(self):
        self.used(self.x)
        return {}


def test_a_network_that_is_given_is_frozen_and_in_eval_mode(tmp_path):
    objective = Using()
    state = {key: value.clone() for key, value in objective.used.state_dict().items()}
    wanted = objective.used.eval()(objective.x)
    objective.used.train()
    objective.modes.clear()
    train(objective, tmp_path, CPU, 0, Job(), resume=False)
    assert objective.modes == {False}
    assert all(torch.equal(value, state[key]) for key, value in objective.used.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in objective.used.parameters())  # given back as it was
    assert objective.used.training
    assert torch.equal(objective.used.eval()(objective.x), wanted)


@pytest.mark.parametrize(
    "harm",
    [
        lambda used: used.train(),
        lambda used: used[3].train(),  # dropout alone
        lambda used: used[1].running_mean.add_(0.1),
        lambda used: used.requires_grad_(True),
        lambda used: used[0].weight.data.add_(0.1),
    ],
)
def test_an_objective_that_changes_what_it_is_given_is_found_out(tmp_path, harm):
    with pytest.raises(RuntimeError, match="training of toy changed a network"):
        train(Using(harm), tmp_path, CPU, 0, Job(), resume=False)


@pytest.mark.parametrize(
    "end",
    [
        "5",
        "50",
        "50,",
        "50,los",
        "50,loss,0.",
        "50,loss,0.12",
        "50,loss",
        "x,loss,0.1\r\n",
        "\0\0\0\0",
        "50,loss,\0\r\n",
    ],
)
def test_a_cut_last_row_of_a_training_curve_is_dropped(tmp_path: Path, end: str) -> None:
    """A crash may leave half a row, or zeros in its place: the others are kept, and training goes on."""
    path = tmp_path / "f.csv"
    path.write_bytes(b"step,metric,value\r\n50,loss,0.5\r\n100,loss,0.25\r\n150,validation,1\r\n" + end.encode())
    loop.Curve(path, 100).add(101, {"loss": 0.125})
    assert path.read_text().split() == ["step,metric,value", "50,loss,0.5", "100,loss,0.25", "101,loss,0.125"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_curve_or_a_checkpoint_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.csv")
    with pytest.raises(BundleError, match=r"f\.csv: it is not a regular file"):
        loop.Curve(tmp_path / "f.csv", 100)
    network = nn.Linear(1, 1)
    with pytest.raises(BundleError, match=r"f\.csv is damaged.*not a regular file"):
        loop._load(
            tmp_path / "f.csv", network, torch.optim.AdamW(network.parameters()), {"objective": "", "identity": "{}"}
        )
