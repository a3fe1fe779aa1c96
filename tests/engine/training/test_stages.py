"""From a (tiny, synthetic) data set to a bundle, interrupted on the way."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from ciad_engine import bundles, systems
from ciad_engine.errors import BundleError, DataError, SettingError
from ciad_engine.imaging import to_unit
from ciad_engine.jobs import Cancelled
from ciad_engine.training import loop, recipes, stages
from ciad_engine.training.averaging import average_into
from ciad_engine.training.objectives import Classify, Images
from ciad_engine.training.recipes import Schedule
from ciad_engine.training.stages import train_bundle
from tests.engine.training.tiny import FOUR, SHORT, TINY, StopDuring, changed, image_set, synthetic

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "during",
    ["classifier", "mask generator", "mask classifier", "control", "second classifier", "second classifier again"],
)
def test_a_training_stopped_in_any_stage_goes_on_to_the_same_bundle(tmp_path, data, whole, during):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path / "part", StopDuring(f"Training {during}"), device="cpu")
    assert not (tmp_path / "part" / "card.json").exists()
    part = train_bundle(TINY, data, tmp_path / "part", resume=True, device="cpu")
    for role, entry in whole.content["networks"].items():
        assert part.content["networks"][role]["sha256"] == entry["sha256"], role
    assert part.content["measured"] == whole.content["measured"]


def test_the_second_cycle_goes_on_from_the_first_and_meets_it_half_way(whole):
    training = whole.folder / "training"
    record = whole.content["training"]["second_classifier_again"]
    assert record["schedule"] == dataclasses.asdict(FOUR)
    assert 0 <= record["validation of the mean of both ends"]["validation accuracy"] <= 1
    with safetensors.safe_open(training / "second_classifier_again.checkpoint.safetensors", "pt") as file:
        assert file.metadata()["step"] == "4"
    ends = [
        safetensors.torch.load_file(training / f"{name}.checkpoint.safetensors")
        for name in ("second_classifier", "second_classifier_again")
    ]
    shipped = systems.load(whole.folder, CPU).network("second_classifier").state_dict()
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
    average_into(Classify("x", network, Schedule(1, shift=0), images, images), other, seed=3)
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
    longer = changed(TINY, "second_classifier", schedule=dataclasses.replace(SHORT, steps=7))
    with pytest.raises(BundleError, match=r"second_classifier_again.* another schedule"):
        train_bundle(longer, data, tmp_path, resume=True, device="cpu")


def test_nothing_is_overwritten_without_resume(whole, data):
    with pytest.raises(SettingError, match="--resume"):
        train_bundle(TINY, data, whole.folder, device="cpu")


def test_validation_images_are_not_trained_on(data):
    fit, validation, test = stages.split(data, 20, seed=0)
    assert (len(fit), len(validation), len(test)) == (60, 20, 30)
    assert not set(fit.names) & set(validation.names)
    assert set(fit.names) | set(validation.names) == set(data.train.names)
    again = stages.split(data, 20, seed=0)[1]
    assert again.names == validation.names


def test_a_data_set_without_training_part_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="training"):
        train_bundle(TINY, dataclasses.replace(data, train=None), tmp_path / "x", device="cpu")
    with pytest.raises(DataError, match="at least 10000"):
        train_bundle(recipes.PAPER, data, tmp_path / "y", device="cpu")


def test_other_data_do_not_go_on_from_the_checkpoints(tmp_path, data):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path, StopDuring("Training mask generator"), device="cpu")
    other = dataclasses.replace(data, train=image_set(80, 2, "other training set"))
    with pytest.raises(BundleError, match="data set"):
        train_bundle(TINY, other, tmp_path, resume=True, device="cpu")
    with pytest.raises(BundleError, match="data set"):
        train_bundle(changed(TINY, "mask_generator", options={"beta": 7.0}), data, tmp_path, resume=True, device="cpu")


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("mask_classifier", {"loss": "classify", "uses": ()}),
        ("mask_generator", {"uses": ("other",)}),
    ],
)
def test_another_loss_or_other_networks_for_it_do_not_go_on(tmp_path, data, stage, changes):
    other = dataclasses.replace(TINY.stages[0], role="other", schedule=FOUR)
    recipe = dataclasses.replace(TINY, stages=(other, *TINY.stages[:3]), detectors=TINY.detectors[:1])
    with pytest.raises(Cancelled):
        train_bundle(recipe, data, tmp_path, StopDuring("Inspecting"), device="cpu")
    with pytest.raises(BundleError, match=rf"{stage}\..* belongs to another .* loss"):
        train_bundle(changed(recipe, stage, **changes), data, tmp_path, resume=True, device="cpu")
    with pytest.raises(Cancelled):  # unchanged it goes on
        train_bundle(recipe, data, tmp_path, StopDuring("Inspecting"), resume=True, device="cpu")


def test_a_network_trained_anew_is_another_one_for_what_uses_it(tmp_path, data):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path, StopDuring("Training mask classifier"), device="cpu")
    (tmp_path / "training" / "classifier.checkpoint.safetensors").unlink()
    with pytest.raises(BundleError, match=r"mask_generator\..* other networks"):
        train_bundle(changed(TINY, "classifier", schedule=FOUR), data, tmp_path, resume=True, device="cpu")


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("mask_classifier", {"loss": "classify"}),
        ("mask_classifier", {"uses": ("classifier",)}),
        ("control", {"arguments": {"widths": [4]}}),
    ],
)
def test_a_bundle_of_another_training_is_not_finished(tmp_path, whole, data, stage, changes):
    (tmp_path / "card.json").write_bytes((whole.folder / "card.json").read_bytes())
    with pytest.raises(Cancelled):  # it is trained
        train_bundle(changed(TINY, stage, **changes), data, tmp_path, StopDuring("Training"), resume=True, device="cpu")


def test_a_bundle_without_a_detector_of_the_recipe_is_not_finished(tmp_path, whole, data):
    shutil.copytree(whole.folder, tmp_path / "bundle")
    first, *others = TINY.detectors
    recipe = dataclasses.replace(TINY, detectors=(*others, dataclasses.replace(first, name="again")))
    card = train_bundle(recipe, data, tmp_path / "bundle", resume=True, device="cpu")
    assert [entry.name for entry in card.detectors] == [entry.name for entry in recipe.detectors]
    assert card.content["networks"] == whole.content["networks"]
    fewer = dataclasses.replace(recipe, detectors=recipe.detectors[1:])
    assert train_bundle(fewer, data, tmp_path / "bundle", resume=True, device="cpu") == card


def test_a_bundle_that_does_not_say_its_losses_is_finished(tmp_path, whole, data):
    old = {
        name: {k: v for k, v in record.items() if k not in ("loss", "uses")}
        for name, record in whole.content["training"].items()
    }
    assert old != whole.content["training"]
    card = bundles.save_card(tmp_path, {**whole.content, "training": old})
    assert train_bundle(TINY, data, tmp_path, resume=True, device="cpu") == card


def test_a_checkpoint_does_not_mind_the_options_of_later_stages(tmp_path, data):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path, StopDuring("Training mask generator"), device="cpu")
    (tmp_path / "training" / "mask_generator.checkpoint.safetensors").unlink()
    other = changed(TINY, "mask_generator", options={"beta": 7.0})
    card = train_bundle(other, data, tmp_path, resume=True, device="cpu")
    assert card.content["origin"]["beta"] == 7.0


def test_a_finished_bundle_is_left_as_it_is(whole, data):
    again = train_bundle(TINY, data, whole.folder, resume=True, device="cpu")
    assert again.checksum == whole.checksum
    further = dataclasses.replace(TINY, stages=(*TINY.stages, dataclasses.replace(TINY.stages[0], role="further")))
    assert train_bundle(further, data, whole.folder, resume=True, device="cpu") == again
    longer = changed(TINY, "second_classifier_again", schedule=dataclasses.replace(FOUR, steps=5))
    with pytest.raises(BundleError, match="another schedule"):  # not finished by this recipe
        train_bundle(longer, data, whole.folder, resume=True, device="cpu")


def test_no_card_is_written_before_the_bundle_is_measured(tmp_path, data):
    with pytest.raises(Cancelled):
        train_bundle(TINY, data, tmp_path, StopDuring("Inspecting"), device="cpu")
    assert not (tmp_path / "card.json").exists()
    train_bundle(TINY, data, tmp_path, resume=True, device="cpu")
    assert systems.load(tmp_path, torch.device("cpu")).detectors["mask"].thresholds[0.05].value > 0


def test_another_generator_and_what_follows_from_it_are_entries(tmp_path, data):
    """A second cycle of a network that classifies masks measures its norms on masks."""
    _, generator, classifier = TINY.stages[:3]
    generator = dataclasses.replace(generator, role="other_generator", options={"beta": 0.1})
    classifier = dataclasses.replace(classifier, role="other_classifier", uses=("other_generator",))
    again = dataclasses.replace(classifier, starts_from="other_classifier", averages=True, schedule=FOUR)
    recipe = dataclasses.replace(TINY, stages=(*TINY.stages, generator, classifier, again))
    card = train_bundle(recipe, data, tmp_path, device="cpu")
    networks = systems.load(tmp_path, CPU).networks
    assert list(card.content["networks"])[-2:] == ["other_generator", "other_classifier"]
    assert card.content["origin"]["beta"] == [5.0, 0.1]
    fit, _, _ = stages.split(data, 20, 0)
    with torch.no_grad():
        masks = networks["other_generator"](to_unit(torch.from_numpy(fit.images)))
    norm = networks["other_classifier"].normalise
    assert norm.running_mean.item() == pytest.approx(masks.mean().item(), abs=0.01)
    assert norm.running_var.item() == pytest.approx(masks.var().item(), rel=0.1)


def test_images_of_a_size_that_the_recipe_is_not_for_are_refused(tmp_path, data):
    large = changed(TINY, "control", sizes=(48, 64))
    with pytest.raises(SettingError, match="48 x 48 to 64 x 64"):
        train_bundle(large, data, tmp_path / "bundle", device="cpu")
    assert not (tmp_path / "bundle").exists()


TWO = Schedule(steps=2, batch=4)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's networks, two steps each, in bfloat16: also on a processor that has to emulate it."""
    folder = tmp_path_factory.mktemp("paper")
    recipe = dataclasses.replace(recipes.PAPER, validation=20)
    for stage in recipe.stages:
        recipe = changed(recipe, stage.name, schedule=TWO)
    used = []

    def bfloat16(device):
        used.append(device)
        return torch.autocast("cpu", torch.bfloat16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "mixed_precision", bfloat16)
        train_bundle(recipe, synthetic(), folder, device="cpu")
    assert len(used) == 12
    return folder


