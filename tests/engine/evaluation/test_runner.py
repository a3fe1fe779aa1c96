"""Plan -> rows: what the rows say, and that a run killed anywhere ends with the same ones."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ciad_engine import attacks, bundles, compute
from ciad_engine.attacks.catalogue import Universal
from ciad_engine.errors import RunError, SettingError
from ciad_engine.evaluation import planning, runner
from ciad_engine.evaluation.records import about_run, load
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.runs import BENIGN, Database, Row, pixels
from tests.engine.evaluation import tiny

ATTACKS = (planning.choose("fgsm", eps=8), planning.choose("jsma", gamma=0.05))
ROOT = Path(__file__).parents[3]


class Listening(Job):
    """Keeps what it is told, and cancels itself after `stop` partial results."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.rows: list[list[Row]] = []
        self.steps: list[tuple[int, int, str]] = []
        self.notes: list[str] = []
        self.stop = stop

    def on_partial(self, result: object) -> None:
        assert isinstance(result, list)
        self.rows.append(result)
        if len(self.rows) == self.stop:
            self.cancel()

    def on_progress(self, done: int, total: int, text: str) -> None:
        self.steps.append((done, total, text))

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def assert_alike(found: list[Row], expected: list[Row]) -> None:
    """The same rows, but for rounding: what a network computes depends on the size of its batch by some 1e-7."""
    for one, other in zip(timeless(found), timeless(expected), strict=True):
        assert dataclasses.replace(one, p1_y1=0, confidence_after=0, scores={}) == dataclasses.replace(
            other, p1_y1=0, confidence_after=0, scores={}
        )
        assert (one.p1_y1, one.confidence_after or 0) == pytest.approx(
            (other.p1_y1, other.confidence_after or 0), rel=1e-4
        )
        assert list(one.scores) == list(other.scores)
        for score, wanted in zip(one.scores.values(), other.scores.values(), strict=True):
            assert (score.label, score.probability) == (
                wanted.label,
                wanted.probability and pytest.approx(wanted.probability, rel=1e-4),
            )
            assert score.value == pytest.approx(wanted.value, rel=1e-4)


