"""Writing what page Inspect shows: whole, and never over a file that was opened."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ciad_app.inspect import saving, work
from ciad_app.worker import Session
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import CiadError
from ciad_engine.jobs import Job


@pytest.mark.parametrize("where", ["itself", "beside", "link"])
def test_a_file_that_was_opened_is_not_written_over(where, tmp_path):
    opened = tmp_path / "cat.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(opened)
    before = opened.read_bytes()
    files = work.open_paths([opened], Session(), Job()).files
    assert files == (opened,)
    path = {"itself": opened, "beside": tmp_path / "cat.svg", "link": tmp_path / "other.png"}[where]
    if where == "link":
        path.hardlink_to(opened)
    with pytest.raises(CiadError, match="one of the files that are read"):
        saving.write(path, {path.suffix: b"new", ".png" if where == "beside" else ".json": b"new"}, True, files)
    assert opened.read_bytes() == before
    assert not list(tmp_path.glob("*.json"))
    assert not list(tmp_path.glob("*.svg"))


def test_a_data_set_that_was_opened_is_known_by_its_files(tmp_path):
    for name in CIFAR10.classes:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "data" / name / "0.png")
    files = work.open_paths([tmp_path / "data"], Session(), Job()).files
    assert set(files) == set(tmp_path.glob("data/*/0.png"))
