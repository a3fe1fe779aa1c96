"""The page Inspect: it joins gallery, panes, attack panel and verdict, and asks the engine."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QSplitter, QWidget

from ciad_app.actions import Key, MenuRow
from ciad_app.incoming import OpenedRow, Thing
from ciad_app.inspect import guide, work
from ciad_app.inspect.attack_panel import AttackPanel
from ciad_app.inspect.collection import RECORDS, YOURS, Collection, Entry, of_entries, of_picture
from ciad_app.inspect.gallery import Gallery, tip_of
from ciad_app.inspect.history import History, name_of
from ciad_app.inspect.pane_grid import PaneGrid
from ciad_app.inspect.presenter import KEYS, Presenter
from ciad_app.inspect.quiz import Quiz
from ciad_app.inspect.results import figures
from ciad_app.inspect.save_buttons import SaveButtons
from ciad_app.inspect.state import LOADING, State, Wait
from ciad_app.inspect.verdict_bar import NOTHING, VerdictBar
from ciad_app.later import Later
from ciad_app.latest import Latest
from ciad_app.page import Page
from ciad_app.tour import Step
from ciad_app.widgets.build import FollowsFont, button, in_column, in_row
from ciad_app.widgets.held import Held
from ciad_app.widgets.scrolled import Scrolled
from ciad_app.worker import Engine, EngineInfo, Session, Work
from ciad_engine import attacks, imaging
from ciad_engine.counting import counted
from ciad_engine.domain import CIFAR10
from ciad_engine.inspection import Inspection, explain
from ciad_engine.jobs import Job
from ciad_engine.smallest import Smallest, sentence

DEBOUNCE = 60  # ms; holding an arrow key down must not queue an inspection for every image passed
BLINK = 800  # ms
LIVE = ("fgsm", "bim", "pgd")  # attacks quick enough to be made anew while a slider moves
SETTLED = 500  # ms after the last change of a setting: then the attack joins the history
LOOKING = "Looking …"


class InspectPage(FollowsFont, Page):
    """See one image attacked, and what the detector says of it."""

    title = "Inspect"
    tip = "One image: attack it, see the masks, read the verdict"
    menu = "&Image"

    def __init__(self, engine: Engine, folder: str = "", database: Path | None = None) -> None:
        super().__init__(engine, folder, database)
        self._state = State()
        self._task = Latest(engine)  # the one look or attack that the page waits for
        self._history = History()
        self._domain = CIFAR10  # of the images in the gallery

        self.gallery = Gallery()
        self.grid = PaneGrid()
        self.panel = AttackPanel()
        self.verdict = VerdictBar()
        self.presenter = Presenter()
        self.open_button = button("Open images …", "Open pictures, or a data set's archive.", self.open_asked.emit)
        self.saves = SaveButtons(engine, ((self.grid, self.panel.results), (self.verdict,)))
        self.saves.folder = folder
        self.saves.message.connect(self.message)
        self.saves.folder_used.connect(self.folder_used)
        self._lay_out()

        self._debounce = Later(self, DEBOUNCE, self._inspect)
        self._settled = Later(self, SETTLED, self._keep)
        self._wanted = False  # whether the settings changed while an attack was tried
        self._filling = False  # whether the settings are those of an attack that is shown again
        self.gallery.selected.connect(self._select)
        self.gallery.again.connect(self._select_again)
        self.panel.attack_asked.connect(self.attack_now)
        self.panel.cancel_asked.connect(self.cancel)
        self.panel.detector_changed.connect(self._decide)
        self.panel.settings_changed.connect(self._settings_changed)
        self.panel.attack.currentIndexChanged.connect(lambda _: self._mark_age())
        self.panel.knows.toggled.connect(lambda _: self._settings_changed())
        self.panel.chosen.connect(self._return_to)
        self.panel.compared.connect(self._compare)
        self.panel.removed.connect(self._remove)
        seen = (self.gallery.list, self.panel.history, self.presenter, *self.grid.panes)
        Held(Qt.Key.Key_Space, seen, self).changed.connect(self._blink)
        engine.ready.connect(self._ready)
        engine.unavailable.connect(self._not_available)
        engine.loading_changed.connect(self._update_controls)
        if engine.info is not None:
            self._ready(engine.info)
        else:
            self._tell(LOADING, "")
        self._update_controls()

    def _lay_out(self) -> None:
        left = QWidget()
        in_column(self.open_button, (self.gallery, 1), parent=left, margins=0)
        self._splitter = QSplitter(Qt.Orientation.Horizontal)
        for widget in (left, self.grid, Scrolled(self.panel, column=True)):
            self._splitter.addWidget(widget)
        self._splitter.setStretchFactor(1, 1)
        self._splitter.setChildrenCollapsible(False)
        self._size_columns()
        self._content = QWidget()
        self.presenter.hide()
        in_column((self._splitter, 1), in_row((self.verdict, 1), self.saves), parent=self._content, margins=8)
        in_column(self._content, self.presenter, parent=self, margins=0)
        self.setFocusProxy(self.gallery.list)

    def fit_font(self) -> None:
        QTimer.singleShot(0, self, self._size_columns)  # the columns themselves follow the font after the page

    def _size_columns(self) -> None:
        """Give the outer columns the width their texts need at this font size, the middle what is left."""
        letter = self.fontMetrics().averageCharWidth()
        left, right = 31 * letter, 39 * letter
        self._splitter.setSizes([left, max(self.width() - left - right, 560), right])

    # What the window calls.

    def menu_rows(self) -> Sequence[MenuRow]:
        return (
            ("&Attack", self.attack_now, "Attack the image with the chosen settings", ("Ctrl+Return", "Ctrl+Enter")),
            (
                "Find the smallest &change",
                self.find_smallest,
                "Find the smallest strength that fools f1, and the smallest that also gets past the detector",
                ("Ctrl+Shift+Return", "Ctrl+Shift+Enter"),
            ),
            None,
            ("&Next image", lambda: self.gallery.step(1), "Select the next image", ("Alt+Right",)),
            ("&Previous image", lambda: self.gallery.step(-1), "Select the image before", ("Alt+Left",)),
            ("&Quiz …", self._quiz, "Two pictures: which of them was attacked?", ("Ctrl+K",)),
            ("&Blink", self._blink_once, "See the adversarial image in the original's place; hold Space for it"),
            None,
            ("&Save image …", self.saves.save_image, "Save the adversarial image", (Key.Save,)),
            (
                "Save s&ession …",
                self._save_session,
                "Save image, attack and view in one file, to show the same again on any machine",
                (Key.SaveAs, "Ctrl+Shift+S"),
            ),
        )

    def take(self, thing: Thing) -> bool:
        if isinstance(thing, OpenedRow):
            image, label, adversarial, name, attack, evade, bundle = thing
            self.show_record(Entry(image, label, name, "", adversarial, attack, evade, bundle))
        elif thing.paths:
            self.open_paths(list(thing.paths))
        else:
            self.open_bytes(thing.picture, thing.name)
        return True

    def copy(self) -> None:
        self.saves.copy_view()

    def export(self) -> None:
        self.saves.export_view()

    def escape(self) -> bool:
        """Stop what this page waits for, not an evaluation behind it; else go back to the original image."""
        found, entry = self._state.found, self._state.entry
        if self.busy:
            self.cancel()
        elif found is not None and entry is not None and found.adversarial is not None:
            self.panel.show_history(self._history.lines(entry), -1)
            self._show(found.without_attack())
        else:
            return False
        return True

    def tour(self) -> Sequence[Step]:
        return guide.steps(lambda: self._state, self.grid, self.panel, self.verdict)

    def tell(self, text: str) -> None:
        self.presenter.keys.setText(text)

    def present(self, on: bool) -> None:
        self._content.setVisible(not on)
        self.presenter.setVisible(on)
        self.presenter.keys.setText(KEYS)
        (self.presenter if on else self.gallery.list).setFocus()

    @property
    def found(self) -> Inspection | None:
        return self._state.found

    @property
    def busy(self) -> bool:
        """Whether the page waits for an inspection or an attack; `cancel` stops that."""
        return self._task.busy

    def open_paths(self, paths: list[Path]) -> None:
        """Open pictures, folders of pictures, data set folders and archives; all others still open if one is bad."""
        if not paths:
            return
        self.saves.folder = str(paths[0].parent)
        self._open(
            lambda session, job: work.open_paths(paths, session, job),
            "Opening images",
            urgent=work.are_pictures(paths),
        )

    def open_bytes(self, raw: bytes, name: str) -> None:
        """Open a picture from memory, such as one from the clipboard."""

        def read(session: Session, job: Job) -> work.Opened:
            return work.Opened((of_picture(imaging.read_bytes(raw, name, session.domain.size, job)),))

        self._open(read, "Opening an image", urgent=True)

    def _open(self, read: Work, text: str, urgent: bool) -> None:
        task = self.engine.submit(read, self._opened, failed=self.message.emit, text=text, urgent=urgent)
        if task.waits:  # opening nothing visible for an hour would look like a drop that was not noticed
            self.message.emit(f"{text}: it waits for the other work to finish or to be cancelled.")

    def show_record(self, record: Entry) -> None:
        """Show a stored image, e.g. of the results table; its verdicts are computed anew."""
        kept = self.gallery.collection(RECORDS)
        entries = [*(kept.extras if kept else ()), record]
        self.gallery.show_collection(of_entries(RECORDS, entries), len(entries) - 1)

    def attack_now(self) -> None:
        entry = self._state.entry
        if entry is None or self._state.why_not_attack:
            return
        (name, settings), evade = self.panel.request(), self.panel.evade
        title = self.panel.attack.currentText()
        self._drop_task()
        self._state = self._state.attacking()
        self.panel.results.show_figures({})
        self.panel.show_history(self._history.lines(entry), -1)  # what was marked is no longer shown

        self.grid.await_attack("Attacking …")
        self.presenter.show_image(entry.pixels)
        if self.panel.button.hasFocus():  # it is disabled now, and would give the focus to the next button
            self.gallery.list.setFocus()
        self._tell(f"Attacking with {title} …", "Escape stops it.")
        self._ask(
            lambda session, job: work.attack(session.system, entry, name, settings, evade, job),
            lambda found: self._attacked(entry, found),
            f"{title} on {entry.name}",
        )

    def find_smallest(self) -> None:
        """Find the smallest strength of the chosen attack that fools f1, and that gets past the detector, too."""
        entry = self._state.entry
        if entry is None or self._state.why_not_attack:
            self.message.emit(self._state.why_not_attack)
            return
        (name, settings), evade, decides = self.panel.request(), self.panel.evade, self.panel.deciding
        detector = self.panel.detector.currentText()
        self._drop_task()
        self._state = self._state.trying()
        self._tell("Looking for the smallest change …", "Escape stops it.")
        self._ask(
            lambda session, job: work.smallest(session.system, entry, name, settings, evade, decides, job),
            lambda found: self._found_smallest(entry, found, detector),
            f"Smallest change of {entry.name}",
        )

    def _found_smallest(self, entry: Entry, found: Smallest, detector: str) -> None:
        self._state, self._wanted = self._state.gave_up(), False
        both = (found.passing, found.fooling) if found.passing is not found.fooling else (found.fooling,)
        for each in both:
            if each is not None:
                self._fill(each)
                self._attacked(entry, each)
        if found.fooling is None and self._state.found is None:
            self._select(entry)  # it had not been looked at yet
        elif found.fooling is None:
            self._decide()
        self.message.emit(sentence(found, detector))

    def _settings_changed(self) -> None:
        """Show at once what a quick attack makes with the settings as they are now; dim what belongs to others."""
        if self._filling:
            return
        name, _ = self.panel.request()
        if name not in LIVE or self._state.entry is None or self._state.why_not_attack:
            self._mark_age()
        elif self._state.wait is Wait.TRY:  # one at a time; the latest settings come next
            self._wanted = True
        else:
            self._try()

    def _try(self) -> None:
        entry, (name, settings), evade = self._state.entry, self.panel.request(), self.panel.evade
        assert entry is not None
        known = self._state.found
        self._drop_task()
        self._state = self._state.trying()
        self._ask(
            lambda session, job: work.attack(session.system, entry, name, settings, evade, job, known),
            lambda found: self._tried(entry, found),
            f"{attacks.title(name)} on {entry.name}",
        )

    def _tried(self, entry: Entry, found: Inspection) -> None:
        self._show(found)
        self._settled.start()
        if self._wanted:
            self._wanted = False
            self._settings_changed()

    def _keep(self) -> None:
        """Remember the attack that was tried last."""
        found, entry = self._state.found, self._state.entry
        if found is None or entry is None or found.attack is None or self._state.wait is not Wait.NOTHING:
            return
        row = self._history.add(entry, found)
        self.panel.show_history(self._history.lines(entry), row)

    def _mark_age(self) -> None:
        """Dim what an attack with other settings than those in the form made."""
        found = self._state.found
        attack = None if found is None else found.attack
        made = None if found is None or attack is None else (attack.attack, attack.settings, found.evade)
        self.grid.dim(made is not None and made != (*self.panel.request(), self.panel.evade))

    @contextlib.contextmanager
    def _filled(self) -> Iterator[None]:
        """Let the form be filled without an attack being made of what is filled in."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def _fill(self, found: Inspection) -> None:
        """Put an attack's settings into the form, without making it again."""
        if found.attack is None:
            return
        with self._filled():
            self.panel.choose(found.attack.attack, found.attack.settings)
            self.panel.choose_to_evade(found.evade)

    def cancel(self) -> None:
        self._task.cancel()

    def _save_session(self) -> None:
        detector, rule = self.panel.deciding
        view = dataclasses.replace(self.grid.view, detector=detector, rule=rule)
        self.saves.save_session(view, self.panel.request())

    # What comes from the engine.

    def _ready(self, info: EngineInfo) -> None:
        self._state = dataclasses.replace(self._state, loaded=True, unavailable="")
        if info.domain != self._domain:
            self._begin_anew(info)
        self.gallery.set_classes(info.domain.classes)
        self.panel.set_attacks(info.attacks, info.domain.classes)
        self.panel.set_detectors(info.detectors)
        self._history.clear()  # of another bundle
        if info.has_samples and not self.gallery.sets.count():
            self.engine.submit(work.samples, self._samples_loaded, failed=self._tell_failure, text="Samples")
        if self._state.entry is None:
            self._tell("Select an image, or drop one on the window.", "")
        else:
            self._select(self._state.entry)
        self._update_controls()

    def _begin_anew(self, info: EngineInfo) -> None:
        """Forget the images opened for other classes or of another size."""
        self._domain = info.domain
        if not self.gallery.sets.count():
            return
        self._drop_task()
        self.gallery.clear()
        self._state = self._state.selected(None)
        self.grid.show_image(None, "")
        self.presenter.show_image(None)
        self.panel.results.show_figures({})
        self.panel.show_history((), -1)
        size, classes = info.domain.size, counted(len(info.domain.classes), "class", "classes")
        self.message.emit(
            f"Bundle {info.card.name} is for images of {size}x{size} pixels and {classes} of its own. The images opened"
            " before no longer fit: open them again."
        )

    def _not_available(self, reason: str) -> None:
        self._state = dataclasses.replace(self._state, unavailable=reason)
        self._tell("The models could not be loaded.", reason)
        self._update_controls()

    def _samples_loaded(self, collection: Collection) -> None:
        if self._state.entry is None:
            self.gallery.show_collection(collection)
        else:  # somebody was quicker: what they opened stays
            self.gallery.add_collection(collection)

    def _opened(self, opened: work.Opened) -> None:
        self.saves.inputs.update(opened.files)
        for collection in opened.collections:
            self.gallery.show_collection(collection)
        if opened.entries:
            kept = self.gallery.collection(YOURS)
            before = kept.extras if kept else ()
            place = len(before) + (len(opened.entries) - 1 if opened.saved else 0)
            self.gallery.show_collection(of_entries(YOURS, [*before, *opened.entries]), place)
        if opened.saved is not None:
            with self._filled():
                self.panel.choose(*opened.saved.form)
            self.panel.decide_by(opened.saved.view.detector, opened.saved.view.rule)
            self.grid.view = opened.saved.view
        if opened.problems:
            whole = len(opened.problems) + len(opened.entries) + len(opened.collections)
            first = "Not opened" if whole == 1 else f"{len(opened.problems)} of {whole} were not opened"
            self.message.emit("\n".join([first, *opened.problems]))
        elif made := [f"{entry.name}: {entry.note}" for entry in opened.entries if entry.note]:
            several = f"{len(made)} pictures were converted; point at one for how"
            self.message.emit(made[0] if len(made) == 1 else several)

    # One image's way through the page.

    def _select(self, entry: Entry) -> None:
        former = self._state.entry
        if self._state.wait is Wait.ATTACK and former is not None and former is not entry:
            self.message.emit(f"The attack on {former.name} was cancelled: another image was selected.")
        self._drop_task()
        self._state = self._state.selected(entry)
        name = "" if entry.label is None else self.gallery.model.class_name(entry.label)
        label = f"true class: {name}" if name else "class not known"
        self.grid.show_image(entry.pixels, label, tip_of(entry, label), entry.adversarial)
        self.presenter.show_image(entry.pixels)
        self.panel.results.show_figures({})
        self.panel.show_history(self._history.lines(entry), -1)
        if self._state.unavailable:
            self._tell("The models could not be loaded.", self._state.unavailable)
        elif not self._state.loaded:
            self._tell(LOADING, "The image is inspected when they are ready.")
        else:
            self._tell(LOOKING, "")
            self._debounce.start()
        self._update_controls()

    def _select_again(self, entry: Entry) -> None:
        """The current image was clicked: look at it where a cancelled look or attack left it without its verdict."""
        if self._state.incomplete and not self._debounce.isActive():
            self._select(entry)

    def _inspect(self) -> None:
        entry = self._state.entry
        if entry is None or not self._state.can_look or self.engine.stopped:
            return
        self._state = self._state.looking()

        self.grid.await_look(LOOKING)
        self._tell(LOOKING, "")
        self._ask(
            lambda session, job: work.inspect(session.system, entry, job),
            lambda found: self._looked(entry, found),
            f"Looking at {entry.name}",
        )

    def _looked(self, entry: Entry, found: Inspection) -> None:
        if found.attack is not None:
            # A stored attack stands in the form and among the attacks on the image, as if it had been made here.
            self._fill(found)
            row = self._history.row_of(entry, found)
            row = self._history.add(entry, found) if row is None else row
            self.panel.show_history(self._history.lines(entry), row)
        self._show(found)

    def _attacked(self, entry: Entry, found: Inspection) -> None:
        row = self._history.add(entry, found)
        self.panel.show_history(self._history.lines(entry), row)
        self._show(found)

    def _return_to(self, row: int) -> None:
        """Show an attack of the history again, by the detector it was to evade, else the one that is chosen now."""
        if self._state.entry is None:
            return
        found = self._history.get(self._state.entry, row)
        self._drop_task()
        self._fill(found)
        self._show(found)

    def _compare(self, first: int, second: int) -> None:
        """Show what two attacks of the history made of the image, side by side."""
        entry = self._state.entry
        if entry is None:
            return
        left, right = (self._history.get(entry, row).by(*self.panel.deciding) for row in (first, second))
        names = (name_of(left), name_of(right))
        for found, name in zip((left, right), names, strict=True):
            if found.attacked_image is None:
                self.message.emit(f"{name} made no adversarial image to compare with.")
                return
        self._drop_task()
        self._state = self._state.answered(right)
        self.grid.show_pair(left, right, names)
        self.grid.dim(False)
        self.presenter.show_inspection(right, explain(right))
        self.panel.results.show_figures(figures(right), names[1])
        self._tell(f"{names[0]} and {names[1]}", "The difference is between the two attacks.")
        self._update_controls()

    def _remove(self, row: int) -> None:
        """Forget an attack of the history."""
        entry, found = self._state.entry, self._state.found
        if entry is None:
            return
        gone = self._history.get(entry, row)
        self._history.remove(entry, row)
        self.panel.show_history(self._history.lines(entry), -1)
        if found is not None and found.attack is gone.attack:
            self._show(found.without_attack())
        self._update_controls()

    def _quiz(self) -> None:
        """Ask about the images in the gallery."""
        collection = self.gallery.model.collection
        if self._state.why_not_attack:
            self.message.emit(self._state.why_not_attack)
            return
        entries = [collection.entry(row) for row in range(len(collection))]
        Quiz(self.engine, entries, random.randrange(2**32), self).show()

    def _blink(self, on: bool) -> None:
        self.grid.blink(on)
        self.presenter.blink(on)

    def _blink_once(self) -> None:
        self._blink(True)
        QTimer.singleShot(BLINK, self, lambda: self._blink(False))

    def _show(self, found: Inspection) -> None:
        """Show a record, decided by the chosen detector."""
        self._state = self._state.answered(found)
        self._decide()

    def _decide(self) -> None:
        """Show what is known, by the chosen detector and rule; `State.decided` says when."""
        self._state = self._state.decided(*self.panel.deciding)
        found = self._state.found
        if found is not None and self._state.wait is not Wait.ATTACK:
            self.grid.show_inspection(found)
            title = "" if found.attack is None else attacks.title(found.attack.attack)
            self.panel.results.show_figures(figures(found), title)
            self._mark_age()
            explanation = explain(found)
            self.verdict.show_explanation(explanation)
            self.presenter.show_inspection(found, explanation)
            self._update_controls()

    # Tasks: at most one of this page; a newer wish replaces it.

    def _ask(self, ask: Work, done: Callable[[Any], None], text: str) -> None:
        self._task.submit(ask, done, failed=self._failed, cancelled=self._cancelled, text=text, urgent=True)
        self._update_controls()

    def _drop_task(self) -> None:
        self._debounce.stop()
        self._settled.stop()
        self._wanted = False
        self._task.drop()
        self._state = self._state.gave_up()

    def _failed(self, reason: str) -> None:
        self._go_back("That did not work.", reason)
        self._tell_failure(reason)

    def _tell_failure(self, reason: str) -> None:
        self.message.emit(reason)
        self.failed.emit(reason)

    def _cancelled(self) -> None:
        self._go_back("Cancelled.", "Click the image again to inspect it.")
        self.message.emit("Cancelled.")

    def _go_back(self, sentence: str, evidence: str) -> None:
        """Show what was known before the task; the sentence if nothing was."""
        attacked = self._state.wait is Wait.ATTACK
        self._state = self._state.gave_up()
        if self._state.found is not None:
            self._decide()
        elif attacked and self._state.entry is not None:  # it was started before the image had been looked at
            self._select(self._state.entry)
        else:
            self.grid.await_look("Not looked at")
            self._tell(sentence, evidence)
            self._update_controls()

    def _tell(self, sentence: str, evidence: str) -> None:
        """Say why there is no verdict."""
        self.verdict.show_verdict(NOTHING, sentence, evidence)
        self.presenter.tell(sentence)

    def _update_controls(self) -> None:
        self._state = state = dataclasses.replace(self._state, loading=self.engine.loading)
        self.panel.set_ready(state.why_not_attack, None if state.wait is Wait.NOTHING else "")
        self.saves.follow(state.found, () if state.entry is None else self._history.fooled(state.entry))
        self.updated.emit()
