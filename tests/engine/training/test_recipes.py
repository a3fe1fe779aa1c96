"""Recipes: every one keeps the rules, and a wrong one cannot be written down."""

import dataclasses
import subprocess
import sys

import pytest

<<<<<<< HEAD
from ciad_engine import bundles
from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.detectors import controls
from ciad_engine.detectors.base import threshold_at
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import BundleError, DataError, SettingError
from ciad_engine.evaluation import opinions
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.training import loop, recipes
from ciad_engine.training.averaging import average_into
from ciad_engine.training.loop import Schedule
from ciad_engine.training.recipes import Recipe, train_bundle
from ciad_engine.training.stages import Images
=======
from ciad_engine import networks
from ciad_engine.errors import SettingError
from ciad_engine.training import objectives, recipes
from ciad_engine.training.recipes import PAPER, Detector, Recipe, Schedule, Stage
>>>>>>> recipes

SHORT = Schedule(steps=1)
A = Stage("a", "mlp", "classify", SHORT, minutes=1)
B = Stage("b", "lan", "mask", SHORT, minutes=1, uses=("a",), options={"beta": 5.0})
AGAIN = dataclasses.replace(A, continues=True)


<<<<<<< HEAD
def image_set(count: int, seed: int, source: str) -> ImageSet:
    """Each class is its own brightness, so that something can be learnt and leaks would show."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = np.clip(rng.normal(20 + 23 * labels[:, None, None, None], 12, (count, 3, 32, 32)), 0, 255)
    names = tuple(f"{source}/{i}" for i in range(count))
    return ImageSet(images.astype(np.uint8), labels.astype(np.int64), source, False, f"checksum of {source}", names)


@pytest.fixture
def data():
    return DataSet(image_set(80, 0, "training set"), image_set(30, 1, "test set"), "synthetic", False, None)


class StopDuring(Job):
    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def on_progress(self, done, total, text):
        if self.text in text:
            self.cancel()


def test_a_recipe_makes_a_bundle_that_loads_and_judges(tmp_path, data):
    card = train_bundle(TINY, data, tmp_path / "bundle", device="cpu")
    system = bundles.load(tmp_path / "bundle", torch.device("cpu"))
    assert system.card == card
    assert card.classes == CIFAR10.classes
    assert card.content["data"]["training images"] == 60
    assert any("synthetic, not on the official files" in limit for limit in card.content["limits"])
    assert any(limit.startswith("Adaptive attacks") for limit in card.content["limits"])
    assert not any("official" in limit for limit in recipes.limits(dataclasses.replace(data, official=True)))
    thresholds = [card.content["thresholds"][name]["value"] for name in ("graded", "graded, 1 %")]
    assert thresholds[0] <= thresholds[1]
    assert card.content["training"]["classifier"]["schedule"]["steps"] == 6
    measured = card.content["measured"]["test set"]
    verdict = system.detector().inspect(data.test.images, data.test.labels)
    assert measured["n"] == 30
    with torch.no_grad():
        control = system.network(bundles.CONTROL)(to_unit(torch.from_numpy(data.test.images))).argmax(1).numpy()
    assert measured["control"] == pytest.approx((control == data.test.labels).mean())
    assert measured["f1"] == pytest.approx((verdict.y1 == data.test.labels).mean())
    assert measured["f2 on masks"] == pytest.approx((verdict.y2 == data.test.labels).mean())
    assert measured["benign rate, paper's rule"] == pytest.approx((verdict.y1 == verdict.y2).mean())
    assert "20 benign validation images" in system.detector("graded").threshold.source


def test_every_threshold_is_of_validation_images_alone(tmp_path, data):
    card = train_bundle(TINY, data, tmp_path / "bundle", device="cpu")
    system = bundles.load(tmp_path / "bundle", torch.device("cpu"))
    _, validation, _ = recipes.split(data, TINY.validation, 0)
    verdict = system.detector("graded").inspect(validation.images)
    networks = system.network(bundles.MASK_CLASSIFIER), system.network(bundles.CONTROL)
    scores = controls.scores(verdict, validation.images, *networks)
    saved = card.content[bundles.CONTROL_THRESHOLDS]
    assert saved.keys() == scores.keys() == set(opinions.GRADED)
    for found, at in ((verdict.score, card.content["thresholds"]), *((scores[name], saved[name]) for name in saved)):
        for rate, name in bundles.THRESHOLDS.items():
            assert at[name] == dataclasses.asdict(threshold_at(found, rate))
            assert (found > at[name]["value"]).mean() <= rate


@pytest.mark.parametrize(
    "during",
    ["classifier", "mask generator", "mask classifier", "control", "second classifier", "second classifier again"],
)
def test_a_training_stopped_in_any_stage_goes_on_to_the_same_bundle(tmp_path, data, during):
    whole = train_bundle(TINY, data, tmp_path / "whole", device="cpu")
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path / "part", StopDuring(f"Training {during}"), device="cpu")
    assert not (tmp_path / "part" / "card.json").exists()
    part = train_bundle(TINY, data, tmp_path / "part", resume=True, device="cpu")
    for role, entry in whole.content["networks"].items():
        assert part.content["networks"][role]["sha256"] == entry["sha256"], role
    assert part.content["measured"] == whole.content["measured"]


def test_the_second_cycle_goes_on_from_the_first_and_meets_it_half_way(tmp_path, data):
    card = train_bundle(TINY, data, tmp_path, device="cpu")
    record = card.content["training"]["second_classifier_again"]
    assert record["schedule"] == dataclasses.asdict(AGAIN)
    assert 0 <= record["validation of the mean of both ends"]["validation accuracy"] <= 1
    with safetensors.safe_open(tmp_path / "training/second_classifier_again.checkpoint.safetensors", "pt") as file:
        assert file.metadata()["step"] == "4"
    ends = [
        safetensors.torch.load_file(tmp_path / "training" / f"{name}.checkpoint.safetensors")
        for name in ("second_classifier", "second_classifier_again")
    ]
    shipped = bundles.load(card.folder, CPU).network("second_classifier").state_dict()
    for key, value in shipped.items():
        first, second = (end[f"network.{key}"] for end in ends)
        if key.endswith("weight") and value.ndim > 1:
            assert 0 < (first - second).abs().max() < 0.1, key  # not another network
            torch.testing.assert_close(value, (first + second) / 2, rtol=1e-3, atol=1e-4)


def test_norms_are_measured_anew_where_weights_are_averaged():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 32 * 32, 2))
    other = {key: value + 1 for key, value in network.state_dict().items()}
    images = Images(torch.randint(0, 256, (700, 3, 32, 32), dtype=torch.uint8), torch.zeros(700).long(), CPU)
    random = torch.get_rng_state()
    average_into(network, other, images, shift=0, seed=3)
    assert torch.equal(torch.get_rng_state(), random)
    assert not network.training
    inside = network[0](to_unit(images.images))
    torch.testing.assert_close(network[1].running_mean, inside.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(network[1].running_var, inside.var((0, 2, 3)), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(network[3].weight, other["3.weight"] - 0.5)


def test_the_second_cycle_is_tied_to_the_first(tmp_path, data):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path, StopDuring("Training second classifier again"), device="cpu")
    (tmp_path / "training" / "second_classifier.checkpoint.safetensors").unlink()
    longer = dataclasses.replace(TINY, second_classifier=dataclasses.replace(SHORT, steps=7))
    with pytest.raises(BundleError, match=r"second_classifier_again.* another schedule"):
        train_bundle(longer, data, tmp_path, resume=True, device="cpu")


def test_nothing_is_overwritten_without_resume(tmp_path, data):
    train_bundle(TINY, data, tmp_path, device="cpu")
    with pytest.raises(SettingError, match="--resume"):
        train_bundle(TINY, data, tmp_path, device="cpu")


def test_validation_images_are_not_trained_on(data):
    fit, validation, test = recipes.split(data, 20, seed=0)
    assert (len(fit), len(validation), len(test)) == (60, 20, 30)
    assert not set(fit.names) & set(validation.names)
    assert set(fit.names) | set(validation.names) == set(data.train.names)
    again = recipes.split(data, 20, seed=0)[1]
    assert again.names == validation.names


def test_a_data_set_without_training_part_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="training"):
        train_bundle(TINY, dataclasses.replace(data, train=None), tmp_path / "x", device="cpu")
    with pytest.raises(DataError, match="at least 10000"):
        train_bundle(recipes.PAPER, data, tmp_path / "y", device="cpu")
=======
@pytest.mark.parametrize("recipe", map(recipes.get, recipes.names()), ids=recipes.names())
def test_every_recipe_keeps_the_rules(recipe):
    assert recipe.name in recipes.names()
    assert recipe.detectors
    for stage in recipe.stages:
        assert stage.minutes <= 150 or stage is PAPER.stages[1], "only the paper's LAN may take longer"
        assert stage.network in networks.names()
        assert stage.loss in objectives.LOSSES
        given = [networks.create("mlp", widths=()) for _ in stage.uses]
        objectives.LOSSES[stage.loss](stage.name, given, stage.schedule, [], [], *given, **stage.options)
>>>>>>> recipes


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
    Recipe("x", "", 1, (A, B), (Detector("mask", "mask", {"generator": "b", "classifier": "a"}),))
    with pytest.raises(ValueError, match="detector mask"):
        Recipe("x", "", 1, (A,), (Detector("mask", "mask", {"generator": "b", "classifier": "a"}),))


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
