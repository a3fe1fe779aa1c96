"""What an attack returns is what can be saved: written as PNG and read again, every success is still one."""

import numpy as np
import pytest
import torch

from ciad_engine import attacks, bundles, datasets, imaging, systems
from ciad_engine.attacks.catalogue import Universal
from ciad_engine.attacks.model import classify

QUICK = {
    "pgd": {"iterations": 5},
    "cw": {"iterations": 40, "search_steps": 4, "initial_c": 0.1},
    "lbfgs": {"iterations": 10, "search_steps": 4, "initial_c": 1.0},
    "ddn": {"iterations": 30},
    "universal": {"eps": 30.0, "step": 8.0, "passes": 8, "learns_from": 100},
}


@pytest.mark.parametrize("name", attacks.own())
def test_a_saved_image_fools_as_the_one_in_memory(name, tmp_path):
    network = systems.load("paper", torch.device("cpu")).network(bundles.CLASSIFIER)
    samples = datasets.samples()
    chosen = np.arange(0, 400, 25)
    attack = attacks.create(name, **QUICK.get(name, {}))
    if isinstance(attack, Universal):
        attack = attack.fitted(network, samples.images[1::4])
    result = attack.run(network, samples.images[chosen], samples.labels[chosen].astype(np.int64))
    assert result.success.sum() >= 4
    read = []
    for k, image in enumerate(result.images):
        imaging.save_png(tmp_path / f"{k}.png", image)
        read.append(imaging.read(tmp_path / f"{k}.png", 32).pixels)
    np.testing.assert_array_equal(np.stack(read), result.images)
    said = classify(network, torch.from_numpy(np.stack(read))).argmax(1).numpy()
    np.testing.assert_array_equal(said, result.label_after)
    assert (said != samples.labels[chosen])[result.success].all()
