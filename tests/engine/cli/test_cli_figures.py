"""`ciad figures` writes the paper's figures, and says where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ciad_engine.evaluation import planning

Ciad = Callable[..., tuple[int, str, str]]

NAMES = {f"figure{number}.{suffix}" for number in (1, 3, 4, 5, 6) for suffix in ("png", "svg")}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's attacks, C&W with few steps."""
    fgsm, jsma, (cw, settings) = planning.PRESETS["paper"]
    short = {**settings, "iterations": 30, "search_steps": 3, "initial_c": 0.1}
    monkeypatch.setitem(planning.PRESETS, "paper", (fgsm, jsma, (cw, short)))


def test_all_figures_in_both_forms(ciad: Ciad, tmp_path: Path) -> None:
    code, out, err = ciad("figures", "--out", tmp_path / "new", "--seed", 1)
    assert code == 0, err
    assert {path.name for path in (tmp_path / "new").iterdir()} == NAMES
    assert out.startswith("Wrote figure1.png, ")
    assert (tmp_path / "new" / "figure3.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_what_cannot_be_shown_is_left_out_and_nothing_older_stands_in_for_it(
    ciad: Ciad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figure3.svg").write_text("of another bundle")
    (tmp_path / "figure1.png").write_text("of another bundle")
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.setitem(planning.PRESETS, "paper", (("fgsm", {"eps": 0.0}),))
    code, out, err = ciad("figures", "--out", tmp_path)
    assert code == 1
    assert out == f"Wrote figure1.png, figure1.svg, figure4.png, figure4.svg to {tmp_path}.\n"
    assert "Figures 3, 5 and 6 are left out" in err
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"figure1.png", "figure1.svg", "figure4.png", "figure4.svg", "mine.txt"}
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written(ciad: Ciad, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, err = ciad("figures", "--out", tmp_path / "file")
    assert code != 0
    assert "file" in err
    assert (tmp_path / "file").read_text() == "mine"
