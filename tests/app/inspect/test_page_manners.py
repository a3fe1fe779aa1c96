"""What page Inspect does where other work goes first, where something is cancelled, and with what lies about."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import Qt

from ciad_app.inspect import saving
from ciad_app.inspect.collection import Entry
from ciad_app.inspect.results import Results
from ciad_engine import attacks, counting
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set

LONG = {"iterations": 100_000, "search_steps": 30, "confidence": 900.0}


@pytest.fixture
def other_work(engine):
    """Work that holds the engine thread until `set` is called."""
    go_on = threading.Event()

    def work(session, job):
        while not go_on.wait(0.01):
            job.checkpoint()

    go_on.task = engine.submit(work, lambda _: None, text="Evaluating")
    yield go_on
    go_on.set()


def click(list_, index, qtbot):
    place = list_.visualRect(index).center()
    qtbot.mouseClick(list_.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_an_image_is_looked_at_and_attacked_while_other_work_runs(page, known, other_work, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    assert page.found.attack is not None
    page.panel.choose("cw", LONG)
    page.attack_now()
    assert "Attacking" in page.verdict.sentence.text()
    assert "Attacking" in page.grid.adversarial.hint
    page.cancel()
    settle(page, qtbot)
    assert not other_work.task.finished
    assert not other_work.task.cancelling


def test_both_images_of_a_stored_pair_are_shown_while_other_work_runs(page, known, other_work, qtbot):
    image = known.images[0]
    changed = np.where(image > 100, image - 3, image + 2).astype(np.uint8)
    page.show_record(Entry(image, int(known.labels[0]), "row 5", adversarial=changed))
    assert np.array_equal(page.grid.benign.array, image.transpose(1, 2, 0))
    assert np.array_equal(page.grid.adversarial.array, changed.transpose(1, 2, 0))
    moved = changed.astype(int) - image
    assert np.array_equal(page.grid.difference.array, (128 + 16 * moved).astype(np.uint8).transpose(1, 2, 0))
    page.grid.gain.setCurrentIndex(page.grid.gain.findData(4))
    assert np.array_equal(page.grid.difference.array, (128 + 4 * moved).astype(np.uint8).transpose(1, 2, 0))
    assert "difference" in page.grid.values_at((3, 4))
    settle(page, qtbot)
    assert page.grid.adversarial_mask.array is not None
    assert not other_work.task.finished


def test_a_stored_pair_that_does_not_fool_f1_is_shown_and_says_so(page, known, qtbot):
    """Such are rows of the transferred setting."""
    image, label = known.images[0], int(known.labels[0])
    changed = image.copy()
    changed[0, 5, 5] ^= 1
    page.show_record(Entry(image, label, "row 6", adversarial=changed))
    settle(page, qtbot)
    assert page.found.adversarial.y1[0] == label
    assert np.array_equal(page.grid.adversarial.array, changed.transpose(1, 2, 0))
    assert page.panel.results.values["outcome"].text() == f"✘ f1 still says {page.found.classes[label]}"
    assert page.verdict.sentence.text().startswith("The attacked image does not fool the classifier")
    assert page.verdict.word.text() in ("ADVERSARIAL", "BENIGN")  # neither missed nor a false alarm
    assert page.grid.headings[1].sign.kind == page.verdict.word.text()


def test_after_a_cancelled_attack_the_history_answers_again(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    first = page.found
    page.panel.choose("cw", LONG)
    page.attack_now()
    page.cancel()
    qtbot.waitUntil(lambda: not page.busy, timeout=TIMEOUT)
    assert page.found.attack is None
    history = page.panel.history
    click(history, history.model().index(0, 0), qtbot)
    assert page.found.attack is first.attack
    assert page.grid.adversarial.array is not None


def test_the_focus_alone_chooses_neither_an_attack_nor_an_image(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    page.panel.choose("cw", LONG)
    page.attack_now()
    for widget in (page.panel.history, page.gallery.list):
        widget.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.wait(20)
    assert page.busy
    page.cancel()
    qtbot.waitUntil(lambda: not page.busy, timeout=TIMEOUT)


def test_after_a_cancelled_look_a_click_on_the_image_looks_again(page, known, other_work, qtbot):
    show_set(page, known)
    qtbot.waitUntil(lambda: page.busy, timeout=TIMEOUT)
    page.cancel()
    qtbot.waitUntil(lambda: "Cancelled" in page.verdict.sentence.text(), timeout=TIMEOUT)
    assert page.found is None
    click(page.gallery.list, page.gallery.list.currentIndex(), qtbot)
    other_work.set()
    settle(page, qtbot)


def test_a_click_on_the_image_that_is_attacked_leaves_the_attack_alone(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("cw", LONG)
    page.attack_now()
    click(page.gallery.list, page.gallery.list.currentIndex(), qtbot)
    page.gallery.text.setText("no image is called like that")
    page.gallery.text.clear()
    qtbot.wait(20)
    assert page.busy
    assert page.gallery.current().name == known.names[0]
    page.cancel()
    qtbot.waitUntil(lambda: not page.busy, timeout=TIMEOUT)


def test_exporting_again_under_the_same_name_replaces_all_files(page, known, qtbot, tmp_path, monkeypatch):
    show_set(page, known)
    settle(page, qtbot)
    target = tmp_path / "view.png"
    monkeypatch.setattr(saving, "ask", lambda *_: target)  # the dialog has asked whether to overwrite
    used = []
    page.folder_used.connect(used.append)
    assert page.saves.export_view()
    (tmp_path / "view.json").write_text("old")
    assert page.saves.export_view()
    assert "sentence" in (tmp_path / "view.json").read_text(encoding="utf-8")
    assert used == [str(tmp_path)] * 2
    target.unlink()  # now the dialog had nothing to ask about, and what lies beside it is somebody else's
    for name in ("view.json", "view.svg"):
        (tmp_path / name).write_text("mine")
        assert not page.saves.export_view()
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_a_folder_that_may_not_be_read_is_told_and_the_others_open(page, qtbot, tmp_path, monkeypatch):
    for name in ("open", "locked"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name / "a.png")
    real = Path.iterdir

    def iterdir(path):
        if path.name == "locked":  # the tests may run as root, who may read everything
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    page.open_paths([tmp_path / "locked", tmp_path / "open"])
    settle(page, qtbot)
    assert page.found.name == "a.png"
    (message,) = page.messages
    assert "locked" in message
    assert "Permission denied" in message


def test_the_title_of_the_result_names_an_attack_with_an_ampersand(qtbot):
    results = Results()
    qtbot.addWidget(results)
    results.show_figures({}, attacks.title("cw"))
    assert results.title() == "Result of C&&W"


def test_percentages_are_those_of_the_sentences():
    from ciad_app.widgets.probability_bars import percent

    for value in (0.0, 0.004, 0.012, 0.5, 0.991, 0.9951, 0.9999, 1.0):
        assert percent(value) == counting.percent(value)


def test_another_image_during_an_attack_cancels_it_and_that_is_said(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("cw", LONG)
    page.attack_now()
    said, name = [], page._state.entry.name
    page.message.connect(said.append)
    page.gallery.step(1)
    assert said == [f"The attack on {name} was cancelled: another image was selected."]
    settle(page, qtbot)
    page.gallery.step(1)
    assert len(said) == 1


def test_a_stored_attack_stands_in_the_form_and_among_the_attacks(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.panel.choose("fgsm", {"eps": 24.0})
    attack(page, qtbot)
    made = page.found
    assert made.attacked_image is not None
    page.panel.choose("jsma", {})
    stored = Entry(made.image, made.label, "row 7", adversarial=made.attacked_image, attack=made.attack)
    stored = dataclasses.replace(stored, bundle=page.engine.info.card.checksum)
    page.show_record(stored)
    settle(page, qtbot)
    assert page.panel.request() == ("fgsm", made.attack.settings)
    assert page.panel.results.title() == "Result of FGSM"
    assert page.panel.results.values["cost"].text().startswith(f"{made.attack.forwards[0]}")
    assert page._history.lines(stored) == page._history.lines(Entry(made.image, made.label, made.name))
    page._select(stored)
    settle(page, qtbot)
    assert len(page._history.lines(stored)) == 1


def test_data_sets_of_the_same_title_stay_apart(page, known, qtbot):
    other = dataclasses.replace(known, images=255 - known.images, checksum="")
    assert other.checksum != known.checksum
    for chosen in (known, other, known, other):
        show_set(page, chosen)
        assert np.array_equal(page.gallery.model.collection.images, chosen.images)
    titles = [page.gallery.sets.itemText(k) for k in range(page.gallery.sets.count())]
    assert titles == [known.source, f"{known.source} (2)"]


def test_a_stored_attack_on_another_bundle_is_not_shown_as_one_on_this(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    made = page.found
    stored = Entry(made.image, made.label, "row 8", adversarial=made.attacked_image, attack=made.attack, bundle="other")
    page.show_record(stored)
    settle(page, qtbot)
    assert page.found.attack is None
    assert page.found.adversarial is not None
    assert page._history.lines(stored) == []
