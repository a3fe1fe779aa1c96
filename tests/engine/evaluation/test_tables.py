"""Tables against rows written by hand, and against a plain recount of a computed run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ciad_engine.attacks.words import LOST_TO_ROUNDING, OWN_CLASS
from ciad_engine.evaluation import planning, records, runner, tables
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import NO_SHARE, Cell, Table, render_text
from ciad_engine.runs import Database
from tests.engine.evaluation import tiny
from tests.engine.evaluation.tiny import row

NO = "no adversarial image found"


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


def cells(table: Table, attack: str) -> dict[str, Cell]:
    (found,) = [
        dict(zip(table.columns, r, strict=True)) for r in table.rows if r[0].value == records.attack_title(attack)
    ]
    return found


def filled(database: Database, finished: bool = True, **changes: object) -> str:
    """Six images of class 0: five right beforehand, four of them fooled by FGSM, none by C&W."""
    plan = planning.Plan(
        bundle="tiny",
        bundle_checksum="ab" * 32,
        data="bundled samples (generated images)",
        data_checksum="cd" * 32,
        official=False,
        attacks=(planning.AttackChoice("fgsm", (("eps", 8.0),)), planning.AttackChoice("cw", ())),
        limit=6,
        seed=4,
    )
    plan = dataclasses.replace(plan, **changes)
    key = plan.key()
    database.start(key, planning.to_json(plan), {"torch": "2"}, "CPU")
    database.append(
        key,
        [
            row(0, y1=0, y2=0, score=0.1),
            row(1, y1=0, y2=0, score=0.5),
            row(2, y1=0, y2=7, score=2.0),
            row(3, y1=0, y2=5, score=3.0),
            row(4, y1=0, y2=0, score=0.2),
            row(5, y1=6, y2=0, score=4.0),  # misclassified
        ],
        1.0,
    )
    ok = {"success": True, "label_before": 0, "forwards": 3, "backwards": 1, "steps": 1, "seconds": 0.25}
    database.append(
        key,
        [
            # detected, mask kept, restored
            row(
                0,
                "fgsm",
                y1=1,
                y2=0,
                score=2.5,
                label_after=1,
                l2=1.0,
                linf=8,
                ssim=0.9,
                l0_values=30,
                l0_pixels=10,
                **ok,
            ),
            # missed: the mask follows
            row(
                1,
                "fgsm",
                y1=2,
                y2=2,
                score=0.4,
                label_after=2,
                l2=2.0,
                linf=8,
                ssim=0.7,
                l0_values=60,
                l0_pixels=20,
                **ok,
            ),
            # detected, mask kept, but it was wrong: not restored
            row(
                2,
                "fgsm",
                y1=3,
                y2=7,
                score=6.0,
                label_after=3,
                l2=6.0,
                linf=8,
                ssim=0.2,
                l0_values=90,
                l0_pixels=30,
                **ok,
            ),
            # missed: the mask had said the wrong class before
            row(
                3,
                "fgsm",
                y1=5,
                y2=5,
                score=0.3,
                label_after=5,
                l2=7.0,
                linf=8,
                ssim=None,
                l0_values=0,
                l0_pixels=0,
                **ok,
            ),
            row(4, "fgsm", y1=0, y2=0, reason=NO, label_before=0, label_after=0, forwards=3, seconds=0.75),
            row(5, "fgsm", y1=6, y2=0, reason="already misclassified", label_before=6, label_after=6, forwards=2),
        ],
        1.0,
    )
    lost = [row(k, "cw", reason=LOST_TO_ROUNDING, label_before=0, label_after=0) for k in range(4)]
    database.append(key, [*lost, row(4, "cw", reason=NO, label_before=0, label_after=0)])
    if finished:
        wrong = row(5, "cw", y1=6, reason="already misclassified", label_before=6, label_after=6)
        database.append(key, [wrong])
        database.finish(key)
    return key


def share(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), share=True)


def test_table_1_counts_masks_that_keep_their_class(database: Database) -> None:
    table = tables.table1(database, filled(database))
    fgsm = cells(table, "fgsm")
    assert fgsm["Adversarial images"] == Cell(4)
    assert fgsm["Mask retention"] == share(3, 4)
    assert fgsm["Paper"] == Cell(0.863)
    assert fgsm["Retention where the benign mask was right"] == share(1, 2)
    assert cells(table, "cw")["Mask retention"] == NO_SHARE


def test_table_2_pairs_each_adversarial_with_its_benign_image(database: Database) -> None:
    table = tables.table2(database, filled(database), tiny.system(threshold=1.5).card)
    fgsm = cells(table, "fgsm")
    assert fgsm["True positive"] == share(2, 4)
    assert fgsm["Paper's true positive"] == Cell(0.878)
    assert fgsm["True negative"] == share(2, 4)
    assert fgsm["Paper's true negative"] == Cell(0.614)
    assert fgsm["True negative, all benign"] == share(3, 6)
    assert fgsm["Recovery"] == share(1, 4)
    # positives 2.5, 0.4, 6.0, 0.3 against negatives 0.1, 0.5, 2.0, 3.0: 3 + 1 + 4 + 1 of 16 pairs
    assert fgsm["Graded: AUROC"] == Cell(9 / 16, 4, area=True)  # of too few images for an interval
    assert fgsm["Graded, 5 %: true positive"] == share(2, 4)
    assert fgsm["Graded, 5 %: true negative"] == share(2, 4)
    assert fgsm["Graded, 1 %: true positive"] == share(1, 4)  # above 2.5
    assert fgsm["Graded, 1 %: true negative"] == share(3, 4)
    assert fgsm["True negative, all f1 got right"] == share(3, 5)
    # benign scores 0.1, 0.5, 2.0, 3.0, 0.2 and, where f1 is wrong, 4.0
    assert fgsm["Graded, 5 %: TN, all benign"] == share(3, 6)
    assert fgsm["Graded, 5 %: TN, all f1 got right"] == share(3, 5)
    assert fgsm["Graded, 1 %: TN, all f1 got right"] == share(4, 5)
    assert any("at 5 %: 1.5 (chosen for tests); at 1 %: 2.5 (chosen, too)." in note for note in table.notes)
    nothing = cells(table, "cw")
    assert nothing["True positive"] == nothing["Graded, 5 %: true positive"] == NO_SHARE
    assert nothing["Graded: AUROC"] == Cell(None, 0, area=True)
    assert nothing["True negative, all benign"] == share(3, 6)


def test_several_attacks_are_also_judged_together(database: Database) -> None:
    key = filled(database, finished=False)
    database.append(key, [row(5, "cw", reason=NO, label_before=6, label_after=6)])
    fgsm = records.load(database, key).pairs("fgsm")
    assert records.load(database, key).groups == {"fgsm": fgsm, "cw": [], records.POOLED: fgsm}
    assert cells(tables.table2(database, key), records.POOLED)["Recovery"] == share(1, 4)


def test_one_attack_or_one_at_several_strengths_is_not_pooled(database: Database) -> None:
    fgsm = [planning.AttackChoice("fgsm", (("eps", eps),)) for eps in (2.0, 8.0)]
    for chosen in (fgsm[:1], fgsm):
        plan = planning.Plan("b", "b", "d", "d", True, tuple(chosen), 5, 1)
        database.start(plan.key(), planning.to_json(plan), {}, "CPU")
        assert tuple(records.load(database, plan.key()).groups) == plan.labels


def test_table_4_is_about_images_whose_mask_was_right(database: Database) -> None:
    table = tables.table4(database, filled(database))
    fgsm = cells(table, "fgsm")
    assert fgsm["Adversarial images"] == Cell(2)
    assert fgsm["True positive"] == fgsm["Recovery"] == share(1, 2)
    assert fgsm["True negative"] == share(2, 2)
    assert fgsm["Paper, all three"] == Cell(1.0)
    assert any("1 by construction" in note for note in table.notes)


def test_an_image_at_the_threshold_is_benign(database: Database) -> None:
    fgsm = cells(tables.table2(database, filled(database), tiny.system(threshold=2.0).card), "fgsm")
    assert fgsm["Graded, 5 %: true negative"] == share(3, 4)
    fgsm = cells(tables.table2(database, filled(database), tiny.system(threshold=2.5).card), "fgsm")
    assert fgsm["Graded, 5 %: true positive"] == share(1, 4)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "not at hand"),
        (dataclasses.replace(tiny.system().card, checksum="00" * 32), "has changed"),
        (tiny.system(threshold=None).card, "has none"),
    ],
)
def test_no_threshold_is_said_and_not_guessed(database: Database, card, reason: str) -> None:
    table = tables.table2(database, filled(database), card)
    assert cells(table, "fgsm")["Graded, 5 %: true positive"] == NO_SHARE
    assert cells(table, "fgsm")["Graded: AUROC"].value == 9 / 16
    assert any(note.startswith("Graded: no threshold") and reason in note for note in table.notes)


def test_a_card_with_one_threshold_says_that_the_other_is_missing(database: Database) -> None:
    card = tiny.system(threshold=1.5).card
    del card.content["thresholds"]["graded, 1 %"]
    table = tables.table2(database, filled(database), card)
    assert cells(table, "fgsm")["Graded, 1 %: true positive"] == NO_SHARE
    assert cells(table, "fgsm")["Graded, 5 %: true positive"] == share(2, 4)
    assert any("at 5 %: 1.5 (chosen for tests); at 1 %: none on the card." in note for note in table.notes)


def test_attack_table_counts_success_failures_and_cost(database: Database) -> None:
    table = tables.attack_table(database, filled(database))
    fgsm, cw = cells(table, "fgsm"), cells(table, "cw")
    assert (fgsm["Images"], fgsm["Already misclassified"]) == (Cell(6), Cell(1))
    assert fgsm["Success rate"] == share(4, 5)
    assert fgsm["Failed: " + NO] == Cell(1)
    assert fgsm["Failed: " + LOST_TO_ROUNDING] == Cell(0)
    assert (fgsm["L2, mean"], fgsm["L2, median"]) == (Cell(4.0, 4), Cell(4.0, 4))
    assert fgsm["SSIM, mean"] == Cell(pytest.approx(0.6), 3)  # of those whose SSIM is known
    assert (fgsm["L∞ (/255), mean"], fgsm["L0 values, mean"], fgsm["L0 pixels, median"]) == (
        Cell(8.0, 4), Cell(45.0, 4), Cell(15.0, 4),
    )  # fmt: skip
    assert (fgsm["Forward passes"], fgsm["Backward passes"]) == (Cell(3.0, 5), Cell(0.8, 5))
    assert fgsm["Milliseconds per image"].value == pytest.approx(1000 * 1.75 / 6)
    assert cw["Success rate"] == share(0, 5)
    assert cw["Failed: " + LOST_TO_ROUNDING] == Cell(4)
    assert cw["L2, mean"] == Cell(None, 0)


def test_images_of_the_target_class_are_no_failures(database: Database) -> None:
    key = filled(database, finished=False)
    database.append(key, [row(5, "cw", reason=OWN_CLASS, label_before=0, label_after=0)])
    cw = cells(tables.attack_table(database, key), "cw")
    assert cw["Not attacked: " + OWN_CLASS] == Cell(1)
    assert cw["Already misclassified"] == Cell(0)
    assert cw["Success rate"].n == 5


def test_every_table_says_on_what_it_was_computed(database: Database) -> None:
    for table in tables.all_tables(database, filled(database)):
        text = "\n".join(table.notes)
        assert "bundled samples (generated images); n = 6 images, seed 4" in text
        assert "tiny (abababababab)" in text
        assert "Not computed on the official CIFAR-10 files" in text
        assert "fgsm (eps = 8); cw" in text
        assert "not finished" not in text


def test_official_data_need_no_warning(database: Database) -> None:
    for table in tables.all_tables(database, filled(database, official=True)):
        assert not any("official" in note for note in table.notes)


def test_a_running_run_has_tables_that_say_so(database: Database) -> None:
    for table in tables.all_tables(database, filled(database, finished=False)):
        assert "The run is not finished: benign 6 of 6, FGSM (L∞) 6 of 6, C&W (L2) 5 of 6." in table.notes


def test_a_run_without_rows_has_tables(database: Database) -> None:
    plan = planning.Plan("b", "b", "d", "d", True, (planning.AttackChoice("jsma", ()),), 5, 1)
    database.start(plan.key(), planning.to_json(plan), {}, "CPU")
    for table in tables.all_tables(database, plan.key(), tiny.system().card):
        assert "–" in render_text(table)


def test_transferred_counts_only_what_newly_fools_f1(database: Database) -> None:
    key = filled(database, finished=False, attacked="second_classifier")
    # Fooled the second classifier, but f1 was wrong on it before, or is still right: neither is f1's adversarial.
    database.append(key, [row(5, "cw", y1=6, y2=0, success=True, label_before=0, label_after=6)])
    still_right = row(6, "cw", y1=0, y2=0, success=True, label_before=0, label_after=6)
    database.append(key, [row(6, y1=0, y2=0), still_right])
    table1, table2, _, costs, _ = tables.all_tables(database, key)
    assert cells(table1, "cw")["Adversarial images"] == Cell(0)
    assert "Paper" not in table1.columns
    assert cells(table2, "fgsm")["Paper's true positive"] == Cell(0.843)
    assert cells(table2, "cw")["Paper's true negative"] == Cell(0.750)
    assert table2.title.startswith("Table 3")
    assert "second classifier" in table2.title
    cw = cells(table2, "cw")
    assert (cw["Adversarial images"], cw["Fool the attacked network"]) == (Cell(0), Cell(2))
    assert cw["True positive, all of these"] == share(1, 2)  # the wrong one of f1; the other's mask agrees
    assert cw["True negative, all of these"] == share(1, 2)
    assert cw["Recovery, all of these"] == share(2, 2)
    found, passed = (f"Attacked network in f1's place: true {rate}" for rate in ("positive", "negative"))
    # C&W's two: the attacked network says 6 after and said 0 before, f2 on the mask 0 both times.
    assert (cw[found], cw[passed]) == (share(2, 2), share(2, 2))
    assert (cells(table2, "fgsm")[found], cells(table2, "fgsm")[passed]) == (share(2, 4), share(2, 4))
    assert cells(table2, records.POOLED)[found] == share(4, 6)
    assert cells(table1, "cw")["Retention, all that fool the attacked network"] == share(2, 2)
    assert cells(costs, "cw")["Of these fool f1, too"] == share(0, 1)
    assert cells(costs, "fgsm")["Of these fool f1, too"] == share(4, 4)
    pooled = cells(table2, records.POOLED)
    assert (pooled["Adversarial images"], pooled["Fool the attacked network"]) == (Cell(4), Cell(6))
    assert pooled["Paper's true positive"] == Cell(None)


def test_what_the_paper_leaves_open_is_said_where_its_figures_stand(database: Database) -> None:
    def said(*attacks: str, attacked: str) -> list[bool]:
        choices = tuple(planning.AttackChoice(name, ()) for name in attacks)
        plan = planning.Plan("b", "b", "d", "d", True, choices, 5, 1, attacked)
        database.start(plan.key(), planning.to_json(plan), {}, "CPU")
        notes = "\n".join(tables.table2(database, plan.key()).notes)
        return [words in notes for words in ("all three attacks", "in f1's place: over", "in its Table 3")]

    assert said("fgsm", "bim", attacked="classifier") == [True, False, False]
    assert said("bim", attacked="classifier") == [False, False, False]
    assert said("fgsm", "bim", attacked="second_classifier") == [False, True, True]
    assert said("bim", attacked="second_classifier") == [False, True, False]


def test_a_computed_run_recounted(database: Database) -> None:
    system, data = tiny.system(), tiny.data(60)
    plan = tiny.plan(data, system, 60, attacks=(planning.choose("fgsm", eps=12),))
    key = runner.run(plan, system, data, database)
    benign, attacked = database.rows(key, ""), database.rows(key, "fgsm")
    pairs = [(b, a) for b, a in zip(benign, attacked, strict=True) if a.success]
    assert len(pairs) > 15
    table1, table2, _, costs, _ = tables.all_tables(database, key, system.card)
    assert cells(table1, "fgsm")["Mask retention"] == share(sum(b.y2 == a.y2 for b, a in pairs), len(pairs))
    assert cells(table2, "fgsm")["True positive"] == share(sum(a.y1 != a.y2 for _, a in pairs), len(pairs))
    assert cells(table2, "fgsm")["True negative"] == share(sum(b.y1 == b.y2 for b, _ in pairs), len(pairs))
    assert cells(costs, "fgsm")["Success rate"].n == sum(b.y1 == b.label for b in benign)


def test_text_is_aligned_and_has_intervals(database: Database) -> None:
    text = render_text(tables.table2(database, filled(database)))
    lines = text.splitlines()
    assert lines[0].startswith("Table 2")
    head = next(line for line in lines if line.startswith("Attack"))
    positive = next(line for line in lines if line.startswith("True positive"))
    assert positive.index("0.500 [0.150, 0.850]") == head.index("FGSM")
    assert positive.index("–") == head.index("C&W")
    assert len(positive) <= 100


@pytest.mark.parametrize(("width", "beside"), [(None, 7), (80, 3), (50, 2), (49, 1), (10, 1)])
def test_text_that_is_too_wide_goes_on_below(width: int | None, beside: int) -> None:
    names = [f"FGSM {k}" for k in range(7)]
    rows = tuple((Cell(name), Cell(0.5, 4, 0.1, 0.9)) for name in names)
    text = render_text(Table("t", "Title", ("Attack", "Rate"), rows, ("word " * 60,)), width)
    heads = [re.findall(r"FGSM \d", line) for line in text.splitlines() if line.startswith("Attack")]
    assert heads == [names[k : k + beside] for k in range(0, 7, beside)]
    assert text.count("0.500 [0.100, 0.900]") == 7
    assert text.count("word") == 60
    if width and width > 28:  # as wide as a name and one figure
        assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(None), "–"),
        (Cell("FGSM"), "FGSM"),
        (Cell(12345), "12,345"),
        (Cell(0.5), "0.500"),
        (Cell(3041.25), "3,041.2"),
        (Cell(1.0, 5, 0.5655, 1.0), "1.000 [0.566, 1.000]"),
    ],
)
def test_cells_as_text(cell: Cell, text: str) -> None:
    assert cell.text() == text
