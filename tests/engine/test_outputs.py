"""What may be written where: never over an input, through links, with the mode that a file has."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciad_engine import files, outputs
from ciad_engine.errors import OutputError

POSIX = pytest.mark.skipif(os.name == "nt", reason="links and modes are others there")


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444, 0o755])
def test_the_mode_of_an_existing_file_is_kept(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"old")
    path.chmod(mode)
    files.write_whole(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]


@POSIX
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(there: bool, tmp_path: Path) -> None:
    target, middle, link = tmp_path / "far" / "target", tmp_path / "middle", tmp_path / "link"
    middle.symlink_to("far/target")
    link.symlink_to(middle)
    if there:
        target.parent.mkdir()
        target.write_bytes(b"old")
    files.write_whole(link, b"new")
    assert (link.is_symlink(), middle.is_symlink(), target.is_symlink()) == (True, True, False)
    assert target.read_bytes() == b"new"


@POSIX
def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="ymbolic"):
        files.write_whole(path, b"new")
    with pytest.raises(OutputError, match="cannot be written"):
        outputs.check_file(path)


@POSIX
def test_a_device_is_no_file_to_replace() -> None:
    files.write_whole(Path(os.devnull), b"new")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    outputs.check_file(Path(os.devnull))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 255), st.sampled_from("aé模"))
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, length: int, sign: str) -> None:
    name = sign * max(1, length // len(sign.encode()))
    files.write_whole(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())


def aliases(path: Path) -> dict[str, Path]:
    """Other paths of a file."""
    (path.parent / "symbolic").symlink_to(path)
    (path.parent / "hard").hardlink_to(path)
    (path.parent / "folder").symlink_to(path.parent, target_is_directory=True)
    return {
        "itself": path,
        "symbolic": path.parent / "symbolic",
        "hard": path.parent / "hard",
        "folder": path.parent / "folder" / path.name,
        "spelling": path.parent / "folder" / ".." / path.parent.name / path.name,
    }


@POSIX
@pytest.mark.parametrize("alias", ["itself", "symbolic", "hard", "folder", "spelling"])
def test_an_input_is_recognised_whatever_it_is_called(alias: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "cat.png"
    path.parent.mkdir()
    path.write_bytes(b"cat")
    other = aliases(path)[alias]
    with pytest.raises(OutputError, match="one of the files that are read"):
        outputs.check_file(other, [path])
    with pytest.raises(OutputError, match="one of the files that are read"):
        outputs.check_folder(path.parent, [other], [".png"])
    outputs.check_file(other, [tmp_path / "missing"])
    outputs.check_folder(path.parent, [other], [".csv"])


def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (
        tmp_path / "file" / "x",
        tmp_path / "file" / "x" / "y",
        tmp_path,
        tmp_path / ("n" * 300),
        Path("a\0b"),
    ):
        with pytest.raises(OutputError):
            outputs.check_file(path)
    for folder in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError):
            outputs.check_folder(folder)
    outputs.check_file(tmp_path / "new" / "newer" / "x")
    outputs.check_folder(tmp_path / "new" / "newer")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which nobody may write")
@pytest.mark.parametrize("folder", ["/proc", "/proc/self/new"])
def test_a_folder_that_takes_no_file_is_refused(folder: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        outputs.check_folder(Path(folder))
    with pytest.raises(OutputError, match="cannot be written"):
        outputs.check_file(Path(folder) / "x")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    for path in (locked, locked / "new"):
        with pytest.raises(OutputError, match="Permission denied"):
            outputs.check_folder(path)
