from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ciad_app import settings
from ciad_app.settings import Settings
from ciad_engine.errors import CiadError


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    assert settings.path() == tmp_path / "config" / "settings.json"
    return settings.path()


def write(file, text):
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")


def test_without_a_file_the_defaults(file, caplog):
    assert settings.load() == Settings()
    assert not caplog.records


def test_what_is_saved_is_loaded(file):
    kept = Settings(14, "dark", "AdnQ", "/a/földer", "Evaluate", True, "/a/bündle")
    assert settings.save(kept)
    assert settings.load() == kept
    assert [p.name for p in file.parent.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("text", ["{not json", "", "[1, 2]", "\x00\xff"])
def test_a_file_that_holds_no_settings_is_put_aside_and_does_not_stop_the_program(file, text, caplog):
    write(file, text)
    assert settings.load() == Settings()
    assert file.with_name("settings.json.bad").read_text(encoding="utf-8") == text
    assert "settings.json.bad" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [("font_size", 3), ("font_size", True), ("font_size", "14"), ("scheme", "pink"), ("geometry", 5), ("colour", 1)],
)
def test_one_bad_key_costs_only_itself(file, key, value, caplog):
    write(file, json.dumps({"last_folder": "/pictures", key: value}))
    assert settings.load() == Settings(last_folder="/pictures")
    assert key in caplog.text
    assert json.loads(file.with_name("settings.json.bad").read_text())[key] == value


def test_a_file_that_cannot_be_read_is_said_in_the_log(file, caplog):
    file.mkdir(parents=True)  # a folder in its place
    assert settings.load() == Settings()
    assert str(file) in caplog.text


def test_a_folder_that_cannot_be_written_is_said_in_the_log(file, caplog):
    file.parent.write_text("a file where the folder should be")
    assert not settings.save(Settings())
    assert str(file) in caplog.text


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user")
def test_a_read_only_home_does_not_stop_the_program(file):
    file.parent.mkdir()
    file.parent.chmod(0o500)
    try:
        assert not settings.save(Settings())
        assert settings.load() == Settings()
    finally:
        file.parent.chmod(0o700)


def test_without_the_variable_the_platforms_folder_is_used(own_folders, monkeypatch):
    monkeypatch.delenv(settings.FOLDER_VARIABLE, raising=False)
    assert settings.path() == own_folders / "config" / "settings.json"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000])
def test_no_file_is_too_strange(file, text, caplog):
    write(file, text)
    assert settings.load() == Settings()
    assert "settings.json.bad" in caplog.text


@pytest.mark.parametrize("key", ["geometry", "last_folder", "page", "bundle"])
@pytest.mark.parametrize("value", ["\ud800", "a\0b", "é\udcff"])
def test_half_a_character_costs_only_its_entry(file, key, value, caplog):
    write(file, json.dumps({"font_size": 14, key: value}))
    kept = settings.load()
    assert kept.font_size == 14
    for text in (kept.geometry, kept.last_folder, kept.page, kept.bundle):
        assert "\0" not in text or text.isascii()
        text.encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_huge_file_in_the_place_of_the_settings_is_said_in_the_log(file, caplog):
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    assert settings.load() == Settings()
    assert "not a regular file" in caplog.text
    file.unlink()
    file.symlink_to("/dev/zero")
    assert settings.load() == Settings()
    file.unlink()
    file.touch()
    os.truncate(file, 2**40)
    assert settings.load() == Settings()
    assert "far too much" in caplog.text


def test_reset_keeps_the_former_settings_beside_the_defaults(file):
    assert "There are no settings" in settings.reset()
    settings.save(Settings(font_size=20))
    assert str(file.with_name("settings.json.old")) in settings.reset()
    assert settings.load() == Settings()
    assert json.loads(file.with_name("settings.json.old").read_text())["font_size"] == 20


def test_settings_that_cannot_be_moved_are_named(file, monkeypatch):
    settings.save(Settings(font_size=20))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CiadError, match=r"settings\.json cannot be moved: Permission denied"):
        settings.reset()
