"""Tables against rows written by hand, and against a plain recount of a computed run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.attacks.words import LOST_TO_ROUNDING, OWN_CLASS
from ciad_engine.evaluation import planning, records, runner, tables
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import NO_RATE, Cell, Column, Subject, Table, render_text
from ciad_engine.runs import Database, Row
from tests.engine.evaluation import tiny
from tests.engine.evaluation.tiny import row

NO = "no adversarial image found"


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


def titled(attack: str) -> str:
    return "All attacks together" if attack == records.POOLED else planning.title(attack)


def cells(table: Table, attack: str, detector: str = "mask") -> dict[str, Cell]:
    """The cells of an attack's row by their columns' keys; `detector` is "" in the table of attacks."""
    (found,) = [
        dict(zip((column.key for column in table.columns), row, strict=True))
        for subject, row in zip(table.subjects, table.cells, strict=True)
        if (subject.title, subject.detector) == (titled(attack), detector)
    ]
    return found


def made(database: Database, key: str, card: bundles.Card | None = None) -> dict[str, Table]:
    return {table.name: table for table in tiny.all_tables(database, key, card)}


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
    ok = {"fooled": True, "label_before": 0, "forwards": 3, "backwards": 1, "steps": 1, "seconds": 0.25}
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


def rate(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), rate=True)


def test_table_1_counts_masks_that_keep_their_class(database: Database) -> None:
    table = made(database, filled(database))["table1"]
    fgsm = cells(table, "fgsm")
    assert fgsm["adversarial_images"] == Cell(4)
    assert fgsm["mask_retention_rate"] == rate(3, 4)
    assert fgsm["paper_mask_retention_rate"] == Cell(0.863)
    assert fgsm["mask_retention_rate_mask_correct"] == rate(1, 2)
    assert cells(table, "cw")["mask_retention_rate"] == NO_RATE


def test_table_2_pairs_each_adversarial_with_its_benign_image(database: Database) -> None:
    table = made(database, filled(database), tiny.system(threshold=1.5).card)["table2"]
    fgsm = cells(table, "fgsm")
    assert fgsm["true_positive_rate"] == rate(2, 4)
    assert fgsm["paper_true_positive_rate"] == Cell(0.878)
    assert fgsm["true_negative_rate_paired"] == rate(2, 4)
    assert fgsm["paper_true_negative_rate"] == Cell(0.614)
    assert fgsm["true_negative_rate_all"] == rate(3, 6)
    assert fgsm["recovery_rate"] == rate(1, 4)
    # positives 2.5, 0.4, 6.0, 0.3 against negatives 0.1, 0.5, 2.0, 3.0: 3 + 1 + 4 + 1 of 16 pairs
    assert fgsm["auroc"] == Cell(9 / 16, 4, area=True)  # of too few images for an interval
    assert fgsm["graded_5_true_positive_rate"] == rate(2, 4)
    assert fgsm["graded_5_true_negative_rate_paired"] == rate(2, 4)
    assert fgsm["graded_1_true_positive_rate"] == rate(1, 4)  # above 2.5
    assert fgsm["graded_1_true_negative_rate_paired"] == rate(3, 4)
    assert fgsm["true_negative_rate"] == rate(3, 5)
    # benign scores 0.1, 0.5, 2.0, 3.0, 0.2 and, where f1 is wrong, 4.0
    assert fgsm["graded_5_true_negative_rate_all"] == rate(3, 6)
    assert fgsm["graded_5_true_negative_rate"] == rate(3, 5)
    assert fgsm["graded_1_true_negative_rate"] == rate(4, 5)
    assert any("at 5% 1.5 (chosen for tests); at 1% 2.5 (chosen, too)." in note for note in table.notes)
    nothing = cells(table, "cw")
    assert nothing["true_positive_rate"] == nothing["graded_5_true_positive_rate"] == NO_RATE
    assert nothing["auroc"] == Cell(None, 0, area=True)
    assert nothing["true_negative_rate_all"] == rate(3, 6)


def test_several_attacks_are_also_judged_together(database: Database) -> None:
    key = filled(database, finished=False)
    database.append(key, [row(5, "cw", reason=NO, label_before=6, label_after=6)])
    fgsm = records.load(database, key).pairs("fgsm")
    assert records.load(database, key).groups == {"fgsm": fgsm, "cw": [], records.POOLED: fgsm}
    assert cells(made(database, key)["table2"], records.POOLED)["recovery_rate"] == rate(1, 4)


def test_one_attack_or_one_at_several_strengths_is_not_pooled(database: Database) -> None:
    fgsm = [planning.AttackChoice("fgsm", (("eps", eps),)) for eps in (2.0, 8.0)]
    for chosen in (fgsm[:1], fgsm):
        plan = planning.Plan("b", "b", "d", "d", True, tuple(chosen), 5, 1)
        database.start(plan.key(), planning.to_json(plan), {}, "CPU")
        assert tuple(records.load(database, plan.key()).groups) == plan.labels


def test_table_4_is_about_images_whose_mask_was_right(database: Database) -> None:
    table = made(database, filled(database))["table4"]
    fgsm = cells(table, "fgsm")
    assert fgsm["adversarial_images"] == Cell(2)
    assert fgsm["true_positive_rate"] == fgsm["recovery_rate"] == rate(1, 2)
    assert fgsm["true_negative_rate_paired"] == rate(2, 2)
    assert fgsm["paper_rate"] == Cell(1.0)
    assert any("1 by construction" in note for note in table.notes)


def test_an_image_at_the_threshold_is_benign(database: Database) -> None:
    fgsm = cells(made(database, filled(database), tiny.system(threshold=2.0).card)["table2"], "fgsm")
    assert fgsm["graded_5_true_negative_rate_paired"] == rate(3, 4)
    fgsm = cells(made(database, filled(database), tiny.system(threshold=2.5).card)["table2"], "fgsm")
    assert fgsm["graded_5_true_positive_rate"] == rate(1, 4)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "not installed"),
        (dataclasses.replace(tiny.system().card, checksum="00" * 32), "has changed"),
        (tiny.system(threshold=None).card, "has none"),
    ],
)
def test_no_threshold_is_described_and_not_guessed(database: Database, card, reason: str) -> None:
    table = made(database, filled(database), card)["table2"]
    assert cells(table, "fgsm")["graded_5_true_positive_rate"] == NO_RATE
    assert cells(table, "fgsm")["auroc"].value == 9 / 16
    assert any(note.startswith("Graded rule: no threshold applied, because") and reason in note for note in table.notes)


def test_a_card_with_one_threshold_says_that_the_other_is_missing(database: Database) -> None:
    card = tiny.system(threshold=1.5).card
    first = dataclasses.replace(card.detectors[0], thresholds={0.05: card.detectors[0].thresholds[0.05]})
    card = dataclasses.replace(card, detectors=(first, *card.detectors[1:]))
    table = made(database, filled(database), card)["table2"]
    assert cells(table, "fgsm")["graded_1_true_positive_rate"] == NO_RATE
    assert cells(table, "fgsm")["graded_5_true_positive_rate"] == rate(2, 4)
    assert any("at 5% 1.5 (chosen for tests); at 1% none on the card." in note for note in table.notes)


def test_attack_table_counts_success_failures_and_cost(database: Database) -> None:
    table = made(database, filled(database))["attacks"]
    fgsm, cw = cells(table, "fgsm", ""), cells(table, "cw", "")
    assert (fgsm["images"], fgsm["already_misclassified"]) == (Cell(6), Cell(1))
    assert fgsm["success_rate"] == rate(4, 5)
    assert fgsm["failed_no_adversarial_image_found"] == Cell(1)
    assert fgsm["failed_lost_when_rounded_to_8_bits"] == Cell(0)
    assert (fgsm["l2_mean"], fgsm["l2_median"]) == (Cell(4.0, 4), Cell(4.0, 4))
    assert fgsm["ssim_mean"] == Cell(pytest.approx(0.6), 3)  # of those whose SSIM is known
    assert (fgsm["linf_mean"], fgsm["l0_values_mean"], fgsm["l0_pixels_median"]) == (
        Cell(8.0, 4), Cell(45.0, 4), Cell(15.0, 4),
    )  # fmt: skip
    assert (fgsm["forwards_mean"], fgsm["backwards_mean"]) == (Cell(3.0, 5), Cell(0.8, 5))
    assert fgsm["milliseconds_per_image"].value == pytest.approx(1000 * 1.75 / 6)
    assert cw["success_rate"] == rate(0, 5)
    assert cw["failed_lost_when_rounded_to_8_bits"] == Cell(4)
    assert cw["l2_mean"] == Cell(None, 0)


def test_images_of_the_target_class_are_no_failures(database: Database) -> None:
    key = filled(database, finished=False)
    database.append(key, [row(5, "cw", reason=OWN_CLASS, label_before=0, label_after=0)])
    cw = cells(made(database, key)["attacks"], "cw", "")
    assert cw["not_attacked_the_target_is_its_own_class"] == Cell(1)
    assert cw["already_misclassified"] == Cell(0)
    assert cw["success_rate"].n == 5


def test_every_table_says_on_what_it_was_computed(database: Database) -> None:
    for table in tiny.all_tables(database, filled(database)):
        text = "\n".join(table.notes)
        assert "bundled samples (generated images); n = 6 images, seed 4" in text
        assert "tiny (abababababab)" in text
        assert "Not computed on the official CIFAR-10 files" in text
        assert "fgsm (eps = 8); cw" in text
        assert "not finished" not in text


def test_a_run_of_one_image_is_counted_in_the_singular(database: Database) -> None:
    assert "n = 1 image, seed 4." in records.about_run(records.load(database, filled(database, limit=1)))[0]


def test_official_data_need_no_warning(database: Database) -> None:
    for table in tiny.all_tables(database, filled(database, official=True)):
        assert not any("official" in note for note in table.notes)


@pytest.mark.parametrize("attacked", ["classifier", "second_classifier"])
@pytest.mark.parametrize("change", [{"classes": ("give way", "stop", *"abcdefgh")}, {"size": 48}])
def test_the_papers_figures_are_left_out_beside_those_of_another_domain(
    database: Database, change: dict[str, object], attacked: str
) -> None:
    for table in tiny.all_tables(database, filled(database, attacked=attacked, **change)):
        assert table.columns
        assert not [column.key for column in table.columns if column.key.startswith("paper")]
        assert not [note for note in table.notes if "The paper gives" in note or "The paper compares" in note]
        assert "CIFAR" not in " ".join(table.notes)


def test_a_running_run_has_tables_that_say_so(database: Database) -> None:
    for table in tiny.all_tables(database, filled(database, finished=False)):
        assert "The run is not finished: benign 6 of 6, FGSM (L∞) 6 of 6, C&W (L2) 5 of 6." in table.notes


def test_a_run_without_rows_has_tables(database: Database) -> None:
    plan = planning.Plan("b", "b", "d", "d", True, (planning.AttackChoice("jsma", ()),), 5, 1)
    database.start(plan.key(), planning.to_json(plan), {}, "CPU")
    for table in tiny.all_tables(database, plan.key(), tiny.system().card):
        assert "–" in render_text(table)


def test_transferred_counts_only_what_newly_fools_f1(database: Database) -> None:
    key = filled(database, finished=False, attacked="second_classifier")
    # Fooled the second classifier, but f1 was wrong on it before, or is still right: neither is f1's adversarial.
    database.append(key, [row(5, "cw", y1=6, y2=0, fooled=True, label_before=0, label_after=6)])
    still_right = row(6, "cw", y1=0, y2=0, fooled=True, label_before=0, label_after=6)
    database.append(key, [row(6, y1=0, y2=0), still_right])
    table1, table2, _, costs = tiny.all_tables(database, key)
    assert cells(table1, "cw")["adversarial_images"] == Cell(0)
    assert "paper_mask_retention_rate" not in [column.key for column in table1.columns]
    assert cells(table2, "fgsm")["paper_true_positive_rate"] == Cell(0.843)
    assert cells(table2, "cw")["paper_true_negative_rate"] == Cell(0.750)
    assert table2.title.startswith("Table 3")
    assert "second classifier" in table2.title
    cw = cells(table2, "cw")
    assert (cw["adversarial_images"], cw["fooled_images"]) == (Cell(0), Cell(2))
    assert cw["true_positive_rate_all_fooled"] == rate(1, 2)  # the wrong one of f1; the other's mask agrees
    assert cw["true_negative_rate_all_fooled"] == rate(1, 2)
    assert cw["recovery_rate_all_fooled"] == rate(2, 2)
    found, passed = (f"attacked_true_{which}_rate" for which in ("positive", "negative"))
    # C&W's two: the attacked network says 6 after and said 0 before, f2 on the mask 0 both times.
    assert (cw[found], cw[passed]) == (rate(2, 2), rate(2, 2))
    assert (cells(table2, "fgsm")[found], cells(table2, "fgsm")[passed]) == (rate(2, 4), rate(2, 4))
    assert cells(table2, records.POOLED)[found] == rate(4, 6)
    assert cells(table1, "cw")["mask_retention_rate_all_fooled"] == rate(2, 2)
    assert cells(costs, "cw", "")["transfer_rate"] == rate(0, 1)
    assert cells(costs, "fgsm", "")["transfer_rate"] == rate(4, 4)
    pooled = cells(table2, records.POOLED)
    assert (pooled["adversarial_images"], pooled["fooled_images"]) == (Cell(4), Cell(6))
    assert pooled["paper_true_positive_rate"] == Cell(None)


def test_what_the_paper_leaves_open_is_said_where_its_figures_stand(database: Database) -> None:
    def said(*attacks: str, attacked: str) -> list[bool]:
        choices = tuple(planning.AttackChoice(name, ()) for name in attacks)
        plan = planning.Plan("b", "b", "d", "d", True, choices, 5, 1, attacked)
        database.start(plan.key(), planning.to_json(plan), {}, "CPU")
        notes = "\n".join(made(database, plan.key())["table2"].notes)
        return [words in notes for words in ("all three attacks", "in f1's place: over", "whether its Table 3")]

    assert said("fgsm", "bim", attacked="classifier") == [True, False, False]
    assert said("bim", attacked="classifier") == [False, False, False]
    assert said("fgsm", "bim", attacked="second_classifier") == [False, True, True]
    assert said("bim", attacked="second_classifier") == [False, True, False]


def test_a_computed_run_recounted(database: Database) -> None:
    system, data = tiny.system(), tiny.data(60)
    plan = tiny.plan(data, system, 60, attacks=(planning.choose("fgsm", eps=12),))
    key = runner.run(plan, system, data, database)
    benign, attacked = database.rows(key, ""), database.rows(key, "fgsm")
    pairs = [(b, a) for b, a in zip(benign, attacked, strict=True) if a.fooled]
    assert len(pairs) > 15

    def y2(row: Row) -> int | None:
        return row.scores["mask"].label

    table1, table2, _, costs = tiny.all_tables(database, key, system.card)
    assert cells(table1, "fgsm")["mask_retention_rate"] == rate(sum(y2(b) == y2(a) for b, a in pairs), len(pairs))
    assert cells(table2, "fgsm")["true_positive_rate"] == rate(sum(a.y1 != y2(a) for _, a in pairs), len(pairs))
    assert cells(table2, "fgsm")["true_negative_rate_paired"] == rate(sum(b.y1 == y2(b) for b, _ in pairs), len(pairs))
    assert cells(costs, "fgsm", "")["success_rate"].n == sum(b.y1 == b.label for b in benign)


def test_titles_say_which_detectors_the_attacker_knows(database: Database) -> None:
    system, data = tiny.system(), tiny.data(8)
    choices = (planning.choose("fgsm"),)
    plan = planning.make(system.card, data, choices, 8, 0, evade=("mask", "mlp:graded"))
    found = tiny.all_tables(database, runner.run(plan, system, data, database), system.card)
    assert all(table.title.endswith(" (the attacker knows mask:disagreement, mlp:graded)") for table in found)


def test_text_is_aligned_and_has_intervals(database: Database) -> None:
    text = render_text(tables.for_screen(tiny.all_tables(database, filled(database)))[1])
    lines = text.splitlines()
    assert lines[0].startswith("Table 2")
    head = next(line for line in lines if "FGSM" in line and "C&W" in line)
    positive = next(line for line in lines if line.startswith("True positive rate"))
    assert positive.index("0.500 [0.150, 0.850]") == head.index("FGSM")
    assert positive.index("–") == head.index("C&W")
    assert len(positive) <= 100


@pytest.mark.parametrize(("width", "beside"), [(None, 7), (80, 3), (50, 2), (49, 1), (10, 1)])
def test_text_that_is_too_wide_goes_on_below(width: int | None, beside: int) -> None:
    names = [f"FGSM {k}" for k in range(7)]
    subjects = tuple(Subject("fgsm", name, "linf", {}) for name in names)
    rows = ((Cell(0.5, 4, 0.1, 0.9),),) * len(names)
    text = render_text(Table("t", "Title", (Column("rate", "A rate"),), subjects, rows, ("word " * 60,)), width)
    heads = [found for line in text.splitlines() if (found := re.findall(r"FGSM \d", line))]
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
