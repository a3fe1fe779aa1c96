"""A recipe of seconds and a synthetic data set to train it on."""

import dataclasses

import numpy as np

from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.jobs import Job
from ciad_engine.training import recipes
from ciad_engine.training.recipes import Recipe, Schedule

SHORT = Schedule(steps=6, batch=16)
FOUR = Schedule(steps=4, batch=16, erase=4)
ASKED = Schedule(steps=8, batch=16, shift=0)  # so many steps that f1 classifies all images beforehand
SMALL = {  # networks by role, as small as they come
    "classifier": ("mlp", {"widths": [8]}),
    "mask_generator": ("lan", {"widths": [8]}),
    "mask_classifier": ("lenet", {}),
    "control": ("mlp", {"widths": [8]}),
    "second_classifier": ("vgg-like", {"widths": [4, 4, 8, 8, 8]}),
}
SCHEDULES = {"mask_generator": ASKED, "second_classifier_again": FOUR}


def changed(recipe: Recipe, name: str, **changes) -> Recipe:
    """Return the recipe with fields of one stage changed."""
    found = (dataclasses.replace(stage, **changes) if stage.name == name else stage for stage in recipe.stages)
    return dataclasses.replace(recipe, stages=tuple(found))


TINY = dataclasses.replace(
    recipes.PAPER,
    name="tiny",
    validation=20,
    stages=tuple(
        dataclasses.replace(
            stage,
            network=SMALL[stage.role][0],
            arguments=SMALL[stage.role][1],
            schedule=SCHEDULES.get(stage.name, SHORT),
            options={"beta": 5.0} if stage.options else {},
        )
        for stage in recipes.PAPER.stages
    ),
)


def image_set(count: int, seed: int, source: str) -> ImageSet:
    """Each class is its own brightness, so that something can be learnt and leaks would show."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = np.clip(rng.normal(20 + 23 * labels[:, None, None, None], 12, (count, 3, 32, 32)), 0, 255)
    names = tuple(f"{source}/{i}" for i in range(count))
    return ImageSet(images.astype(np.uint8), labels.astype(np.int64), source, False, f"checksum of {source}", names)


def synthetic() -> DataSet:
    return DataSet(image_set(80, 0, "training set"), image_set(30, 1, "test set"), "synthetic", False, None)


class StopDuring(Job):
    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def on_progress(self, done, total, text):
        if self.text in text:
            self.cancel()