def test_all_networks_train_in_bfloat16(paper):
    for network in systems.load(paper, CPU).networks.values():
        assert all(bool(torch.isfinite(p).all()) and p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "network", "after", "seed"),
    [
        ("classifier", "alexnet", "", 0),
        ("mask_generator", "lan", "", 0),
        ("mask_classifier", "lenet", "", 0),
        ("control", "mlp", "", 0),
        ("second_classifier", "vgg-like", "", 0),
        ("second_classifier_again", "vgg-like", '"after": {"batch": 4, %s, "steps": 2, %s}, ', 1),
    ],
)
def test_the_papers_checkpoints_name_what_decides_them(paper, name, network, after, seed):
    """Or the checkpoints of a training that an earlier version began would be refused."""
    options = '"beta": 7.0, ' if name == "mask_generator" else ""
    middle = (
        '"clip": null, %s"decay": 0.9, "erase": 0, "label_smoothing": 0.0, "learning_rate": 0.001, "optimizer": "adamw"'
    )
    end = '"warmup": 0.1, "weight_decay": 0.0'
    after = after and after % (f'{middle % ""}, "shift": 2', end)
    with safetensors.safe_open(paper / "training" / f"{name}.checkpoint.safetensors", "pt") as file:
        assert file.metadata()["identity"] == (
            f'{{"batch": 4, {middle % """"count": 60, """}, "origin": {{{after}{options}'
            f'"data": "checksum of training set", "network": ["{network}", {{}}], "recipe": "paper"}}, '
            f'"seed": {seed}, "shift": 2, "steps": 2, {end}}}'
        )


