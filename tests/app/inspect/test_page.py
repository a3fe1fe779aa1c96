from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtWidgets import QApplication, QComboBox, QLineEdit, QMenu, QPushButton

from ciad_app.actions import fill
from ciad_app.inspect import saving, work
from ciad_app.inspect.collection import RECORDS, YOURS, Entry
from ciad_app.inspect.page import InspectPage
from ciad_app.inspect.pane_grid import COVER, NO_MASK
from ciad_app.inspect.verdict_bar import NOTHING
from ciad_engine import imaging, inspection
from ciad_engine.attacks.words import FLAGGED, NO_ADVERSARIAL
from ciad_engine.datasets.base import ImageSet
from ciad_engine.domain import CIFAR10
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set


def test_selecting_an_image_shows_its_verdict(page, known, qtbot):
    show_set(page, known)
    assert np.array_equal(page.grid.benign.array, known.images[0].transpose(1, 2, 0))
    settle(page, qtbot)
    found = page.found
    assert page.verdict.word.text() == inspection.headline(found.benign, False)
    assert page.verdict.sign.kind == page.verdict.word.text()
    told = inspection.explain(found)
    assert page.verdict.sentence.text() == told.text
    assert page.verdict.evidence.text() == told.evidence
    assert "threshold 0.5" in told.evidence
    assert page.verdict.others.text().split("\n") == list(told.others)
    assert len(told.others) == 3
    assert np.array_equal(page.grid.benign_mask.array, 1 - found.benign.masks[0])
    for column, p in zip(page.grid.benign_bars.columns, (found.benign.p1, found.benign.p2), strict=True):
        assert np.array_equal(column, p[0])
        assert column.sum() == pytest.approx(1, abs=1e-5)
    assert page.grid.adversarial.array is None
    assert "Press Attack" in page.grid.adversarial.hint


def test_an_attack_fills_every_pane_and_moves_none(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    widgets = [*page.grid.panes, page.grid.change_bars, page.verdict, page.panel.results, page.panel.button]
    places = [w.geometry() for w in widgets]
    attack(page, qtbot)
    found = page.found
    assert found.attack.success[0]
    assert found.attack.settings["eps"] == 32.0
    assert np.array_equal(page.grid.adversarial.array, found.attack.images[0].transpose(1, 2, 0))
    assert np.array_equal(
        page.grid.difference.array,
        inspection.difference(found.image, found.attacked_image, 16).transpose(1, 2, 0),
    )
    assert np.allclose(page.grid.mask_change.array, found.benign.masks[0] - found.adversarial.masks[0], atol=1e-6)
    assert page.grid.adversarial_bars.columns[0].sum() == pytest.approx(1, abs=1e-5)
    assert page.grid.change_bars.columns[0].sum() == pytest.approx(0, abs=1e-5)
    assert page.verdict.word.text() == inspection.headline(found.adversarial, True)
    assert "32 /255" in page.panel.results.values["linf"].text()
    assert "✔" in page.panel.results.values["outcome"].text()
    assert page.panel.history.count() == 1
    QApplication.processEvents()
    assert [w.geometry() for w in widgets] == places


def test_a_failed_attack_says_why(page, known, qtbot):
    show_set(page, dataclasses.replace(known, labels=(known.labels + 1) % 10, checksum=""))
    settle(page, qtbot)
    attack(page, qtbot)
    reason = str(page.found.attack.reason[0])
    assert reason
    assert reason in page.panel.results.values["outcome"].text()
    assert reason in page.grid.adversarial.hint
    assert reason in page.verdict.sentence.text()
    assert not page.saves.save.isEnabled()
    assert not page.saves.save_image()


def test_the_history_goes_back(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot, eps=32.0)
    first = page.found
    attack(page, qtbot, eps=64.0)
    qtbot.waitUntil(lambda: page.panel.history.count() == 2, timeout=TIMEOUT)
    assert page.found.attack is not first.attack
    page.panel.history.setCurrentRow(0)
    assert page.found.attack is first.attack
    assert page.panel.request() == ("fgsm", first.attack.settings)
    assert np.array_equal(page.grid.adversarial.array, first.attack.images[0].transpose(1, 2, 0))
    page.gallery.step(1)
    assert page.panel.history.count() == 0
    page.gallery.step(-1)
    assert page.panel.history.count() == 2


def test_another_detector_or_rule_decides_at_once_without_the_engine(page, known, engine, monkeypatch, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    before = page.found.attack
    height = page.verdict.height()
    monkeypatch.setattr(engine, "submit", pytest.fail)
    page.panel.rule.setCurrentIndex(page.panel.rule.findData("graded"))
    assert page.found.attack is before
    assert (page.found.benign.rule, page.found.adversarial.rule) == ("graded", "graded")
    assert "chosen for tests" in page.verdict.evidence.text()
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("confidence"))
    assert page.panel.deciding == ("confidence", "graded")
    assert page.found.adversarial.detector == "confidence"
    assert page.verdict.sentence.text() == inspection.explain(page.found).text
    assert "f2 on the mask" in page.verdict.others.toolTip()
    assert "f1's confidence" in page.grid.adversarial_bars.toolTip()
    assert [page.panel.rule.itemData(k) for k in range(page.panel.rule.count())] == ["graded"]  # it has no class
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("constant-mask"))
    assert page.panel.deciding == ("constant-mask", "disagreement")  # it has no threshold
    assert page.found.benign.rule == "disagreement"
    assert page.verdict.height() == height


