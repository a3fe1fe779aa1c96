"""What is dropped on the window or pasted into it, and where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray, QMimeData, QPoint, QPointF, Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QWidget

from ciad_app import incoming
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_engine.errors import ImageError
from tests.app.steps import actions, picture, urls


def drop(window, data):
    enter = QDragEnterEvent(  # a person's come from the platform; this constructor is the one there is
        QPoint(50, 50), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    enter.ignore()
    QApplication.sendEvent(window, enter)
    if enter.isAccepted():
        place = QPointF(50, 50)
        event = QDropEvent(
            place, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(window, event)
    return enter.isAccepted()


def test_dropped_files_and_folders_reach_inspect_from_any_page(window, opened, tmp_path):
    window.show_page(EvaluatePage)
    file = tmp_path / "a cat.png"
    picture().save(str(file))
    assert drop(window, urls(file, tmp_path))
    assert opened == [[file, tmp_path]]
    assert window.pages.currentIndex() == 0
    assert window.settings.last_folder == str(tmp_path)


def test_no_part_of_a_page_keeps_a_drop_for_itself(window, untrained_bundle, qtbot):
    window.show_page(EvaluatePage)
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    qtbot.wait(20)
    keep = [w for w in window.pages.findChildren(QWidget) if w.acceptDrops()]
    assert keep == []


def test_a_dropped_picture_without_a_file_is_taken_as_it_was_encoded(window, opened):
    raw = incoming.read(_image_data()).picture
    data = QMimeData()
    data.setData("image/png", QByteArray(raw))
    assert drop(window, data)
    assert opened == [(raw, "dropped picture")]


def test_a_remote_address_is_explained_and_with_a_picture_the_picture_counts(window, opened):
    assert drop(window, urls("https://example.org/cat.png"))
    assert opened == []
    assert "example.org" in window.statusBar().currentMessage()
    both = urls("https://example.org/cat.png")
    both.setImageData(picture())
    assert drop(window, both)
    assert opened[0][0].startswith(b"\x89PNG")


def test_text_is_not_welcome(window, opened):
    data = QMimeData()
    data.setText("no picture")
    assert not drop(window, data)
    assert opened == []


def _image_data():
    data = QMimeData()
    data.setImageData(picture())
    return data


def test_paste_takes_a_picture_and_says_when_there_is_none(window, opened):
    QApplication.clipboard().setImage(picture("blue"))
    actions(window)["Paste"].trigger()
    assert opened[0][1] == "pasted picture"
    assert opened[0][0].startswith(b"\x89PNG")
    QApplication.clipboard().setText("only text")
    actions(window)["Paste"].trigger()
    assert len(opened) == 1
    assert "no picture" in window.statusBar().currentMessage()


def test_nothing_in_a_drop_is_an_error_for_a_person():
    with pytest.raises(ImageError, match="no picture"):
        incoming.read(QMimeData())


def test_an_opened_file_arrives_in_the_gallery(window, tmp_path, untrained_bundle, qtbot):
    """Through the real page and the real engine."""
    path = tmp_path / "blue.png"
    picture("blue").save(str(path))
    window.engine.start(str(untrained_bundle), "cpu")
    window.open_paths([path])
    qtbot.waitUntil(lambda: window.page(InspectPage).found is not None, timeout=60_000)
    assert window.page(InspectPage).found.name == "blue.png"
    assert window.page(InspectPage).found.image[2].min() == 255


def test_a_dropped_folder_that_may_not_be_entered_is_no_crash(window, opened, monkeypatch, tmp_path):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)  # as it does inside a folder that may not be entered
    window.open_paths([tmp_path / "locked" / "cat.png"])
    assert opened == [[tmp_path / "locked" / "cat.png"]]


def test_one_remote_address_among_files_leaves_the_files(window, opened, tmp_path):
    file = tmp_path / "a cat.png"
    picture().save(str(file))
    drop(window, urls("https://example.org/cat.png", file))
    assert opened == [[file]]
    assert "Not everything was opened" in window.statusBar().currentMessage()


def test_a_data_set_dropped_on_evaluate_is_chosen_there_and_pictures_are_inspected(window, opened, tmp_path):
    window.show_page(EvaluatePage)
    archive, folder, picture_file = tmp_path / "cifar.tar.gz", tmp_path / "set", tmp_path / "cat.png"
    archive.write_bytes(b"")
    (folder / "test" / "cat").mkdir(parents=True)
    picture().save(str(picture_file))
    for data_set in (archive, folder):
        drop(window, urls(data_set))
        assert window.page(EvaluatePage).panel.data.path == str(data_set)
        assert window.pages.currentIndex() == 1
    assert opened == []
    drop(window, urls(picture_file))
    window.show_page(EvaluatePage)
    drop(window, urls(tmp_path))  # there is a picture in it
    assert opened == [[picture_file], [tmp_path]]


def test_a_dropped_bundle_is_loaded(window, opened, untrained_bundle, qtbot):
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    drop(window, urls(untrained_bundle))
    assert "in use already" in window.statusBar().currentMessage()
    assert opened == []