def timeless(rows: list[Row]) -> list[Row]:
    return [dataclasses.replace(row, seconds=0) for row in rows]


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The rows of an uninterrupted run."""
    system, data = tiny.system(), tiny.data()
    with Database(tmp_path_factory.mktemp("whole") / "runs.sqlite") as database:
        key = runner.run(tiny.plan(data, system, attacks=ATTACKS), system, data, database, batch_size=8)
        return timeless(database.rows(key, images=True))


def test_rows_hold_what_attack_and_detectors_found(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system)
    key = runner.run(plan, system, data, database, batch_size=8)
    assert key == plan.key()
    assert database.run(key).finished
    assert database.counts(key) == {BENIGN: 30, "fgsm": 30}

    index = runner.choose_images(40, 30, 11)
    images, labels = data.images[index], data.labels[index]
    result = attacks.create("fgsm", eps=8).run(system.network(bundles.CLASSIFIER), images, labels)
    assert 0 < result.success.sum() < 30
    assert (result.reason == "already misclassified").any()
    for attack, shown in ((BENIGN, images), ("fgsm", result.images)):
        verdict = system.inspect(shown)
        control = system.network(bundles.CONTROL)
        with torch.no_grad():
            mlp = control(torch.from_numpy(shown) / 255).softmax(1).numpy()
        for k, row in enumerate(database.rows(key, attack, images=True)):
            assert (row.position, row.image_index) == (k, index[k])
            assert (row.name, row.label) == (data.names[index[k]], labels[k])
            assert row.y1 == verdict.y1[k]
            assert row.p1_y1 == pytest.approx(verdict.p1[k, row.y1], rel=1e-5)
            assert list(row.scores) == ["mask", "mlp", "shuffled-mask", "constant-mask", "confidence"]
            for name, found in verdict.findings.items():
                score = row.scores[name]
                assert score.value == pytest.approx(found.scores[k], rel=1e-5)
                if name == "confidence":
                    assert (score.label, score.probability) == (None, None)
                    assert score.value == pytest.approx(-np.log(row.p1_y1), rel=1e-5)
                else:
                    assert score.label == found.labels[k]
                    assert score.probability == pytest.approx(found.probabilities[k].max(), rel=1e-5)
                    assert score.value == pytest.approx(-np.log(found.probabilities[k, row.y1]), rel=1e-4)
            assert row.scores["mlp"].label == mlp[k].argmax()
            assert row.scores["mlp"].value == pytest.approx(-np.log(mlp[k, row.y1]), rel=1e-4)
            assert row.evaded is None
            assert row.seconds > 0
            if attack:
                for name in ("success", "fooled", "reason", "label_before", "label_after", "l0_values", "l0_pixels",
                             "linf", "l2", "ssim", "forwards", "backwards", "steps"):  # fmt: skip
                    assert getattr(row, name) == getattr(result, name)[k], name
                assert (row.image is not None) == row.fooled
            assert np.array_equal(database.image(key, attack, k), shown[k])


def test_order_is_a_seeded_shuffle() -> None:
    assert runner.choose_images(10, 10, 0).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    assert runner.choose_images(10, 4, 0).tolist() == [2, 8, 4, 9]
    assert runner.choose_images(10, 10, 1).tolist() != runner.choose_images(10, 10, 0).tolist()


def test_progress_counts_images_and_rows_come_after_each_batch(database: Database, whole: list[Row]) -> None:
    system, data = tiny.system(), tiny.data()
    job = Listening()
    runner.run(tiny.plan(data, system, attacks=ATTACKS), system, data, database, job, batch_size=8)
    assert timeless([row for batch in job.rows for row in batch]) == whole
    assert [len(batch) for batch in job.rows] == [8, 8, 8, 6] * 3
    done = [step[0] for step in job.steps]
    assert done == sorted(done)
    assert {step[1] for step in job.steps} == {90}
    assert done[0] == 0
    assert done[-1] == 90
    assert {step[2] for step in job.steps} == {"Benign images", "FGSM (L∞)", "JSMA (L0)", "Finished"}
    assert database.run(database.runs()[0].key).seconds == pytest.approx(sum(r.seconds for b in job.rows for r in b))


@pytest.mark.parametrize("stop", range(1, 13))
def test_cancelled_after_any_batch_it_ends_with_the_same_rows(database: Database, whole: list[Row], stop: int) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    with pytest.raises(Cancelled):
        runner.run(plan, system, data, database, Listening(stop), batch_size=8)
    assert timeless(database.rows(plan.key(), images=True)) == whole[: sum(([8, 8, 8, 6] * 3)[:stop])]
    assert not database.run(plan.key()).finished
    job = Listening()
    runner.run(plan, system, data, database, job, batch_size=8)
    assert timeless(database.rows(plan.key(), images=True)) == whole
    assert database.run(plan.key()).finished
    assert len(job.rows) == 12 - stop  # nothing is computed twice


def test_continued_with_another_batch_size(database: Database, whole: list[Row]) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    with pytest.raises(Cancelled):
        runner.run(plan, system, data, database, Listening(5), batch_size=8)
    runner.run(plan, system, data, database, batch_size=7)
    again = timeless(database.rows(plan.key(), images=True))
    assert_alike(again, whole)


def test_killed_process_loses_only_its_batch(tmp_path: Path, whole: list[Row]) -> None:
    path = tmp_path / "runs.sqlite"
    code = (
        "import sys, time\n"
        "from ciad_engine.evaluation import runner\n"
        "from ciad_engine.jobs import Job\n"
        "from ciad_engine.runs import Database\n"
        "from tests.engine.evaluation import tiny, test_runner\n"
        "class Slow(Job):\n"
        "    seen = 0\n"
        "    def on_partial(self, rows):\n"
        "        self.seen += 1\n"
        "        if self.seen == 6: print('six', flush=True)\n"
        "        if self.seen >= 6: time.sleep(1)\n"
        "s, d = tiny.system(), tiny.data()\n"
        "plan = tiny.plan(d, s, attacks=test_runner.ATTACKS)\n"
        "runner.run(plan, s, d, Database(sys.argv[1]), Slow(), 8)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", code, path], env=environment, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"six"
    time.sleep(0.07)
    child.kill()
    child.wait(30)
    child.stdout.close()
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    with Database(path) as database:
        kept = timeless(database.rows(plan.key(), images=True))
        assert 46 <= len(kept) < 90
        assert kept == whole[: len(kept)]
        runner.run(plan, system, data, database, batch_size=8)
        assert timeless(database.rows(plan.key(), images=True)) == whole


def test_a_finished_run_is_not_computed_again(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system)
    runner.run(plan, system, data, database)
    before = database.rows(plan.key())
    job = Listening()
    assert runner.run(plan, system, data, database, job) == plan.key()
    assert job.rows == []
    assert job.steps == [(60, 60, "Already computed")]
    assert database.rows(plan.key()) == before


def test_another_version_is_noted_when_continuing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system)
    with pytest.raises(Cancelled):
        runner.run(plan, system, data, database, Listening(1), batch_size=8)
    monkeypatch.setattr(runner, "current_versions", lambda plan: {"torch": "99"})
    job = Listening()
    runner.run(plan, system, data, database, job, batch_size=8)
    assert len(job.notes) == 1
    assert "torch 99" in job.notes[0]


def test_the_attacked_network_is_checked_and_noted_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    system, data = tiny.system(), tiny.data()
    plan, seen, said = tiny.plan(data, system, attacks=ATTACKS), [], ()

    def check(network: torch.nn.Module, images: np.ndarray, labels: np.ndarray, evade: object) -> tuple[str, ...]:
        seen.append((network, len(images), len(labels)))
        return said

    monkeypatch.setattr(runner.checks, "check", check)
    for stop in (2, 3, None):  # among the benign images, and in the first attack
        with pytest.raises(Cancelled) if stop else contextlib.nullcontext():
            runner.run(plan, system, data, database, Listening(stop), batch_size=8)
    assert seen == [(system.network(bundles.CLASSIFIER), 30, 30)]
    assert database.notes(plan.key()) == {}
    database.delete(plan.key())
    said = ("It is doubtful.",)
    runner.run(plan, system, data, database)
    assert database.notes(plan.key()) == {BENIGN: said}
    assert about_run(load(database, plan.key())).count(*said) == 1


def test_transferred_attack_is_made_for_the_second_classifier(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacked=bundles.SECOND_CLASSIFIER, attacks=(planning.choose("fgsm", eps=5),))
    key = runner.run(plan, system, data, database)
    index = runner.choose_images(40, 30, 11)
    second = system.network(bundles.SECOND_CLASSIFIER)
    result = attacks.create("fgsm", eps=5).run(second, data.images[index], data.labels[index])
    rows = database.rows(key, "fgsm")
    assert [row.success for row in rows] == result.success.tolist()
    assert [row.label_after for row in rows] == result.label_after.tolist()
    verdict = system.inspect(result.images)
    assert [row.y1 for row in rows] == verdict.y1.tolist()
    fooled_both = [row.success and row.y1 != row.label for row in rows]
    assert 0 < sum(fooled_both) < result.success.sum()  # y1 is f1's, not the attacked network's


def test_full_memory_halves_the_batch(database: Database, whole: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    forward = tiny.Classifier.forward

    def small(self: tiny.Classifier, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError
        return forward(self, images)

    monkeypatch.setattr(tiny.Classifier, "forward", small)
    job = Listening()
    runner.run(plan, system, data, database, job, batch_size=8)
    # The detector halves within its batch; the attack's batches get smaller themselves, and stay so.
    assert [len(batch) for batch in job.rows[4:]] == [4] * 7 + [2] + [4] * 7 + [2]
    assert any("4 images" in note for note in job.notes)
    rows = database.rows(plan.key(), images=True)
    assert [(r.attack, r.position, r.image) for r in rows] == [(r.attack, r.position, r.image) for r in whole]


def test_cancelling_inside_an_attack_stops_it(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=(planning.choose("cw", iterations=100_000),))

    class Impatient(Listening):
        def on_progress(self, done: int, total: int, text: str) -> None:
            super().on_progress(done, total, text)
            if sum(step[2] == text for step in self.steps) == 3 and text != "Benign images":
                self.cancel()

    started = time.monotonic()
    with pytest.raises(Cancelled):
        runner.run(plan, system, data, database, Impatient())
    assert time.monotonic() - started < 10
    assert database.counts(plan.key()) == {BENIGN: 30}


def test_a_batch_all_of_the_target_class_is_no_obstacle(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=(planning.choose("fgsm", target="given", target_class=3),))
    key = runner.run(plan, system, data, database, batch_size=1)
    rows = database.rows(key, "fgsm")
    assert {row.reason for row in rows if row.label == 3 and row.label_before == 3} == {"the target is its own class"}
    assert any(row.label == 3 for row in rows)


def test_a_target_class_all_images_have_is_refused(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    only = data.subset(np.flatnonzero(data.labels == 3))
    plan = tiny.plan(only, system, 1, attacks=(planning.choose("fgsm", target="given", target_class=3),))
    with pytest.raises(SettingError, match="target_class = 3"):
        runner.run(plan, system, only, database)
    assert database.runs() == []


def test_other_data_and_other_bundles_are_refused(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system)
    with pytest.raises(RunError, match=r"data .* not those"):
        runner.run(plan, system, tiny.data(41), database)
    other = dataclasses.replace(system, card=dataclasses.replace(system.card, checksum="cd" * 32))
    with pytest.raises(RunError, match=r"bundle 'tiny' .* not the one"):
        runner.run(plan, other, data, database)
    assert database.runs() == []


def test_the_runs_record_names_versions_and_device(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    run = database.run(runner.run(tiny.plan(data, system), system, data, database))
    assert run.versions["torch"] == str(torch.__version__)
    assert set(run.versions) == {"ciad", "python", "torch", "numpy"}
    assert run.device == compute.describe_device(system.device)
    assert planning.from_json(run.plan) == tiny.plan(data, system)


def test_pixels_of_a_stored_image(whole: list[Row]) -> None:
    stored = next(row for row in whole if row.attack == "fgsm" and row.success)
    benign = next(row for row in whole if row.attack == BENIGN and row.position == stored.position)
    assert stored.image is not None
    assert benign.image is not None
    moved = pixels(stored.image).astype(int) - pixels(benign.image)
    assert np.abs(moved).max() == stored.linf
    assert (moved != 0).sum() == stored.l0_values


def test_an_attack_that_is_fitted_learns_from_the_images_that_are_not_evaluated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, data = tiny.system(), tiny.data(60)
    attack = planning.choose("universal", eps=40, passes=3)
    plan = tiny.plan(data, system, attacks=(planning.choose("fgsm"), attack))
    order = runner.choose_images(60, 60, 11)
    network = system.network(bundles.CLASSIFIER)
    fitted = attacks.create(attack.name, **attack.parameters()).fitted(network, data.images[order[30:]])
    expected = fitted.run(network, data.images[order[:30]], data.labels[order[:30]])
    assert expected.success.any()
    first, second = Listening(stop=10), Listening()
    with pytest.raises(Cancelled):
        runner.run(plan, system, data, database, first, batch_size=8)
    assert 0 < database.counts(plan.key())["universal"] < 30
    assert [note for note in first.notes if "computed from 30 images" in note]
    monkeypatch.setattr(Universal, "fitted", lambda *_: pytest.fail("it goes on with what was kept"))
    key = runner.run(plan, system, data, database, second, batch_size=8)
    assert second.notes == []
    rows = database.rows(key, "universal", images=True)
    assert [row.success for row in rows] == expected.success.tolist()
    for row, image in zip(rows, expected.images, strict=True):
        assert row.image is None or np.array_equal(pixels(row.image), image)


def test_an_attack_with_nothing_left_to_learn_from_is_refused_before_anything_is_computed(database: Database) -> None:
    system, data = tiny.system(), tiny.data(40)
    plan = tiny.plan(data, system, limit=35, attacks=(planning.choose("universal"),))
    with pytest.raises(SettingError, match=r"at least 10 images .* and 5 are left"):
        runner.run(plan, system, data, database)
    assert database.runs() == []
    plan = tiny.plan(data, system, limit=20, attacks=(planning.choose("universal"),))
    with pytest.raises(RunError, match="not those this run was planned for"):  # not that it has too few images
        runner.run(plan, system, tiny.data(25), database)


@pytest.mark.parametrize(("kwargs", "largest"), [({}, 30), ({"evade": ("mlp",)}, 16)])
def test_an_attack_that_follows_detectors_takes_fewer_images_at_once(kwargs, largest, tmp_path: Path) -> None:
    """So that an iteration on a CPU is short: only between two of them more urgent work can run."""
    stored: list[int] = []

    class Counting(Job):
        def on_partial(self, result: object) -> None:
            stored.append(len(result))  # type: ignore[arg-type]

    system, data = tiny.system(), tiny.data()
    attacks = (planning.choose("pgd", iterations=1),)
    with Database(tmp_path / "runs.sqlite") as database:
        runner.run(tiny.plan(data, system, attacks=attacks, **kwargs), system, data, database, Counting())
    assert (max(stored), sum(stored)) == (largest, 60)


def test_a_disk_that_is_full_at_any_write_is_said_and_the_same_plan_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Row]
) -> None:
    """SQLite is told how many pages the disk has; one more each time, until the run has its place."""
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    with Database(tmp_path / "empty.sqlite") as empty, empty._connected() as connection:
        (first,) = connection.execute("PRAGMA page_count").fetchone()
    opened, full = Database._opened, 0
    with Database(tmp_path / "runs.sqlite") as database:
        for pages in range(first, 1000, 2):

            def limited(self, *arguments, pages=pages, **more):  # type: ignore[no-untyped-def]
                connection = opened(self, *arguments, **more)
                connection.execute(f"PRAGMA max_page_count = {pages}")
                return connection

            with monkeypatch.context() as patch:
                patch.setattr(Database, "_opened", limited)
                database.close()
                try:
                    runner.run(plan, system, data, database, batch_size=8)
                    break
                except RunError as error:
                    message = str(error)
            full += 1
            assert re.search(r"runs\.sqlite cannot grow: the disk is full\. Free some space", message)
        assert full > 5
        assert_alike(sorted_rows(database.rows(plan.key(), images=True)), sorted_rows(whole))
        assert database.run(plan.key()).finished


def sorted_rows(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.attack, row.position))


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("stop", [1, 3, None])
def test_a_database_that_is_deleted_while_a_run_computes(tmp_path: Path, stop: int | None, whole: list[Row]) -> None:
    """It stops with a message, and what was computed is in the file that it names; there the run goes on."""
    system, data = tiny.system(), tiny.data()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    folder = tmp_path / "folder"

    class Deleting(Listening):
        def on_partial(self, result: object) -> None:
            super().on_partial(result)
            if len(self.rows) == stop:
                shutil.rmtree(folder)

        def on_progress(self, done: int, total: int, text: str) -> None:
            if text == "Finished" and stop is None:
                shutil.rmtree(folder)

    job = Deleting()
    with Database(folder / "runs.sqlite") as database:
        with pytest.raises(RunError, match=r"folder.runs\.sqlite was deleted or replaced while a run") as caught:
            runner.run(plan, system, data, database, job, batch_size=8)
        assert not folder.exists()
    (name,) = re.findall(r"written to (.*): move", str(caught.value))
    with Database(name) as rescued:
        stored = {1: 16, 3: 30, None: plan.rows}[stop]  # with the batch that could not be stored any more
        assert len(rescued.rows(plan.key())) == stored
        runner.run(plan, system, data, rescued, batch_size=8)
        assert_alike(sorted_rows(rescued.rows(plan.key(), images=True)), sorted_rows(whole))


def test_damaged_runs_beside_it_do_not_keep_a_plan_from_being_run(database: Database) -> None:
    system, data = tiny.system(), tiny.data()
    first = runner.run(tiny.plan(data, system, 20), system, data, database)
    for key, plan in (("e" * 64, {"attacks": 3}), ("f" * 64, {})):
        database.start(key, plan, runner.versions(), database.run(first).device)
    with database._connected() as connection, connection:
        connection.execute("UPDATE runs SET plan = '{' WHERE key = ?", ("f" * 64,))
        connection.execute("UPDATE rows SET scores = '[' WHERE attack = 'fgsm' AND position = 3")
    key = runner.run(tiny.plan(data, system, 20, attacks=ATTACKS), system, data, database)
    assert database.run(key).finished
    assert len(database.rows(key)) == 60
