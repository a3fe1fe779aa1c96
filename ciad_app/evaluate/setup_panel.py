"""The left side of *Evaluate*: what to compute, on which images, and the buttons that start it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QRadioButton,
    QSizePolicy,
    QWidget,
)

from ciad_app.evaluate.attack_list import AttackList
from ciad_app.evaluate.work import Request
from ciad_app.widgets.build import button, choice, in_column, in_row, label, refill
from ciad_app.widgets.number_box import LargeWholeBox, WholeBox
from ciad_app.widgets.parameter_form import NoWheel
from ciad_app.widgets.scrolled import Scrolled
from ciad_app.worker import EngineInfo
from ciad_engine import attacks, bundles, datasets, detectors
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import planning

_DEFAULT_LIMIT = 100
_OF_PAPER = "FGSM, JSMA and C&W as in Nguyen et al. 2017, which leaves their settings open: FGSM's budget here is 8/255"
_OF_SWEEP = "FGSM at four budgets, JSMA, C&W at four confidences, and each of them once aimed at a random class"
_DIRECT = {bundles.CLASSIFIER: "Direct: f1 itself is attacked"}
_NO_DETECTOR = {"": "No detector"}
_ARCHIVES = f"CIFAR-10 archives ({' '.join(f'*{ending}' for ending in datasets.ARCHIVES)});;All files (*)"


class DataChoice(QGroupBox):
    """Which images: the bundled samples, or CIFAR-10 from a file, a folder or the network."""

    chosen = Signal(str)  # "samples", a path, or "" for none yet; answered with `say`
    download_requested = Signal()
    folder_used = Signal(str)  # a dialog chose this folder, or a file in it

    def __init__(self) -> None:
        super().__init__("Images")
        self.samples = QRadioButton("Bundled samples")
        self.samples.setToolTip("Pictures made by a generative model and shipped with the program; no download needed")
        self.cifar = QRadioButton("CIFAR-10")
        self.cifar.setToolTip("The test images of CIFAR-10, or of any folder or archive of the same form")
        of_folder = "A folder cifar-10-batches-py, or one with class folders of pictures"
        self.folder = button("Folder…", of_folder, self._ask_folder)
        self.file = button("File…", "cifar-10-python.tar.gz, or a tar or zip of class folders", self._ask_file)
        of_download = "Fetch the official archive, 163 MB, into the program's data folder"
        self.download = button("Download", of_download, self.download_requested.emit)
        self.state = label("No images loaded yet.", wrap=True, selectable=True)
        self.path: str | None = None
        self.folder_to_begin = ""  # where dialogs start as long as there is no path
        in_column(self.samples, self.cifar, in_row(self.folder, self.file, self.download), self.state, parent=self)
        self.samples.clicked.connect(lambda: self.choose(datasets.SAMPLES))
        self.cifar.clicked.connect(self._again)

    @property
    def touched(self) -> bool:
        """Whether samples or CIFAR-10 were ever chosen."""
        return self.samples.isChecked() or self.cifar.isChecked()

    def choose(self, text: str) -> None:
        """Choose "samples" or a path, as the buttons do."""
        if text == datasets.SAMPLES:
            self.samples.setChecked(True)
        else:
            self.cifar.setChecked(True)
            self.path = text
        self.say("Loading …")
        self.chosen.emit(text)

    def reload(self) -> None:
        """Choose once more what is chosen, if anything is."""
        chosen = datasets.SAMPLES if self.samples.isChecked() else self.path
        if chosen is not None:
            self.choose(chosen)

    def say(self, text: str) -> None:
        self.state.setText(text)

    def set_official(self, official: bool) -> None:
        """Offer CIFAR-10 by name, or if the bundle is for other images, a folder or an archive of them."""
        self.cifar.setText("CIFAR-10" if official else "Folder or archive")
        self.download.setVisible(official)

    def _again(self) -> None:
        if self.path is not None:
            self.choose(self.path)
        else:
            more = " with CIFAR-10, or download it." if self.download.isVisibleTo(self) else "."
            self.say(f"Choose a folder or a file{more}")
            self.chosen.emit("")

    def _ask_folder(self) -> None:
        found = QFileDialog.getExistingDirectory(self, "Folder with CIFAR-10", self._start())
        if found:
            self.folder_used.emit(found)
            self.choose(found)

    def _ask_file(self) -> None:
        found, _ = QFileDialog.getOpenFileName(self, "Archive with CIFAR-10", self._start(), _ARCHIVES)
        if found:
            self.folder_used.emit(str(Path(found).parent))
            self.choose(found)

    def _start(self) -> str:
        return str(Path(self.path).parent) if self.path else self.folder_to_begin


class SetupPanel(QWidget):
    """All settings of an evaluation."""

    changed = Signal()  # something that decides cost or plan

    def __init__(self) -> None:
        super().__init__()
        self.data = DataChoice()
        self.attacks = AttackList()
        self.preset = button("The paper's attacks", _OF_PAPER, lambda: self._choose(planning.preset("paper")))
        self.sweep = button("Several settings", _OF_SWEEP, lambda: self._choose(planning.preset("sweep")))
        self.limit = WholeBox()
        self.limit.setRange(1, _DEFAULT_LIMIT)
        self.limit.setValue(_DEFAULT_LIMIT)
        self.limit.setToolTip("How many images are drawn from the data set")
        self.all = button("All", "Take every image of the data set", lambda: self.limit.setValue(self.limit.maximum()))
        self.seed = LargeWholeBox()  # a QSpinBox ends at half of what a plan may hold
        self.seed.setRange(0, planning.HIGHEST_SEED)
        self.seed.setToolTip("Decides which images are drawn; the same seed draws the same ones")
        of_setting = "Transferred: adversarial images are made against a second classifier and shown to this detector"
        self.attacked = choice("", of_setting, short=True)
        refill(self.attacked, _DIRECT)
        self.evade = choice(short=True)
        refill(self.evade, _NO_DETECTOR)
        self.estimate = label(wrap=True)
        self.start = button("Start")
        of_cancel = "Stop within a second; the rows computed so far are kept and can be continued"
        self.cancel = button("Cancel", of_cancel)
        self.cancel.setEnabled(False)
        no_wheel = NoWheel(self)
        for editor in (self.limit, self.seed, self.attacked, self.evade):
            no_wheel.spare(editor)
        self._arrange()
        self.set_data(None)

        for number in (self.limit, self.seed):
            number.valueChanged.connect(lambda _: self.changed.emit())
        for box in (self.attacked, self.evade):
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.attacks.changed.connect(self.changed)

    def _arrange(self) -> None:
        which = QGroupBox("Attacks")
        in_column(self.attacks, in_row(self.preset, self.sweep, None), parent=which)
        how = QGroupBox("Run")
        form = QFormLayout(how)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        count = in_row((self.limit, 1), self.all)
        form.addRow("&Images", count)
        form.labelForField(count).setBuddy(self.limit)  # type: ignore[attr-defined]
        form.addRow("&Seed", self.seed)
        form.addRow("Settin&g", self.attacked)
        form.addRow("Attacker &knows", self.evade)
        body = QWidget()
        in_column(self.data, which, how, None, parent=body, margins=8)
        foot = in_column(self.estimate, in_row((self.start, 2), (self.cancel, 1)), margins=(8, 0, 8, 8))
        in_column((Scrolled(body, column=True), 1), foot, parent=self, margins=0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def set_engine(self, info: EngineInfo) -> None:
        self.attacks.set_attacks(info.attacks, info.domain.classes)
        self.data.samples.setEnabled(info.has_samples)
        self.data.set_official(info.domain == CIFAR10)
        settings = dict(_DIRECT)
        if info.card.has(bundles.SECOND_CLASSIFIER):
            settings[bundles.SECOND_CLASSIFIER] = "Transferred: a second classifier is attacked"
        refill(self.attacked, settings)
        self.attacked.setEnabled(len(settings) > 1)
        known = [(one, rule) for one in info.detectors if one.evadable for rule in one.rules]
        refill(self.evade, _NO_DETECTOR | {f"{one.name}:{rule}": f"{one.title} ({rule})" for one, rule in known})

    def set_data(self, data: datasets.ImageSet | None) -> None:
        """Bound the number of images by the data; None: nothing is loaded."""
        if data is not None:
            self.limit.setMaximum(len(data))
            self.limit.setSuffix(f" of {len(data):,}")
        for widget in (self.limit, self.all):
            widget.setEnabled(data is not None)

    def set_plan(self, plan: planning.Plan) -> None:
        """Put the settings of a plan into the panel, so that Start means that plan."""
        self._choose(plan.attacks)
        self.limit.setValue(plan.limit)
        self.seed.setValue(plan.seed)
        self.attacked.setCurrentIndex(max(0, self.attacked.findData(plan.attacked)))
        evaded = ",".join(one.text for one in plan.evade)
        if self.evade.findData(evaded) < 0:  # a plan of the command line may have others
            self.evade.addItem(", ".join(f"{detectors.title(one.name)} ({one.rule})" for one in plan.evade), evaded)
        self.evade.setCurrentIndex(self.evade.findData(evaded))

    def _choose(self, attacks: Sequence[planning.AttackChoice]) -> None:
        self.attacks.choose([(choice.name, choice.parameters()) for choice in attacks])

    def request(self) -> Request:
        return Request(
            attacks=self.attacks.chosen(),
            limit=int(self.limit.value()),
            seed=int(self.seed.value()),
            attacked=str(self.attacked.currentData()),
            evade=self.evaded,
        )

    @property
    def evaded(self) -> tuple[str, ...]:
        """The detectors that the attacker knows, each "NAME:RULE"; none in the transferred setting."""
        chosen = str(self.evade.currentData()) if self.attacked.currentData() == bundles.CLASSIFIER else ""
        return tuple(chosen.split(",")) if chosen else ()

    def cannot_evade(self) -> str:
        """The title of a chosen attack that cannot evade the chosen detector; "" if all can."""
        names = [name for name, _ in self.attacks.chosen()] if self.evaded else []
        return next((attacks.title(name) for name in names if not attacks.get(name).evades), "")

    def set_state(self, running: bool, reason: str, waiting: bool = False) -> None:
        """Enable the buttons; `reason` says why Start is not possible, "" if it is; `waiting` can be cancelled."""
        self.start.setEnabled(not running and not reason)
        self.start.setToolTip(reason or "Compute the rows; what was computed before with these settings is kept")
        self.cancel.setEnabled(running or waiting)
        for widget in (self.data, self.attacks, self.seed, self.attacked):
            widget.setEnabled(not running)
        for preset in (self.preset, self.sweep):
            preset.setEnabled(not running and bool(self.attacks.infos))
        direct = self.attacked.currentData() == bundles.CLASSIFIER
        self.evade.setEnabled(direct and not running)
        self.evade.setToolTip(
            "The attacks must fool f1 and also keep this detector from flagging the image."
            if direct
            else "Choose the direct setting first: an attacker who knows a detector attacks f1 itself."
        )
        self.limit.setReadOnly(running)
        self.all.setDisabled(running or not self.limit.isEnabled())