def test_a_detector_chosen_while_an_attack_runs_decides_on_its_result(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("fgsm", {"eps": 32.0})
    page.attack_now()
    said = page.verdict.sentence.text()
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("shuffled-mask"))
    assert page.verdict.sentence.text() == said  # "Attacking", not the verdict on the original
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    assert page.found.benign.detector == page.found.adversarial.detector == "shuffled-mask"
    assert page.verdict.sentence.text() == inspection.explain(page.found).text


def test_the_history_shows_an_attack_by_the_detector_that_is_chosen_now(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    page.panel.history.setCurrentRow(-1)
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("confidence"))
    page.panel.history.setCurrentRow(0)
    assert page.found.adversarial.detector == "confidence"


def test_the_attacker_may_know_the_detector(page, known, monkeypatch, qtbot):
    known_to_it, real = [], inspection.attacked

    def attacked(*given):
        known_to_it.append(given[-1])
        return real(*given)

    monkeypatch.setattr(inspection, "attacked", attacked)
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("deepfool", {})
    assert not page.panel.knows.isEnabled()
    assert page.panel.knows.toolTip().startswith("DeepFool cannot evade a detector. Choose FGSM")
    page.panel.knows.setChecked(True)
    assert page.panel.evade == ()
    page.panel.choose("pgd", {"eps": 64.0, "iterations": 10})
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("constant-mask"))
    assert not page.panel.knows.isEnabled()
    assert page.panel.knows.toolTip().startswith("No attack can evade f2 on a constant mask")
    assert page.panel.evade == ()
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("confidence"))
    assert page.panel.knows.isEnabled()
    assert page.panel.evade == ("confidence:graded",)
    page.attack_now()
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    assert known_to_it[-1] == ("confidence:graded",)
    line = page.panel.history.item(0).text()
    assert "PGD 64, evading confidence:graded" in line
    result = page.found.attack
    assert line.startswith("✔") is bool(result.success[0])
    assert result.evaded[0] == (not page.found.adversarial.adversarial[0])  # the same detector decides


