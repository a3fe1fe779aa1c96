"""What is told of a run that is followed in the database, and that nothing is told of another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ciad_app.evaluate import following
from ciad_app.evaluate.following import INTERVAL, Following
from ciad_engine import bundles
from ciad_engine.errors import RunError
from ciad_engine.runs import Database
from tests.engine.evaluation.tiny import row


class Slow:
    """A background whose work is done when the test says so."""

    def __init__(self):
        self.waiting = []

    def run(self, work: Callable, done: Callable, failed: Callable) -> None:
        self.waiting.append((work, done, failed))

    def step(self) -> None:
        work, done, failed = self.waiting.pop(0)
        try:
            found = work()
        except RunError as error:
            failed(str(error))
        else:
            done(found)


class Told(list):
    def __init__(self, qtbot):
        self.background, self.problems = Slow(), []
        self.following = Following(self.background, self.append, self.problems.append)
        self._qtbot = qtbot

    def look(self) -> None:
        """Let it look once, when it does."""
        self._qtbot.waitUntil(lambda: bool(self.background.waiting), timeout=20 * INTERVAL)
        self.background.step()


@pytest.fixture
def told(qtbot):
    made = Told(qtbot)
    yield made
    made.following.stop()


@pytest.fixture
def runs(interrupted, untrained_bundle, database_path):
    card = bundles.read_card(untrained_bundle)
    with Database(database_path) as database:
        yield database, card, interrupted(card, 4), interrupted(card, 5)


def test_rows_of_another_program_arrive_until_the_run_is_finished(told, runs, database_path, qtbot):
    database, card, run, _ = runs
    database.append(run.key, [row(0), row(1)])
    told.following.follow(database, run.key, card)
    told.look()
    with Database(database_path) as other:
        other.append(run.key, [row(2), row(3)])
        told.look()
        told.look()
        other.append(run.key, [row(k, "fgsm", y1=1, fooled=True, label_before=0) for k in range(4)])
        other.finish(run.key)
        told.look()
    assert [[r.position for r in news.rows] for news in told] == [[0, 1], [2, 3], [], [0, 1, 2, 3]]
    assert [news.first for news in told] == [True, False, False, False]
    assert [news.reads for news in told] == [1, 2, 3, 4]
    assert [news.results is None for news in told] == [False, False, True, False]
    assert told[-1].run.finished
    assert told[-1].card == card
    (attacks,) = (table for table in told[-1].results.tables if table.name == "attacks")
    assert "4" in {cell.text() for cells in attacks.cells for cell in cells}
    qtbot.wait(2 * INTERVAL)
    assert not told.background.waiting


def test_many_rows_are_handed_over_in_pieces(told, runs, monkeypatch, qtbot):
    database, card, run, other = runs
    monkeypatch.setattr(following, "PIECE", 2)
    database.append(run.key, [row(0), row(1), row(2), row(3), row(0, "fgsm")])
    told.following.follow(database, run.key, card)
    told.look()
    assert len(told) == 1  # the window has its turn between two pieces
    qtbot.waitUntil(lambda: len(told) == 3)
    assert [len(news.rows) for news in told] == [2, 2, 1]
    assert [news.first for news in told] == [True, False, False]
    assert [news.more for news in told] == [True, True, False]
    assert [news.results is None for news in told] == [True, True, False]
    told.following.follow(database, run.key, card)
    told.look()
    told.following.follow(database, other.key, card)
    told.look()
    qtbot.wait(50)
    assert [news.run.key for news in told[3:]] == [run.key, other.key]


def test_late_tables_of_an_old_run_are_not_told(told, runs, qtbot):
    database, card, old, new = runs
    told.following.follow(database, old.key, card)
    qtbot.waitUntil(lambda: bool(told.background.waiting))
    told.following.follow(database, new.key, card)
    told.background.step()  # the look at the old run is done only now
    assert told == []
    told.look()
    assert [news.run.key for news in told] == [new.key]


def test_nothing_is_told_after_stop(told, runs, qtbot):
    database, card, run, _ = runs
    told.following.follow(database, run.key, card)
    qtbot.waitUntil(lambda: bool(told.background.waiting))
    told.following.stop()
    told.background.step()
    assert told == []
    told.following.refresh()
    qtbot.wait(50)
    assert not told.background.waiting


def test_what_was_read_before_a_refresh_is_marked(told, runs, qtbot):
    database, card, run, _ = runs
    told.following.follow(database, run.key, card)
    qtbot.waitUntil(lambda: bool(told.background.waiting))
    told.following.refresh()
    told.background.step()
    told.look()
    assert [news.reads for news in told] == [0, 1]


def test_a_run_that_is_gone_is_a_message_and_not_followed_any_more(told, runs, qtbot):
    database, card, run, _ = runs
    told.following.follow(database, run.key, card)
    told.look()
    database.delete(run.key)
    told.look()
    assert len(told.problems) == 1
    assert "there is no run called" in told.problems[0]
    qtbot.wait(2 * INTERVAL)
    assert not told.background.waiting


def test_the_card_is_that_of_the_bundle_in_use_if_the_run_is_of_it(told, runs, untrained_bundle):
    database, card, run, _ = runs
    told.following.follow(database, run.key, bundles.read_card(bundles.find("paper")))
    told.look()
    assert told[0].card is None  # the untrained bundle is not installed
    told.following.follow(database, run.key, card)
    told.look()
    assert told[1].card is card


def test_an_error_that_nobody_expected_does_not_end_the_following(told, runs, monkeypatch, qtbot):
    database, card, run, _ = runs
    told.following.follow(database, run.key, card)
    monkeypatch.setattr(Database, "rows_after", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        told.look()
    monkeypatch.undo()
    told.following.follow(database, run.key, card)
    told.look()
    assert [news.reads for news in told] == [1]
