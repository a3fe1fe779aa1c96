"""The left side of the page: attacks with their forms, and the choice of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QComboBox, QFileDialog, QLabel

from ciad_app.evaluate.page import EvaluatePage
from ciad_engine import datasets
from tests.app.evaluate.conftest import close


def test_the_class_to_aim_at_is_chosen_by_name_and_only_where_one_is_asked_for(page):
    classes = page.engine.info.domain.classes
    row = page.panel.attacks.rows("jsma")[0]
    given, target = row.form.editor("target_class"), row.form.editor("target")
    assert isinstance(given, QComboBox)
    assert [given.itemText(k) for k in range(given.count())] == list(classes)
    assert not given.isEnabled()
    given.setCurrentIndex(4)
    assert classes[4] not in row.summary.text()  # of no effect
    target.setCurrentText("given")
    assert given.isEnabled()
    seed = row.form.editor("target_seed")
    assert not seed.isEnabled()
    target.setCurrentText("random")
    assert seed.isEnabled()
    assert not given.isEnabled()
    target.setCurrentText("given")
    assert row.summary.text().endswith(classes[4])
    assert row.summary.isVisibleTo(page)
    assert dict(page.panel.request().attacks)["jsma"]["target_class"] == 4
    target.setCurrentText("untargeted")
    assert dict(page.panel.request().attacks)["jsma"]["target_class"] == 0  # of no effect, so no other plan


def test_an_attack_at_its_defaults_takes_one_line(page):
    row = page.panel.attacks.rows("fgsm")[0]
    assert not row.summary.isVisibleTo(page)
    row.form.editor("eps").setValue(4)
    assert row.summary.isVisibleTo(page)
    assert row.summary.text() == "budget 4 /255"
    row.fold.click()
    assert not row.summary.isVisibleTo(page)  # the form says it
    row.fold.click()
    assert row.summary.isVisibleTo(page)
    row.form.reset()
    assert not row.summary.isVisibleTo(page)


def test_an_attack_can_be_chosen_several_times(page):
    attacks = page.panel.attacks
    attacks.choose([("fgsm", {"eps": 2.0})])
    (first,) = attacks.rows("fgsm")
    assert first.more.isVisibleTo(page)
    assert not first.less.isVisibleTo(page)
    first.more.click()
    _, second = attacks.rows("fgsm")
    assert second.less.isVisibleTo(second)
    assert second.form.isVisibleTo(second)
    assert not second.more.isVisibleTo(second)
    assert "chosen twice with the same settings" in page._state.wrong
    assert attacks.twice() == "FGSM"
    second.form.editor("eps").setValue(4)
    assert attacks.twice() == ""
    assert [(name, values["eps"]) for name, values in attacks.chosen()] == [("fgsm", 2.0), ("fgsm", 4.0)]
    assert attacks._layout.indexOf(second) == attacks._layout.indexOf(first) + 1
    second.form.reset()
    assert (first.summary.text(), second.summary.text()) == ("budget 2 /255", "budget 8 /255")  # though 8 is usual
    second.less.click()
    assert [values["eps"] for _, values in attacks.chosen()] == [2.0]
    assert attacks.rows("fgsm") == [first]


def test_choosing_keeps_the_order_in_which_attacks_are_computed(page):
    attacks = page.panel.attacks
    wanted = [("fgsm", {"eps": 8.0}), ("cw", {"confidence": 5.0}), ("fgsm", {"eps": 2.0}), ("cw", {"confidence": 0.0})]
    attacks.choose(wanted)
    said = [
        (name, {key: values[key] for key in given})
        for (name, values), (_, given) in zip(attacks.chosen(), wanted, strict=True)
    ]
    assert said == wanted
    attacks.rows("jsma")[0].tick.setChecked(True)
    assert [name for name, _ in attacks.chosen()] == ["fgsm", "cw", "fgsm", "cw", "jsma"]
    attacks.set_attacks(page.engine.info.attacks, page.engine.info.domain.classes)  # as when another bundle is loaded
    assert [name for name, _ in attacks.chosen()] == ["fgsm", "cw", "fgsm", "cw", "jsma"]
    attacks.choose(wanted[:1])
    assert len(attacks.rows("fgsm")) == len(attacks.rows("cw")) == 1
    assert [name for name, _ in attacks.chosen()] == ["fgsm"]


def test_another_bundle_changes_neither_ticks_nor_values(page):
    attacks = page.panel.attacks
    attacks.choose([("fgsm", {"eps": 2.0})])
    attacks.rows("cw")[0].form.set_values({"confidence": 5.0})
    attacks.set_attacks(page.engine.info.attacks, page.engine.info.domain.classes)
    assert [(name, values["eps"]) for name, values in attacks.chosen()] == [("fgsm", 2.0)]
    assert attacks.rows("cw")[0].values()["confidence"] == 5.0
    assert attacks.rows("cw")[0].summary.text() == "confidence 5"


def test_a_class_the_other_bundle_lacks_is_no_longer_aimed_at(page):
    attacks, classes = page.panel.attacks, page.engine.info.domain.classes
    attacks.choose([("fgsm", {"eps": 2.0, "target": "given", "target_class": 7})])
    attacks.rows("cw")[0].form.set_values({"target": "given", "target_class": 7})
    attacks.rows("jsma")[0].form.set_values({"target": "given", "target_class": 2})
    attacks.set_attacks(page.engine.info.attacks, classes[:5])
    shown = {name: attacks.rows(name)[0].values() for name in ("fgsm", "cw", "jsma")}
    assert {name: (values["target"], values["target_class"]) for name, values in shown.items()} == {
        "fgsm": ("untargeted", 0),
        "cw": ("untargeted", 0),
        "jsma": ("given", 2),
    }
    assert shown["fgsm"]["eps"] == 2.0


def test_summaries_and_hints_are_quiet_but_not_disabled(page):
    hint = next(label for label in page.results.rows.findChildren(QLabel) if "Double-click" in label.text())
    for label in (page.panel.attacks.rows("fgsm")[0].summary, hint):
        assert label.isEnabled()
        assert label.foregroundRole() == QPalette.ColorRole.PlaceholderText


@pytest.mark.parametrize("button", ["folder", "file"])
def test_dialogs_begin_where_one_was_last_and_tell_where_they_ended(
    engine, database_path, tiny_data, tmp_path, button, monkeypatch, qtbot
):
    page = EvaluatePage(engine, str(tmp_path / "last"), database_path)
    qtbot.waitUntil(lambda: page._database is not None)
    begun, used = [], []
    page.folder_used.connect(used.append)

    def folder(parent, title, start):
        begun.append(start)
        return str(tiny_data.parent)

    def file(parent, title, start, kinds):
        begun.append(start)
        return str(tiny_data), kinds

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", folder)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", file)
    getattr(page.panel.data, button).click()
    assert begun == [str(tmp_path / "last")]
    assert used == [str(tiny_data.parent)]
    qtbot.waitUntil(lambda: not page.loader.busy, timeout=30_000)
    news = SimpleNamespace(run=SimpleNamespace(key="", short=""), card=None)
    monkeypatch.setattr(page, "_news", news)  # there is something to export
    monkeypatch.setattr("ciad_app.evaluate.page.ask_folder", lambda parent, title, start: begun.append(start))
    page.export()
    assert begun[1:] == used
    monkeypatch.setattr(page, "_news", None)
    close(page)
    assert Path(used[0]).is_dir()


def test_samples_are_loaded_once_somebody_looks_at_the_page(
    engine, database_path, tiny_data, tiny_set, monkeypatch, qtbot
):
    monkeypatch.setattr(engine, "info", dataclasses.replace(engine.info, has_samples=True))
    monkeypatch.setattr(datasets, "choose", lambda text, job: tiny_set)
    page = EvaluatePage(engine, "", database_path)
    assert not page.loader.busy
    page.show()
    qtbot.waitUntil(lambda: page.loader.data is tiny_set, timeout=30_000)
    assert page.panel.data.samples.isChecked()
    page.panel.data.cifar.click()  # no path yet: nothing is loaded
    page.hide()
    page.show()
    assert page.loader.data is None
    assert page.panel.data.cifar.isChecked()
    close(page)