def test_an_earlier_versions_training_goes_on(tmp_path, data):
    """`old` was written before recipes were lists of stages: f1 is trained, g for six steps of eight."""

    class Watching(StopDuring):
        steps = 0

        def on_progress(self, done, total, text):
            self.steps += text in ("Training classifier", "Training mask generator")
            super().on_progress(done, total, text)

    recipe = TINY
    for name in ("classifier", "mask_generator"):
        recipe = changed(recipe, name, arguments={"widths": [1]})
    shutil.copytree(Path(__file__).parent / "old", tmp_path / "part" / "training")
    for folder, resume, steps in (("part", True, 2), ("whole", False, 6 + 8)):
        job = Watching("Training mask classifier")
        with pytest.raises(Cancelled):
            train_bundle(recipe, data, tmp_path / folder, job, resume=resume, device="cpu")
        assert job.steps == steps
    for name in ("classifier", "mask_generator"):
        part, whole = (
            safetensors.torch.load_file(tmp_path / folder / "training" / f"{name}.checkpoint.safetensors")
            for folder in ("part", "whole")
        )
        assert part.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(part[key], value, msg=f"{name}: {key}")


def _taking(whole: bundles.Card, *roles: str) -> recipes.Recipe:
    return dataclasses.replace(TINY, name="taking", source=str(whole.folder), takes=roles)


