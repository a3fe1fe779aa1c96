"""Session files: what was saved is shown again, and nothing a file holds does harm."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
from PySide6.QtCore import QRectF

from ciad_app.inspect import session_file
from ciad_app.inspect.session_file import View
from ciad_engine import bundles, compute, inspection, systems
from ciad_engine.attacks import create
from ciad_engine.errors import ImageError
from tests import untrained
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set
from tests.soak.mutations import mutated
from tests.soak.stores import changed

VIEW = View("confidence", "graded", 4, 0.25, 40, (4.0, 5.0, 10.0, 10.0))


@pytest.fixture(scope="module")
def system(untrained_bundle):
    return systems.load(untrained_bundle, compute.choose_device("cpu"))


@pytest.fixture(scope="module")
def attacked(system):
    """An inspection with an attack that fooled f1, and one that did not."""
    image = untrained.noise(1)[0]
    label = int(system.inspect(image[None]).y1[0])
    found = [
        inspection.inspect(system, image, "a\udce9 picture", label, create("fgsm", eps=eps), evade=evade)
        for eps, evade in ((40.0, ("mask:disagreement",)), (0.0, ()))
    ]
    assert [each.attacked_image is not None for each in found] == [True, False]
    return found


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_written_is_read(system, attacked, which):
    found = attacked[which]
    saved = session_file.read(
        session_file.write(found, system.card, VIEW, ("jsma", {"theta": 1.0})), "lesson.ciad", system.card
    )
    entry = saved.entry
    assert np.array_equal(entry.pixels, found.image)
    assert (entry.adversarial is None) == (found.attacked_image is None)
    assert entry.adversarial is None or np.array_equal(entry.adversarial, found.attacked_image)
    assert (entry.label, entry.name, entry.bundle) == (found.label, "a? picture", system.card.checksum)
    assert saved.view == VIEW
    assert saved.form == ("fgsm", found.attack.settings)
    assert entry.evade == found.evade
    for field in dataclasses.fields(found.attack):
        if field.name not in ("images", "candidates"):
            assert np.array_equal(getattr(entry.attack, field.name), getattr(found.attack, field.name)), field.name


def test_a_picture_that_became_its_opposite_is_read_again(system):
    """Its structural similarity is negative."""
    image = untrained.noise(1)[0] // 4
    found = inspection.inspect(system, image, "dark", None, create("fgsm", eps=255.0))
    ssim = np.array([-0.05])
    found = dataclasses.replace(found, attack=dataclasses.replace(found.attack, ssim=ssim))
    saved = session_file.read(session_file.write(found, system.card, VIEW, ("fgsm", {})), "x", system.card)
    assert saved.entry.attack.ssim == ssim


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("attack", "settings", "target_class"), 900),
        (("view", "part"), [1e308, 0, 10, 10]),
        (("view", "part"), [0, 0, 0, 0]),
    ],
)
def test_what_could_not_be_shown_is_refused(system, attacked, place, value):
    content = json.loads(session_file.write(attacked[0], system.card, VIEW, ("fgsm", {})))
    *above, last = place
    inner = content
    for key in above:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(ImageError, match="cannot be shown"):
        session_file.read(json.dumps(content).encode(), "x", system.card)


def test_text_of_a_file_becomes_plain(system, attacked):
    content = json.loads(session_file.write(attacked[0], system.card, VIEW, ("fgsm", {})))
    content["image"]["name"] = "\x1b[31mred\u202e" + "long" * 100
    saved = session_file.read(json.dumps(content).encode(), "x", system.card)
    assert "\x1b" not in saved.entry.name
    assert "\u202e" not in saved.entry.name
    assert len(saved.entry.name) == 200


def test_without_an_attack_the_chosen_form_is_kept(system, attacked):
    form = ("fgsm", {"eps": 3.0})
    raw = session_file.write(attacked[0].without_attack(), system.card, View(), form)
    saved = session_file.read(raw, "x", system.card)
    assert saved.form == form
    assert saved.entry.attack is None
    assert saved.entry.adversarial is None


def test_on_another_bundle_the_pictures_count_and_not_the_attacks_figures(system, attacked):
    content = {**system.card.content, "name": "other"}
    other = dataclasses.replace(system.card, content=content)
    raw = json.loads(session_file.write(attacked[0], system.card, VIEW, ("fgsm", {})))
    raw["bundle"]["checksum"] = "0" * 64
    saved = session_file.read(json.dumps(raw).encode(), "x", other)
    assert saved.entry.attack is None
    assert np.array_equal(saved.entry.adversarial, attacked[0].attacked_image)


def test_another_size_names_the_bundle(system, attacked, signs):
    raw = session_file.write(attacked[0], system.card, VIEW, ("fgsm", {}))
    with pytest.raises(ImageError, match=r"32x32 pixels, those of bundle signs 64x64: load bundle untrained first"):
        session_file.read(raw, "x", bundles.read_card(signs))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"[" * 100_000, b'{"ciad session": 2}', b"\xff", b'{"ciad session": NaN}', b" " * 2_000_000],
)
def test_what_is_no_session_is_refused(system, raw):
    with pytest.raises(ImageError, match=r"^(lesson\.ciad|The session lesson\.ciad)"):
        session_file.read(raw, "lesson.ciad", system.card)


def test_whatever_a_file_holds_is_shown_or_refused(system, attacked):
    """500 files with other values in them or other bytes; those that are accepted can be shown."""
    draw, accepted = random.Random(0), 0
    raw = session_file.write(attacked[0], system.card, VIEW, ("fgsm", {}))
    for number in range(500):
        if number % 3:
            content = json.loads(raw)
            changed(content, draw)
            damaged = json.dumps(content).encode("utf-8", "surrogatepass")
        else:
            damaged = mutated(raw, draw)
        try:
            saved = session_file.read(damaged, "x", system.card)
        except ImageError:
            continue
        accepted += 1
        assert saved.entry.pixels.shape == (3, 32, 32)
        if saved.entry.attack is not None:
            assert saved.entry.attack.label_after[0] < 10
    assert accepted > 20


def test_the_page_shows_again_what_was_saved(page, known, tmp_path, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot, eps=40.0)
    found, lines = page.found, [page.panel.history.item(0).text()]
    page.panel.decide_by("confidence", "graded")
    page.grid.view = dataclasses.replace(VIEW, detector="", rule="")
    page.grid.show_part(QRectF(4, 5, 10, 10))
    path = tmp_path / "lesson.ciad"
    view = dataclasses.replace(page.grid.view, detector="confidence", rule="graded")
    assert page.saves.save_session(view, page.panel.request(), path)
    assert path.stat().st_size < 20_000

    page.grid.view = View(gain=1, mask_scale=1.0)
    page.panel.decide_by("mask", "disagreement")
    page.panel.choose("jsma", {})
    page._history.clear()
    page.open_paths([path])
    qtbot.waitUntil(lambda: page.gallery.current().note == "from lesson.ciad", timeout=TIMEOUT)
    settle(page, qtbot)
    assert np.array_equal(page.found.attacked_image, found.attacked_image)
    assert page.panel.request() == ("fgsm", found.attack.settings)
    assert page.panel.deciding == ("confidence", "graded")
    assert page.grid.view == dataclasses.replace(VIEW, detector="", rule="")
    assert [page.panel.history.item(0).text()] == lines
