"""The comparison of devices: a device beside itself, and what it says of devices that differ."""

import re

import pytest
import torch

from ciad_engine import attacks, bundles, datasets, systems
from ciad_engine.jobs import Job
from ciad_engine.training import recipes
from tests.benchmarks import cuda
from tests.engine.training.tiny import TINY


def test_a_device_beside_itself_is_equal_in_every_attack_and_stage(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "_RECIPES", {TINY.name: TINY})
    monkeypatch.setattr(cuda, "allowed", lambda size: 4)  # iterations: seconds are saved
    file = tmp_path / "table.md"

    cuda.main(["--devices", "cpu,cpu", "--minutes", "0", "--out", str(file)])

    text = file.read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    found: dict[str, set[str]] = {}
    for line in text.splitlines()[4:]:
        what, _, measure, one, other, equal, difference = (cell.strip() for cell in line.split("|")[1:-1])
        found.setdefault(what, set()).add(measure)
        if measure.endswith("per second"):
            assert float(one) > 0
        else:
            assert (one, difference) == (other, "")
            assert not equal or re.fullmatch(r"(\d+) of \1", equal)
    assert re.search(r"all \d+ measures are equal", text)
    stages = {f"tiny: {stage.name}" for stage in TINY.stages}
    assert found.keys() == {"benign images", *attacks.usable(), *stages}
    for name in attacks.usable():
        assert {"rows", "success rate", "images per second"} <= found[name]
        for detector in bundles.read_card(bundles.find("paper")).detectors:
            assert any(measure.startswith(f"true positive rate, {detector.name} (") for measure in found[name])
    for stage in stages:
        assert {"loss", "steps per second"} < found[stage]


def test_what_differs_is_said():
    pair = [systems.load("paper", torch.device("cpu")) for _ in range(2)]
    with torch.no_grad():
        for parameter in pair[1].networks[bundles.MASK_CLASSIFIER].parameters():
            parameter.neg_()

    lines = {line.measure: line for line in cuda.attack("fgsm", pair, datasets.samples(), 10, Job())}

    rows, mask = lines["rows"], lines["true positive rate, mask (graded)"]
    named = {text.rpartition(" ")[0] for text in rows.difference.split(", ")}
    assert "mask value" in named
    assert not {"l2", "mlp value", "mask label", "y1"} & named
    assert (rows.same, mask.same, lines["success rate"].same) == (False, False, True)
    assert lines["success rate"].equal == "10 of 10" != mask.equal
    text = cuda.written([*lines.values()], [system.device for system in pair], "samples")
    assert f"{sum(line.same is False for line in lines.values())} of " in text.partition("\n")[0]


def test_the_first_round_is_finished_and_a_later_one_ends_with_the_minutes():
    deadline, sizes = Job(), []

    def task(size, job):
        job.checkpoint()
        sizes.append(size)
        if size == 20:
            deadline.cancel()
        return [cuda.Line("one", str(size), "rows")]

    def fails(size, job):
        job.checkpoint()
        raise ValueError("broken")

    found = list(cuda.rounds({"one": task, "other": fails}, 100, deadline))

    assert sizes == [10, 20]
    assert [[line.size for line in lines] for lines in found] == [["10", "10 images"], ["20", "10 images"]]
    assert found[0][1].measure == "failed: broken"


def test_without_cuda_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device is available"):
        cuda.main([])
