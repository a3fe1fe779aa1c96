"""`ciad harmless`: the table on the screen, in a file and beside the card."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from ciad_engine import bundles
from ciad_engine.evaluation.harmless import CHANGES

Ciad = Callable[..., tuple[int, str, str]]


def test_the_table_is_printed_written_and_recorded(ciad: Ciad, bundle: Path, folders: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(bundle, own)
    file = tmp_path / "new" / "table.csv"
    words = ("harmless", "--bundle", own, "--data", folders, "--seed", 3)
    code, text, err = ciad(*words, "--csv", file, "--record")
    assert code == 0, err
    assert text.startswith("Harmless changes\n")
    assert "n = 30 images, seed 3" in " ".join(text.split())
    lines = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert [line["attack"] for line in lines if line["detector"] == "mask"] == [change.name for change in CHANGES]
    assert {(line["bundle"], line["seed"]) for line in lines} == {("tiny", "3")}
    (entry,) = bundles.read_card(own).evaluations()
    assert f"Wrote {own / 'evaluations' / entry['run'][:12]}.json." in err
    assert entry["command"] == "ciad harmless --bundle BUNDLE --data PATH --limit 30 --seed 3"
    code, shown, err = ciad("bundles", "show", own)
    assert code == 0, err
    assert "Harmless changes: 30 images of " in shown


def test_without_being_asked_it_writes_nothing(ciad: Ciad, bundle: Path, folders: Path) -> None:
    code, text, err = ciad("harmless", "--bundle", bundle, "--data", folders, "--limit", 20)
    assert code == 0, err
    assert "n = 20 images, seed 0" in " ".join(text.split())
    assert not (bundle / "evaluations").exists()


def test_wrong_words_are_found_before_anything_is_computed(ciad: Ciad, bundle: Path, tmp_path: Path) -> None:
    code, _, err = ciad("harmless", "--bundle", bundle, "--csv", tmp_path)
    assert code == 2
    assert f"--csv: {tmp_path} is a folder; name a file." in err
    code, _, err = ciad("harmless", "--bundle", bundle, "--limit", 0)
    assert code == 2
    assert "'0' is not a whole number from 1" in err


def test_more_images_than_there_are(ciad: Ciad, bundle: Path, folders: Path) -> None:
    code, _, err = ciad("harmless", "--bundle", bundle, "--data", folders, "--limit", 31)
    assert code == 1
    assert "limit = 31 is not a number from 1 to 30" in err
