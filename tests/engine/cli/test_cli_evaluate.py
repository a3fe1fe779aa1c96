"""`ciad evaluate` and `ciad runs`: a small data set of class-named folders, an untrained system."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ciad_engine import bundles, runs
from ciad_engine.evaluation import runner
from ciad_engine.jobs import Job

Ciad = Callable[..., tuple[int, str, str]]


@pytest.fixture
def words(bundle: Path, folders: Path, tmp_path: Path) -> list[object]:
    """A command of a few seconds: 12 images through FGSM."""
    database = tmp_path / "runs.sqlite"
    return [
        "evaluate",
        "--attacks",
        "fgsm",
        "--data",
        folders,
        "--bundle",
        bundle,
        "--limit",
        12,
        "--database",
        database,
    ]


def only_run(words: list[object]) -> runs.Run:
    with runs.Database(Path(str(words[-1]))) as database:
        (run,) = database.runs()
    return run


def test_evaluate_prints_tables_and_says_where_the_rows_are(ciad: Ciad, words: list[object]) -> None:
    code, text, err = ciad(*words, "--eps", 4)
    assert code == 0, err
    run = only_run(words)
    assert run.finished
    assert run.plan["attacks"] == [{"name": "fgsm", "settings": run.plan["attacks"][0]["settings"]}]
    assert run.plan["attacks"][0]["settings"]["eps"] == 4
    assert (run.plan["limit"], run.plan["seed"], run.plan["official"]) == (12, 0, False)
    for title in ("Table 1", "Table 2", "Detectors compared", "Table 4", "Attacks"):
        assert f"{title}: " in text
    assert f"ciad runs export {run.short} --csv DIR --database {words[-1]}" in text
    assert "12 images" in err


def test_the_same_command_again_computes_nothing_more(ciad: Ciad, words: list[object]) -> None:
    first = ciad(*words)
    seconds = only_run(words).seconds
    code, text, err = ciad(*words)
    assert (code, text) == first[:2]
    assert f"Run {only_run(words).short} is complete already." in err
    assert only_run(words).seconds == seconds


def test_a_cancelled_run_is_continued_by_the_same_command(
    ciad: Ciad, words: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = runner.run
    stored: list[int] = []

    def interrupted(plan, system, data, database, job: Job):  # type: ignore[no-untyped-def]
        def stop(rows: object) -> None:
            stored.append(len(rows))  # type: ignore[arg-type]
            job.cancel()

        job.on_result = stop  # type: ignore[attr-defined]
        return whole(plan, system, data, database, job, batch_size=5)

    monkeypatch.setattr(runner, "run", interrupted)
    code, text, err = ciad(*words)
    assert (code, text) == (130, "")
    assert err.splitlines()[-1] == "ciad: cancelled. Finished batches are kept; the same command goes on from there."
    assert stored == [5]
    run = only_run(words)
    assert not run.finished
    assert "5 of 24" in ciad("runs", "list", "--database", words[-1])[1]

    monkeypatch.setattr(runner, "run", whole)
    code, text, err = ciad(*words)
    assert code == 0
    assert f"Continuing run {run.short} (5 of 24 rows done)." in err
    assert only_run(words).finished
    assert "24 of 24" in ciad("runs", "list", "--database", words[-1])[1]


def test_json_is_the_only_thing_on_stdout(ciad: Ciad, words: list[object]) -> None:
    code, text, _ = ciad(*words, "--json")
    assert code == 0
    content = json.loads(text)
    assert content["run"] == only_run(words).key
    tables = {table["name"]: table for table in content["tables"]}
    assert list(tables) == ["table1", "table2", "table4", "attacks"]
    shown = [row["detector"] for row in tables["table2"]["subjects"] if row["attack"] == "fgsm"]
    assert shown == ["mask", "shuffled-mask", "constant-mask", "confidence"]
    known = {"0.05": {"value": 1.0, "source": "invented for a test"}}
    assert content["thresholds"] == {name: known for name in shown if name != "constant-mask"}


def test_csv_beside_the_tables(ciad: Ciad, words: list[object], tmp_path: Path) -> None:
    code, _, err = ciad(*words, "--csv", tmp_path / "out")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "rows.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 24
    assert json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["run"] == only_run(words).key


def test_transferred_attacks_the_second_classifier(ciad: Ciad, words: list[object]) -> None:
    code, text, err = ciad(*words, "--transferred")
    assert code == 0, err
    assert only_run(words).plan["attacked"] == "second_classifier"
    assert "transferred" in text


def test_quiet_leaves_only_the_result(ciad: Ciad, words: list[object]) -> None:
    code, text, err = ciad(*words, "--quiet")
    assert (code, err) == (0, "")
    assert "Table 1" in text


def test_settings_of_several_attacks(ciad: Ciad, words: list[object]) -> None:
    words[2] = "fgsm, cw"
    words[8] = 2
    quick = ("--iterations", 2, "--set", "cw.search_steps=1", "--set", "fgsm.eps=3")
    code, _, err = ciad(*words, *quick)
    assert code == 0, err
    settings = {attack["name"]: attack["settings"] for attack in only_run(words).plan["attacks"]}
    assert settings["fgsm"]["eps"] == 3
    assert (settings["cw"]["iterations"], settings["cw"]["search_steps"]) == (2, 1)


def test_the_sweep_of_an_attack(ciad: Ciad, words: list[object]) -> None:
    at = words.index("--attacks")
    words[at + 1] = "fgsm"
    code, text, err = ciad(*words, "--preset", "sweep")
    assert code == 0, err
    run = only_run(words)
    assert [attack["settings"]["eps"] for attack in run.plan["attacks"]] == [2, 4, 8, 16, 8]
    assert "FGSM (L∞), eps = 2" in text
    assert "FGSM (L∞), eps = 8, target = random" in text
    assert "FGSM (L∞), eps = 16" in text
    with runs.Database(Path(str(words[-1]))) as database:
        labels = [f"fgsm eps = {eps}, target = untargeted" for eps in (2, 4, 8, 16)]
        changes = [{row.linf for row in database.rows(run.key, label)} for label in labels]
    assert [max(found) for found in changes] == [2, 4, 8, 16]


def test_a_flag_that_makes_equal_what_a_preset_varies_leaves_one(ciad: Ciad, words: list[object]) -> None:
    words[words.index("--attacks") + 1] = "fgsm"
    assert ciad(*words, "--preset", "sweep", "--eps", "3")[0] == 0
    left = [attack["settings"] for attack in only_run(words).plan["attacks"]]
    assert [(settings["eps"], settings["target"]) for settings in left] == [(3, "untargeted"), (3, "random")]


@pytest.mark.parametrize(
    ("evade", "known"),
    [
        (["mask"], [("mask", "disagreement")]),
        (["mask:paper"], [("mask", "disagreement")]),
        (["mask:graded", "confidence"], [("mask", "graded"), ("confidence", "graded")]),
    ],
)
def test_attacks_that_know_the_detectors(
    evade: list[str], known: list[tuple[str, str]], ciad: Ciad, words: list[object]
) -> None:
    del words[7:9]
    code, text, err = ciad(*words, "--eps", 128, *(flag for one in evade for flag in ("--evade", one)))
    assert code == 0, err
    run = only_run(words)
    assert [(one["name"], one["rule"]) for one in run.plan["evade"]] == known
    said = ", evading " + ", ".join(f"{name}:{rule}" for name, rule in known)
    assert f"setting: direct{said}; fgsm" in err
    assert f"direct{said}" in ciad("runs", "list", "--database", words[-1])[1]
    assert "Evasion rate" in text
    with runs.Database(Path(str(words[-1]))) as database:
        fooled = [row for row in database.rows(run.key, "fgsm") if row.fooled]
        assert all(row.evaded is None for row in database.rows(run.key, ""))
    assert fooled, "the test needs an image that fools f1"
    for row in fooled:
        flagged = [
            row.scores[name].label != row.y1 if rule == "disagreement" else row.scores[name].value > 1.0
            for name, rule in known
        ]
        assert row.evaded is not any(flagged)
        assert row.reason == ("" if row.evaded else "flagged by a detector")


def test_the_table_of_the_attacker_who_knows(ciad: Ciad, words: list[object], tmp_path: Path) -> None:
    words[words.index("--attacks") + 1] = "square"
    words[words.index("--limit") + 1] = 4
    told = ["--preset", "adaptive", "--queries", 2, "--evade", "confidence", "--csv", tmp_path / "out"]
    code, text, err = ciad(*words, *told)
    assert code == 0, err
    assert "The attacker who knows: within which budget are images evaded? (the attacker knows confidence:g" in text
    with (tmp_path / "out" / "adaptive.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [json.loads(line["settings"])["eps"] for line in lines] == [2, 3, 4, 8, 16]
    assert {(line["attack"], line["norm"], line["detector"]) for line in lines} == {("*", "linf", "")}
    assert "evasion_rate_square_low" in lines[0]


def test_an_attacker_who_knows_a_detector_makes_another_run(ciad: Ciad, words: list[object]) -> None:
    assert ciad(*words)[0] == 0
    plain = only_run(words).key
    assert ciad(*words, "--evade", "mask")[0] == 0
    assert ciad(*words, "--evade", "mask:disagreement")[0] == 0  # the usual rule: the same run
    with runs.Database(Path(str(words[-1]))) as database:
        found = {run.key: run for run in database.runs()}
    assert len(found) == 2
    assert "evade" not in found[plain].plan


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--evade", "magic"], "bundle 'tiny' has no detector 'magic'; it has mask, shuffled-mask, constant-mask, "),
        (["--evade", "mask:best"], "'best' is none of disagreement, graded."),
        (["--evade", "confidence:paper"], "'disagreement': it has no class of its own."),
        (["--evade", "constant-mask:graded"], "the detector 'constant-mask' gives every image the same class:"),
        (["--evade", "mask", "--attacks", "fgsm,deepfool"], "DeepFool cannot evade a detector; leave it out."),
        (["--evade", "mask", "--transferred"], "leave out the transferred setting."),
    ],
)
def test_what_cannot_be_evaded_is_refused(extra: list[str], sentence: str, ciad: Ciad, words: list[object]) -> None:
    code, text, err = ciad(*words, *extra)
    assert (code, text) == (1, "")
    (complaint,) = [line for line in err.splitlines() if line.startswith("ciad: ")]
    assert complaint.startswith("ciad: evade: ")
    assert sentence in complaint
    assert not Path(str(words[-1])).exists()


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--attacks", "fgsm", "--theta", "1"], "--theta is a setting of jsma, not of fgsm."),
        (["--attacks", "fgsm,jsma", "--target", "next"], "--target is a setting of fgsm and jsma; choose one:"),
        (["--attacks", "fgsm,nothing"], "attack: 'nothing' is none of fgsm, bim, pgd, opgd, square, jsma, cw, lbfgs, "),
        (["--attacks", ","], "no attack is named"),
        (["--eps", "-1"], "fgsm: eps = -1.0 is not a number from 0 to 255 grey levels."),
        (["--limit", "0"], "'0' is not a whole number from 1"),
        (["--preset", "mine"], "invalid choice: 'mine'"),
        (["--preset", "adaptive"], "--preset adaptive: add --evade NAME, the detector that the attacker knows."),
    ],
)
def test_wrong_use(extra: list[str], sentence: str, ciad: Ciad, words: list[object]) -> None:
    code, text, err = ciad(*words, *extra)
    assert (code, text) == (2, "")
    assert sentence in err
    assert not Path(str(words[-1])).exists()


def test_more_images_than_there_are(ciad: Ciad, words: list[object]) -> None:
    code, _, err = ciad(*words, "--limit", 31)
    assert code == 1
    assert "limit = 31 is not a number from 1 to 30" in err


def test_without_a_limit_a_small_set_is_taken_whole(ciad: Ciad, words: list[object]) -> None:
    del words[7:9]
    assert ciad(*words)[0] == 0
    assert only_run(words).plan["limit"] == 30


def test_show_and_export_an_earlier_run(ciad: Ciad, words: list[object], bundle: Path, tmp_path: Path) -> None:
    _, printed, _ = ciad(*words)
    run, database = only_run(words), ["--database", words[-1]]
    code, text, err = ciad("runs", "show", run.short, *database, "--bundle", bundle)
    assert code == 0, err
    assert printed.split("\n\nThe rows are run")[0] in text
    assert run.device in text
    code, text, err = ciad("runs", "show", run.key[:4], *database)  # the tiny bundle is not among the installed ones
    assert code == 0, err
    assert "no threshold applied, because bundle 'tiny' is not installed" in " ".join(text.split())
    code, text, _ = ciad("runs", "show", run.short, *database, "--json")
    assert json.loads(text)["thresholds"] == {}
    code, text, err = ciad("runs", "export", run.short, "--csv", tmp_path / "csv", *database, "--bundle", bundle)
    assert code == 0, err
    assert sorted(text.split()) == sorted(str(path) for path in (tmp_path / "csv").iterdir())


def test_a_run_goes_on_the_bundles_card(ciad: Ciad, words: list[object], bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(bundle, own)
    words[words.index(bundle)] = own
    assert ciad(*words)[0] == 0
    run, database = only_run(words), ["--database", words[-1]]
    code, text, err = ciad("bundles", "record", own, run.short, *database)
    assert code == 0, err
    written = own / "evaluations" / f"{run.short}.json"
    assert text == f"Wrote {written}.\n"
    (evaluation,) = bundles.read_card(own).evaluations()
    assert evaluation == json.loads(written.read_text(encoding="utf-8"))
    assert evaluation["run"] == run.key
    code, text, err = ciad("bundles", "show", own)
    assert code == 0, err
    assert "Table 2: does the detector separate adversarial from benign images?" in text
    assert "ciad evaluate --bundle BUNDLE --data PATH --limit 12 --seed 0 --preset paper --attacks fgsm" in text
    assert ciad("runs", "show", run.short, *database, "--bundle", own)[1].count("has changed") == 0
    code, _, err = ciad("bundles", "record", own, "nothing", *database)
    assert code == 1
    assert "nothing" in err


def test_delete_asks_first(ciad: Ciad, words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    ciad(*words)
    run, database = only_run(words), ["--database", words[-1]]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = ciad("runs", "delete", run.short, *database)
    assert code == 2
    assert f"add --yes to delete run {run.short} and its 24 rows" in err
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    assert ciad("runs", "delete", run.short, *database)[0] == 1
    assert only_run(words).key == run.key
    monkeypatch.setattr("sys.stdin", Terminal("Yes\n"))
    assert ciad("runs", "delete", run.short, *database)[0] == 0
    code, text, _ = ciad("runs", "list", *database)
    assert (code, text) == (0, "No runs yet; `ciad evaluate` makes one.\n")
    ciad(*words)
    assert ciad("runs", "delete", run.short, "--yes", *database)[0] == 0


def test_runs_that_are_not_there(ciad: Ciad, words: list[object], tmp_path: Path) -> None:
    code, _, err = ciad("runs", "list", "--database", tmp_path / "none.sqlite")
    assert code == 1
    assert "there is no such file" in err
    assert not (tmp_path / "none.sqlite").exists()
    ciad(*words)
    code, _, err = ciad("runs", "show", "ffff0000ffff", "--database", words[-1])
    assert code == 1
    assert err.startswith("ciad: ")


def test_one_damaged_run_is_named_and_the_others_are_listed(ciad: Ciad, words: list[object], tmp_path: Path) -> None:
    assert ciad(*words)[0] == 0
    good, database = only_run(words), ("--database", words[-1])
    with runs.Database(Path(str(words[-1]))) as opened:
        opened.start("e" * 64, {"attacks": []}, {}, "CPU")
        opened.start("f" * 64, {}, {}, "CPU")
        with opened._connected() as connection, connection:
            connection.execute("UPDATE runs SET plan = '[' WHERE key = ?", ("f" * 64,))
    code, text, err = ciad("runs", "list", *database)
    assert code == 1
    assert good.short in text
    assert "24 of 24" in text
    assert "kB" in text
    assert f"{words[-1]} uses" in text
    assert "Run eeeeeeeeeeee: This is not the plan of an evaluation" in err
    assert "Run ffffffffffff is damaged" in err
    assert "bug" not in err
    assert ciad(*words)[0] == 0  # and an evaluation is not kept from its work
    assert ciad(*words, "--eps", 3)[0] == 0
    for name in ("eeee", "ffff"):
        code, _, err = ciad("runs", "show", name, *database)
        assert code == 1
        assert "ciad: " in err
        code, _, err = ciad("runs", "delete", name, "--yes", *database)
        assert code == 0, err
    assert ciad("runs", "list", *database)[0] == 0


def test_deleting_says_what_goes_and_gives_the_place_back(
    ciad: Ciad, words: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ciad(*words)[0] == 0
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    _, text, _ = ciad("runs", "delete", only_run(words).short, "--database", words[-1])
    for part in ("24 rows", "kB", "FGSM", "bundle tiny", "finished"):
        assert part in text
    before = Path(str(words[-1])).stat().st_size
    code, _, err = ciad("runs", "delete", only_run(words).short, "--yes", "--database", words[-1])
    assert code == 0
    assert re.search(r"now uses .* less\)\.", " ".join(err.split()))
    assert Path(str(words[-1])).stat().st_size < before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bundles_have_a_size_and_can_be_deleted(
    ciad: Ciad, bundle: Path, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_folders / "data" / "models" / "tiny"
    shutil.copytree(bundle, folder)
    (folder / "mine.txt").write_text("kept")
    _, text, _ = ciad("bundles", "list")
    assert "MB" in text
    code, _, err = ciad("bundles", "delete", "tiny")
    assert code == 2
    assert f"add --yes to delete bundle 'tiny' in {folder}: 5 files, " in err
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    code, text, _ = ciad("bundles", "delete", "tiny")
    assert code == 1
    assert "Nothing was deleted" in text
    code, text, err = ciad("bundles", "delete", "tiny", "--yes")
    assert code == 0
    assert "other files" in err
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    code, _, err = ciad("bundles", "delete", "paper", "--yes")
    assert code == 1
    assert "comes with the program" in err