def test_the_history_tells_rules_apart_and_brings_back_what_was_to_be_evaded(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    panel = page.panel
    panel.knows.setChecked(True)
    asked = []
    for rule in ("disagreement", "graded"):
        panel.rule.setCurrentIndex(panel.rule.findData(rule))
        attack(page, qtbot, eps=64.0)
        asked.append(panel.evade)
    assert asked == [("mask:disagreement",), ("mask:graded",)]
    names = [name for name, _ in page._history.fooled(page._state.entry)]
    assert names == ["FGSM 64, evading mask:disagreement", "FGSM 64, evading mask:graded"]
    panel.knows.setChecked(False)
    attack(page, qtbot, eps=64.0)
    panel.detector.setCurrentIndex(panel.detector.findData("confidence"))
    for row, evade in ((0, asked[0]), (2, ()), (1, asked[1])):
        panel.history.setCurrentRow(row)
        assert (panel.evade, page.found.evade) == (evade, evade)


def test_an_image_that_fooled_f1_but_was_flagged_is_shown(page, known, engine, monkeypatch, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    real = work.attack

    def flagged(*arguments):
        found = real(*arguments)
        changes = {"evaded": np.array([False]), "reason": np.array([FLAGGED]), "notes": ("It has no gradient.",)}
        return dataclasses.replace(found, attack=dataclasses.replace(found.attack, **changes))

    monkeypatch.setattr(work, "attack", flagged)
    attack(page, qtbot)
    assert not page.found.attack.success[0]
    assert page.grid.adversarial.array is not None
    assert page.saves.save.isEnabled()
    assert "but flagged by a detector" in page.panel.results.values["outcome"].text()
    assert page.panel.results.values["notes"].text() == "It has no gradient."
    assert page.panel.history.item(0).text().startswith("✘ FGSM 32 → ")
    assert "did not evade" in page.verdict.sentence.text()


def test_only_the_last_of_many_selected_images_is_shown(page, known, qtbot):
    show_set(page, known)
    for _ in range(4):
        page.gallery.step(1)
    settle(page, qtbot)
    qtbot.wait(150)
    assert page.found.name == known.names[4]
    assert np.array_equal(page.found.image, known.images[4])


def test_cancel_goes_back_to_the_benign_image(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    benign = page.found.benign
    page.panel.choose("cw", {"iterations": 100_000, "search_steps": 30, "confidence": 900.0})
    page.attack_now()
    assert page.panel.stop.isEnabled()
    assert not page.panel.button.isEnabled()
    assert "running" in page.panel.button.toolTip()
    qtbot.wait(300)
    with qtbot.waitSignal(page.message, timeout=5000):
        qtbot.mouseClick(page.panel.stop, Qt.MouseButton.LeftButton)
    assert page.found.attack is None
    assert np.array_equal(page.found.benign.p1, benign.p1)
    assert page.grid.adversarial.array is None
    assert page.verdict.word.text() != NOTHING
    assert page.panel.button.isEnabled()
    assert not page.panel.stop.isEnabled()
    assert page.panel.stop.toolTip() == "Nothing is running."


def test_selecting_another_image_drops_a_running_attack(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("cw", {"iterations": 100_000, "search_steps": 30, "confidence": 900.0})
    page.attack_now()
    qtbot.wait(100)
    page.gallery.step(1)
    settle(page, qtbot)
    assert page.found.name == known.names[1]
    assert page.found.attack is None


def test_the_saved_image_is_the_adversarial_one(page, known, qtbot, tmp_path):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    path = tmp_path / "adversarial.png"
    assert page.saves.save_image(path)
    assert np.array_equal(imaging.read(path, 32).pixels, page.found.attack.images[0])
    path.write_bytes(b"mine")
    assert not page.saves.save_image(path)
    assert path.read_bytes() == b"mine"
    assert "not overwritten" in page.messages[-1]
    assert page.saves.save_image(path, overwrite=True)
    # Dropped back into the window it gets the verdict it had.
    score = page.found.adversarial.score[0]
    page.open_paths([path])
    qtbot.waitUntil(lambda: page.found is not None and page.found.name == path.name, timeout=TIMEOUT)
    assert page.found.benign.score[0] == pytest.approx(score)


def test_saving_asks_for_a_path_and_may_be_given_up(page, known, qtbot, tmp_path, monkeypatch):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    monkeypatch.setattr(saving, "ask", lambda *_: None)
    assert not page.saves.save_image()
    asked = []
    monkeypatch.setattr(saving, "ask", lambda *a: asked.append(a[-2]) or tmp_path / "chosen.png")
    assert page.saves.save_image()
    assert asked[0].endswith("-fgsm.png")
    assert (tmp_path / "chosen.png").exists()
    assert not page.saves.save_image(tmp_path / "chosen.png" / "x.png")  # a folder that is a file
    assert "cannot be written" in page.messages[-1]


def test_export_writes_view_figure_and_record(page, known, qtbot, tmp_path):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    assert page.saves.export_view(tmp_path / "view.png")
    assert Image.open(tmp_path / "view.png").size[0] > 1500
    content = json.loads((tmp_path / "view.json").read_text(encoding="utf-8"))
    assert content["sentence"] == inspection.sentence(page.found)
    assert content["bundle"]["name"] == "untrained"
    assert content["attack"]["settings"]["eps"] == 32.0
    figure = (tmp_path / "view.svg").read_text(encoding="utf-8")
    assert ">FGSM 32</text>" in figure
    assert figure.count("<image ") == 4
    (tmp_path / "view.png").unlink()
    assert not page.saves.export_view(tmp_path / "view.png")
    assert "view.json exists already" in page.messages[-1]


def test_the_exported_figure_has_every_attack_on_the_image(page, known, qtbot, tmp_path):
    show_set(page, known)
    settle(page, qtbot)

    def succeeds(name, eps):
        before = page.panel.history.count()
        page.panel.choose(name, {"eps": eps})
        page.attack_now()
        qtbot.waitUntil(lambda: page.panel.history.count() == before + 1 and not page.busy, timeout=TIMEOUT)
        return page.found.attack.success[0]

    assert succeeds("fgsm", 32.0)
    assert succeeds("bim", 32.0)
    assert succeeds("bim", 32.0)  # the same once more is there once
    assert not succeeds("fgsm", 0.0)
    assert page.saves.export_view(tmp_path / "view.png")
    figure = (tmp_path / "view.svg").read_text(encoding="utf-8")
    assert re.findall(r">((?:original|FGSM|BIM)[ 0-9]*)</text>", figure) == ["original", "FGSM 32", "BIM 32"]
    assert figure.count("<image ") == 6


def test_copy_puts_the_view_on_the_clipboard(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.copy()
    assert QApplication.clipboard().image().width() > 1500


def test_files_are_added_and_bad_ones_are_told_in_one_message(page, qtbot, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "good.png")
    Image.fromarray(pixels).save(tmp_path / "second.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ("broken.png", "good.png", "empty.jpg", "second.png", "gone.png")
    page.open_paths([tmp_path / name for name in names])
    settle(page, qtbot)
    assert page.gallery.sets.currentText() == YOURS
    assert page.gallery.model.rowCount() == 2
    assert page.found.name == "good.png"
    assert page.found.label is None
    assert "48x64" in page.grid.headings[0].caption.toolTip()
    assert len(page.messages) == 1
    assert page.messages[0].startswith("3 of 5 were not opened")
    for name in ("broken.png", "empty.jpg", "gone.png"):
        assert name in page.messages[0]
    page.open_paths([tmp_path / "second.png"])
    qtbot.waitUntil(lambda: page.gallery.model.rowCount() == 3, timeout=TIMEOUT)
    assert page.gallery.current().name == "second.png"


def test_a_folder_of_pictures_and_a_data_set_open(page, qtbot, tmp_path):
    for place in ("loose", *(f"set/test/{name}" for name in CIFAR10.classes)):
        (tmp_path / place).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(tmp_path / place / f"{i}.png")
    page.open_paths([tmp_path / "loose"])
    qtbot.waitUntil(lambda: page.gallery.model.rowCount() == 2, timeout=TIMEOUT)
    page.open_paths([tmp_path / "set"])
    qtbot.waitUntil(lambda: page.gallery.model.rowCount() == 20, timeout=TIMEOUT)
    assert {page.gallery.model.collection.entry(i).label for i in range(20)} == set(range(10))
    settle(page, qtbot)
    assert page.grid.headings[0].caption.text() == "true class: airplane"


def test_a_bad_data_set_and_bad_bytes_are_told(page, qtbot, tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK nothing")
    page.open_paths([tmp_path / "data.zip"])
    qtbot.waitUntil(lambda: bool(page.messages), timeout=TIMEOUT)
    assert "data.zip" in page.messages[0]
    page.open_bytes(b"garbage", "clipboard")
    qtbot.waitUntil(lambda: len(page.messages) == 2, timeout=TIMEOUT)
    assert "clipboard" in page.messages[1]


def test_pasted_bytes_are_shown(page, qtbot):
    pixels = np.random.default_rng(2).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    page.open_bytes(imaging.png_bytes(pixels), "clipboard")
    settle(page, qtbot)
    assert np.array_equal(page.found.image, pixels)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_stored_pair_is_shown_with_fresh_verdicts(page, known, qtbot, tmp_path, labelled):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    made = page.found
    page.show_record(Entry(made.image, made.label if labelled else None, "row 17", adversarial=made.attacked_image))
    qtbot.waitUntil(lambda: page.found is not None and page.found.name == "row 17", timeout=TIMEOUT)
    assert page.gallery.sets.currentText() == RECORDS
    assert page.found.attack is None
    assert page.found.label == (made.label if labelled else None)
    assert page.found.reference == made.label  # without a label, what f1 says of the original
    assert page.found.distances == pytest.approx(made.distances)
    assert np.allclose(page.found.adversarial.p1, made.adversarial.p1, atol=1e-6)
    figures = page.panel.results.values
    after = made.classes[int(made.adversarial.y1[0])]
    assert figures["outcome"].text() == f"✔ {made.classes[made.label]} → {after}"
    assert figures["l2"].text() == f"{made.distances['l2']:.3f}"
    assert figures["cost"].text() == figures["seconds"].text() == "–"
    assert page.saves.export_view(tmp_path / "pair.png")
    content = json.loads((tmp_path / "pair.json").read_text(encoding="utf-8"))
    assert content["attack"] is None
    assert content["distances"]["linf"] == made.distances["linf"]
    assert (tmp_path / "pair.svg").read_text(encoding="utf-8").count("<image ") == 4


def test_all_panes_show_the_same_part(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    pane = page.grid.mask_change
    pane.view.scaleBy((0.4, 0.4), center=QPointF(8, 8))
    pane.view.sigRangeChangedManually.emit(pane.view.state["mouseEnabled"])
    rects = [p.view.viewRect() for p in page.grid.panes]
    whole = QRectF(0, 0, 32, 32)
    assert pane.view.targetRect() != whole
    for rect in rects:
        assert [rect.x(), rect.y(), rect.width(), rect.height()] == pytest.approx(
            [rects[0].x(), rects[0].y(), rects[0].width(), rects[0].height()],
            abs=1.5 * rects[0].width() / pane.width(),  # columns differ by a pixel of the screen where they must
        )
    qtbot.mouseDClick(pane.viewport(), Qt.MouseButton.LeftButton, pos=pane.viewport().rect().center())
    qtbot.waitUntil(lambda: all(p.view.targetRect() == whole for p in page.grid.panes), timeout=2000)


def test_the_values_under_the_cursor_are_told_for_all_panes(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    found = page.found
    page.grid.benign_mask.pixel_changed.emit((7, 20))
    text = page.grid.status.text()
    before, after = found.image[:, 7, 20].astype(int), found.attack.images[0][:, 7, 20].astype(int)
    assert "row 7, column 20" in text
    assert f"original {before[0]}, {before[1]}, {before[2]}" in text
    assert f"adversarial {after[0]}, {after[1]}, {after[2]}" in text
    assert f"difference {after[0] - before[0]:+d}, " in text
    looks = [1 - v.masks[0, 7, 20] for v in (found.benign, found.adversarial)]
    assert f"importance {looks[0]:.2f} → {looks[1]:.2f}" in text
    assert all(p._marks[0].isVisible() for p in page.grid.panes)
    page.grid.benign.pixel_changed.emit(None)
    assert not any(p._marks[0].isVisible() for p in page.grid.panes)


def test_the_magnification_can_be_chosen(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    page.grid.gain.setCurrentIndex(page.grid.gain.findData(2))
    assert np.array_equal(
        page.grid.difference.array,
        inspection.difference(page.found.image, page.found.attacked_image, 2).transpose(1, 2, 0),
    )
    page.grid.mask_scale.setCurrentIndex(page.grid.mask_scale.findData(0.1))
    assert page.grid.mask_change.item.getLevels().tolist() == [-0.1, 0.1]


def test_the_masks_can_be_laid_over_both_images(page, known, qtbot, tmp_path):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    grid, found = page.grid, page.found
    images = (found.image, found.attacked_image)

    def expected(opacity):
        masks = (found.benign.masks[0], found.adversarial.masks[0])
        return [inspection.overlay(i, m, opacity, COVER).transpose(1, 2, 0) for i, m in zip(images, masks, strict=True)]

    def shown():
        return [grid.benign.array, grid.adversarial.array]

    assert tuple(grid.benign_mask.item.getColorMap().map(0.0)[:3]) == COVER  # the colour of unimportant
    grid.opacity.setFocus()
    assert grid.opacity.focusPolicy() & Qt.FocusPolicy.TabFocus
    for _ in range(3):
        qtbot.keyClick(grid.opacity, Qt.Key.Key_Right)
    assert (grid.opacity.value(), grid.percent.text()) == (15, "15%")
    assert np.array_equal(shown(), expected(0.15))
    before = saving.png(saving.compose(page.saves._rows))
    qtbot.keyClick(grid.opacity, Qt.Key.Key_End)
    assert np.array_equal(shown(), expected(1))
    assert saving.png(saving.compose(page.saves._rows)) != before  # the exported view is what is seen
    page.saves.save_image(tmp_path / "plain.png")
    assert np.array_equal(imaging.read(tmp_path / "plain.png", 32).pixels, images[1])
    assert "original " + ", ".join(map(str, images[0][:, 3, 4])) in grid.values_at((3, 4))
    page.gallery.step(1)  # the next image is seen as it is until its mask is known, then under it
    assert np.array_equal(grid.benign.array, known.images[1].transpose(1, 2, 0))
    settle(page, qtbot)
    found, images = page.found, (page.found.image,)
    assert np.array_equal(
        grid.benign.array, inspection.overlay(images[0], found.benign.masks[0], 1, COVER).transpose(1, 2, 0)
    )
    qtbot.keyClick(grid.opacity, Qt.Key.Key_Home)
    assert np.array_equal(grid.benign.array, images[0].transpose(1, 2, 0))


def test_without_masks_there_is_nothing_to_lay_over(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.grid.opacity.setValue(50)
    page.grid.show_inspection(
        dataclasses.replace(page.found, benign=dataclasses.replace(page.found.benign, masks=None))
    )
    assert not page.grid.opacity.isEnabled()
    assert page.grid.opacity.toolTip() == NO_MASK
    assert np.array_equal(page.grid.benign.array, known.images[0].transpose(1, 2, 0))


def test_the_keyboard_attacks_and_steps(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    fill(page, QMenu(page), page.menu_rows())  # as the window does
    page.activateWindow()
    page.gallery.list.setFocus()
    qtbot.keyClick(page.gallery.list, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    assert page.gallery.current().name == known.names[1]
    settle(page, qtbot)
    page.panel.choose("fgsm", {"eps": 32.0})
    qtbot.keyClick(page.gallery.list, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    assert page.found.name == known.names[1]


def test_controls_have_names_and_disabled_ones_say_why(page):
    for kind in (QComboBox, QLineEdit):
        for widget in page.findChildren(kind):
            if (
                widget.isVisible()
                and not isinstance(widget.parent(), QComboBox)
                and "spinbox" not in widget.objectName()
            ):
                assert widget.accessibleName(), widget
    for button in page.findChildren(QPushButton):
        assert button.text()
        if button.isVisible():
            assert button.toolTip(), button.text()
    assert not page.panel.button.isEnabled()
    assert page.panel.button.toolTip() == "Select an image first."


def test_a_given_class_is_chosen_by_name_where_it_counts(page, known, qtbot):
    form = page.panel.form
    assert not form.editor("target_class").isEnabled()
    assert "given" in form.editor("target_class").toolTip()
    form.set_values({"target": "given"})
    assert form.editor("target_class").isEnabled()
    form.editor("target_class").setCurrentText("ship")
    assert page.panel.request()[1]["target_class"] == CIFAR10.classes.index("ship")
    page.panel.reset.click()
    assert not form.editor("target_class").isEnabled()


def test_before_the_models_are_there_the_page_waits(idle_engine, untrained_bundle, known_pixels, qtbot):
    page = InspectPage(idle_engine)
    qtbot.addWidget(page)
    show_set(page, known_pixels)
    assert "loading" in page.verdict.sentence.text()
    assert "loading" in page.panel.button.toolTip()
    page.attack_now()
    assert not idle_engine.busy
    with qtbot.waitSignal(idle_engine.ready, timeout=60_000):
        idle_engine.start(str(untrained_bundle), "cpu")
    settle(page, qtbot)
    assert page.verdict.word.text()


def test_models_that_cannot_be_loaded_are_told(idle_engine, known_pixels, tmp_path, qtbot):
    page = InspectPage(idle_engine)
    qtbot.addWidget(page)
    show_set(page, known_pixels)
    with qtbot.waitSignal(idle_engine.unavailable, timeout=60_000):
        idle_engine.start(str(tmp_path / "no bundle"), "cpu")
    assert "could not be loaded" in page.verdict.sentence.text()
    assert "no bundle" in page.verdict.evidence.text()
    assert "could not be loaded" in page.panel.button.toolTip()


@pytest.fixture
def known_pixels():
    return ImageSet(np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int64), "Test images")


def test_the_verdict_is_the_explanation_and_files_are_named_after_the_image(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    found = page.found
    failed = dataclasses.replace(
        found.attack,
        fooled=np.array([False]), evaded=np.array([False]), reason=np.array([NO_ADVERSARIAL]),
    )  # fmt: skip
    page._show(dataclasses.replace(found, attack=failed, attacked_image=None, adversarial=None))
    assert page.verdict.sentence.text().startswith("The attack found no adversarial image within its limits. ")
    assert saving.stem(dataclasses.replace(found, name="a/b c?.png")) == "b_c-fgsm"
