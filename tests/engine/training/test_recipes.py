"""Recipes: every one keeps the rules, and a wrong one cannot be written down."""

import dataclasses
import subprocess
import sys

import pytest

from ciad_engine import networks
from ciad_engine.bundles import DetectorEntry
from ciad_engine.errors import SettingError
from ciad_engine.training import losses, recipes
from ciad_engine.training.recipes import PAPER, Recipe, Schedule, Stage

SHORT = Schedule(steps=1)
A = Stage("a", "mlp", "classify", SHORT, minutes=1)
B = Stage("b", "lan", "mask", SHORT, minutes=1, uses=("a",), options={"beta": 5.0})
AGAIN = dataclasses.replace(A, starts_from="a", averages=True)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_keeps_the_rules(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    assert recipe.detectors
    for stage in recipe.stages:
        assert stage.minutes <= 150 or stage is PAPER.stages[1], "only the paper's LAN may take longer"
        assert stage.network in networks.names()
        assert stage.loss in losses.LOSSES
        given = [networks.create("mlp", widths=()) for _ in stage.uses]
        losses.LOSSES[stage.loss](stage.name, given, stage.schedule, [], [], *given, **stage.options)


def test_recipes_are_found_by_name():
    assert recipes.get("paper") is PAPER
    with pytest.raises(SettingError, match="paper"):
        recipes.get("papre")


def test_reading_recipes_and_the_help_import_no_torch():
    code = "from ciad_engine.cli import main; main(['train', '--help']); from ciad_engine.training import recipes"
    code += "; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "stages",
    [
        (B, A),  # uses what is not trained yet
        (dataclasses.replace(A, uses=("a",)),),
        (AGAIN,),  # nothing to continue
        (A, A),
        (A, AGAIN, AGAIN),
        (A, dataclasses.replace(AGAIN, arguments={"widths": (3,)})),  # another network
    ],
)
def test_stages_follow_from_those_before_them(stages):
    Recipe("x", "", 1, (A, B, AGAIN))
    with pytest.raises(ValueError, match="does not follow"):
        Recipe("x", "", 1, stages)


def test_a_detector_is_made_of_networks_that_are_trained():
    Recipe("x", "", 1, (A, B), (DetectorEntry("mask", "mask", {"generator": "b", "classifier": "a"}),))
    with pytest.raises(ValueError, match="detector mask"):
        Recipe("x", "", 1, (A,), (DetectorEntry("mask", "mask", {"generator": "b", "classifier": "a"}),))


def test_a_recipe_is_for_the_image_sizes_that_all_its_stages_are_for():
    small, large = dataclasses.replace(A, sizes=(16, 48)), dataclasses.replace(B, sizes=(32, 64))
    recipe = Recipe("x", "", 1, (small, large))
    recipe.check_size(32)
    recipe.check_size(48)
    for size in (31, 49):
        with pytest.raises(SettingError, match=f"'x' is for images of 32 x 32 to 48 x 48 pixels, .* {size} x {size}"):
            recipe.check_size(size)
    with pytest.raises(SettingError, match="of 32 x 32 pixels"):
        dataclasses.replace(recipe, stages=(dataclasses.replace(A, sizes=(32, 32)),)).check_size(33)


def test_options_of_all_stages():
    assert PAPER.options == {"beta": 7.0}
    other = dataclasses.replace(B, role="c", options={"beta": 1.0})
    assert Recipe("x", "", 1, (A, B, other)).options == {"beta": [5.0, 1.0]}


def test_the_rate_rises_then_falls_to_zero():
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=0.1, decay=0.5)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == [1.0] * 41
    assert rates[-1] == pytest.approx(1 / 50)


def test_networks_are_given_only_what_is_not_their_default():
    assert networks.needed("alexnet", classes=10, dropout=0.0) == {}
    assert networks.needed("alexnet", classes=3, nothing=1) == {"classes": 3}
    assert networks.needed("lan", classes=3) == {}