def test_networks_are_taken_from_another_bundle_with_its_split(tmp_path, data, whole, monkeypatch):
    roles = "classifier", "second_classifier"
    seen = []
    split = stages.split
    monkeypatch.setattr(stages, "split", lambda *given: seen.append(given[2]) or split(*given))
    card = train_bundle(_taking(whole, *roles), data, tmp_path / "made", device="cpu", seed=3)
    assert seen == [whole.content["seed"]]  # else images that it was trained on would be held out
    for role, entry in whole.content["networks"].items():
        assert (card.content["networks"][role]["sha256"] == entry["sha256"]) == (role in roles), role
    for name in ("classifier", "second_classifier", "second_classifier_again"):
        assert card.content["training"][name] == {**whole.content["training"][name], "taken from": "bundle 'tiny'"}


def test_a_source_that_does_not_fit_is_not_taken(tmp_path, data, whole):
    recipe = _taking(whole, "classifier")
    assert stages._source(recipe, data).name == "tiny"
    for other in (
        dataclasses.replace(recipe, source=str(tmp_path / "nowhere")),
        dataclasses.replace(recipe, validation=19),
        dataclasses.replace(recipe, takes=("classifier", "surrogate")),
    ):
        assert stages._source(other, data) is None
    train = dataclasses.replace(data.train, checksum="of other images")
    assert stages._source(recipe, dataclasses.replace(data, train=train)) is None


def test_a_recipe_can_use_a_share_of_the_training_images(tmp_path, data, monkeypatch):
    seen = []
    train = stages.train
    monkeypatch.setattr(stages, "train", lambda objective, *rest: seen.append(objective) or train(objective, *rest))
    confidence = bundles.DetectorEntry("confidence", "confidence")
    recipe = dataclasses.replace(TINY, stages=TINY.stages[:1], detectors=(confidence,), share=0.5)
    card = train_bundle(recipe, data, tmp_path / "half", device="cpu")
    assert card.content["data"]["training images"] == 30
    fit, validation, _ = stages.split(data, 20, 0)
    assert torch.equal(seen[0].train.images, torch.from_numpy(fit.images[:30]))
    assert torch.equal(seen[0].validation.images, torch.from_numpy(validation.images))
