"""Damaged and hostile bundles: whatever a card says, reading it works or is one BundleError."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciad_engine import bundles, resources
from ciad_engine.cli import info
from ciad_engine.errors import BundleError, CiadError
from ciad_engine.evaluation import model_card
from tests import untrained
from tests.engine.test_runs_damage import TREES, places, replaced

WRONG = st.sampled_from(
    [..., None, True, -1, 0, 1.5, 10**400, float("nan"), float("inf"), "", "\ud800", "\0", "a/../../b", "x" * 5000, [],
     {}, [[]], {"": {}}, {"name": "x"}]
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of tiny networks with everything that a card may have."""
    folder = tmp_path_factory.mktemp("small") / "small"
    roles = {
        bundles.CLASSIFIER: ("mlp", {"classes": 10, "size": 32, "widths": [4]}),
        bundles.MASK_GENERATOR: ("lan", {"widths": [2]}),
        bundles.MASK_CLASSIFIER: ("mlp", {"classes": 10, "size": 32, "widths": [4]}),
    }
    untrained.write(
        folder, roles=roles, title="small", created="2026-01-01T00:00:00+00:00", limits=["few"], licence="MIT",
        data={"name": "none", "official": False, "checksum": {"train": "ab"}}, software={"torch": "2"}, seed=1,
        recipe={"name": "r"}, earlier_checksums=["ab"],
        training={"classifier": {"schedule": {"steps": 3}, "seconds": 2.0, "validation": {"a": 1}}},
        measured={"test": {"accuracy": {"f1": 0.5}, "detectors": {"mask": {"accuracy": 0.5}}}},
    )  # fmt: skip
    return folder


def use(folder: Path) -> None:
    """Do with a bundle what the program does."""
    card = bundles.read_card(folder)
    info.check(card)
    bundles.files_of(card)
    bundles.reference(card)
    model_card.sections(card)
    bundles.load_networks(card, torch.device("cpu"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_card_is_one_error(small: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = json.loads((small / bundles.CARD).read_bytes())
    at = data.draw(st.sampled_from(list(places(content))))
    # Sizes of networks are not drawn: one of a few billion weights is a question of memory.
    value = data.draw(WRONG | TREES if "arguments" not in at else st.sampled_from([..., None, "", [], {}, -1, 0, [0]]))
    folder = tmp_path / "changed"
    shutil.copytree(small, folder, dirs_exist_ok=True)
    (folder / bundles.CARD).write_text(json.dumps(replaced(content, at, value)))
    with contextlib.suppress(CiadError):
        use(folder)


@pytest.mark.parametrize(
    "raw", [b"", b"[" * 100_000, b"{", b"null", b'"', b"\xff", b"\xef\xbb\xbf{}", b"9" * 9999, b'{"a": ' * 50_000]
)
def test_a_card_that_is_no_card_is_named(small: Path, tmp_path: Path, raw: bytes) -> None:
    shutil.copytree(small, tmp_path / "b")
    (tmp_path / "b" / bundles.CARD).write_bytes(raw)
    with pytest.raises(BundleError, match=r"card\.json"):
        bundles.read_card(tmp_path / "b")


@pytest.mark.parametrize("depth", [300, 500, 700, 900, 990])
def test_a_card_of_deeply_nested_objects_is_named(small: Path, tmp_path: Path, depth: int) -> None:
    card = shutil.copytree(small, tmp_path / "b") / bundles.CARD
    nested = '{"a": ' * depth + "1" + "}" * depth
    card.write_text(f'{card.read_text(encoding="utf-8").rstrip()[:-1]}, "more": {nested}}}', encoding="utf-8")
    with contextlib.suppress(BundleError):
        bundles.read_card(tmp_path / "b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("place", [bundles.CARD, "classifier.safetensors", "evaluations/a.json"])
def test_a_pipe_a_device_or_a_huge_file_is_refused_at_once(small: Path, tmp_path: Path, place: str) -> None:
    for number, put in enumerate(
        (
            os.mkfifo,
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: path.touch() or os.truncate(path, 2**40),
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(small, folder)
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).unlink(missing_ok=True)
        put(folder / place)
        with pytest.raises(BundleError, match=f"{Path(place).name}.*(not a regular file|far too much)"):
            use(folder)


def test_evaluations_come_by_moment(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "b")
    card = bundles.read_card(tmp_path / "b")
    for run, at in (
        ("a", "2026-01-01T10:00:00+14:00"),
        ("b", "2026-01-01T09:00:00-11:00"),
        ("c", "2026-01-01T00:30:00Z"),
    ):
        bundles.save_evaluation(card, {"run": run, "created": at})
    assert [entry["run"] for entry in card.evaluations()] == ["a", "c", "b"]


def test_deleting_takes_the_bundles_own_files_alone(small: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "b"
    shutil.copytree(small, folder)
    card = bundles.read_card(folder)
    bundles.save_evaluation(card, {"run": "a"})
    (folder / "training").mkdir()
    (folder / "training" / "classifier.csv").write_text("step")
    (folder / "mine.txt").write_text("kept")
    bundles.delete(card)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    shutil.copytree(small, folder, dirs_exist_ok=True)
    bundles.delete(bundles.read_card(folder))
    assert not folder.exists()
    shutil.copytree(small, folder)
    monkeypatch.setattr(resources, "path", lambda *_: tmp_path)
    with pytest.raises(BundleError, match="comes with the program"):
        bundles.delete(bundles.read_card(folder))
    assert (folder / bundles.CARD).exists()


def test_a_name_that_no_file_can_have_is_no_bundle() -> None:
    for name in ("x" * 5000, "a\0b", "./" + "y/" * 3000):
        with pytest.raises(BundleError, match="No bundle called"):
            bundles.find(name)
