"""Reading only files of a reasonable size; writing so that neither a crash nor a power loss leaves half of one."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from ciad_engine import files
from ciad_engine.counting import disk_size


class Disk:
    """What a power loss leaves: names as they were when their folder was synced, content as the file was synced."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.content: dict[int, bytes] = {}  # by inode
        self.names = self._now()
        for name in self.names:
            self.content[self.names[name]] = (folder / name).read_bytes()
        real = os.fsync

        def fsync(number: int) -> None:
            real(number)
            found = os.fstat(number)
            if os.path.isdir(f"/proc/self/fd/{number}"):  # noqa: PTH112
                self.names = self._now()
            else:
                self.content[found.st_ino] = Path(f"/proc/self/fd/{number}").read_bytes()

        monkeypatch.setattr(os, "fsync", fsync)

    def _now(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.folder.iterdir() if path.is_file()}

    def after_a_power_loss(self) -> dict[str, bytes]:
        return {name: self.content.get(inode, b"") for name, inode in self.names.items()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_file_that_was_written_outlasts_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    disk = Disk(tmp_path, monkeypatch)
    assert disk.after_a_power_loss() == {"a": b"old"}
    files.write_whole(tmp_path / "a", b"new")
    assert disk.after_a_power_loss() == {"a": b"new"}
    files.write_whole(tmp_path / "b", b"other")
    assert disk.after_a_power_loss() == {"a": b"new", "b": b"other"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, full)
        with pytest.raises(OSError, match="No space left"):
            files.write_whole(path, b"new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"old"}
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_system_that_cannot_sync_can_still_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unable)
    files.write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_leftovers_of_killed_writers_go_when_they_are_surely_old(tmp_path: Path) -> None:
    names = {
        ".a.123.part": 0,
        ".b.c.9.part": 0,
        ".new.77.part": None,
        "archive.part": 0,
        ".a.part": 0,
        ".a.1.part.x": 0,
    }
    for name, age in names.items():
        (tmp_path / name).write_bytes(b"half")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    files.write_whole(tmp_path / "a", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".new.77.part", "archive.part", ".a.part", ".a.1.part.x"}


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="far too much"):
        files.read_bounded(tmp_path / "a", 4)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    for path, what in ((tmp_path / "huge", "far too much"), (tmp_path, "directory"), (tmp_path / "no", "No such")):
        with pytest.raises(OSError, match=what):
            files.read_bounded(path, 2**20)
        with pytest.raises(OSError, match=what):
            files.check_regular(path, 2**20)
    with pytest.raises(OSError, match="cannot be the name"):
        files.read_bounded(Path("a\0b"), 2**20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_bounded(path, 2**20)
    # It was put there between the look and the opening: that must not block, either.
    monkeypatch.setattr(files, "_looked_at", lambda path: os.stat(__file__))  # noqa: PTH116

    def read() -> None:
        with pytest.raises(OSError, match="not a regular file"):
            files.read_bounded(tmp_path / "pipe", 2**20)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(20)
    assert not reader.is_alive()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a file of the system that says it is empty")
def test_a_file_that_says_it_is_empty_is_bounded_too() -> None:
    assert files.read_bounded(Path("/proc/self/maps"), 2**24)
    with pytest.raises(OSError, match="far too much"):
        files.read_bounded(Path("/proc/self/maps"), 10)


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inside" / "b").write_bytes(b"12")
    assert [files.size_of(tmp_path / name) for name in ("a", ".", "no")] == [3, 5, 0]
    assert [disk_size(n) for n in (0, 1, 999, 1000, 999_960, 12_345_678, 3 * 10**9)] == [
        "0 bytes", "1 byte", "999 bytes", "1.0 kB", "1.0 MB", "12.3 MB", "3.0 GB",
    ]  # fmt: skip
