"""The left side of *Evaluate*: what to compute, on which images, and the buttons that start it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ciad_app.evaluate.attack_list import AttackList
from ciad_app.evaluate.work import Request
from ciad_app.widgets.no_wheel import NoWheel
from ciad_app.widgets.scrolled import Scrolled
from ciad_app.worker import EngineInfo
from ciad_engine import attacks, bundles, datasets, detectors
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation.planning import Plan

_DEFAULT_LIMIT = 100
_HIGHEST_SEED = 2**32 - 1  # as in a plan
_ARCHIVES = f"CIFAR-10 archives ({' '.join(f'*{ending}' for ending in datasets.ARCHIVES)});;All files (*)"


class DataChoice(QGroupBox):
    """Which images: the bundled samples, or CIFAR-10 from a file, a folder or the network.

    Signals:
        chosen(str): "samples" or a path; the page loads it and answers with `show_loaded` or `show_error`.
        download_requested(): the button was pressed.
        folder_used(str): a dialog chose this folder, or a file in it.
    """

    chosen = Signal(str)
    download_requested = Signal()
    folder_used = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Images", parent)
        self.samples = QRadioButton("Bundled samples")
        self.samples.setToolTip("Pictures made by a generative model and shipped with the program; no download needed")
        self.cifar = QRadioButton("CIFAR-10")
        self.cifar.setToolTip("The test images of CIFAR-10, or of any folder or archive of the same form")
        self.folder = QPushButton("Folder…")
        self.folder.setToolTip("A folder cifar-10-batches-py, or one with class folders of pictures")
        self.file = QPushButton("File…")
        self.file.setToolTip("cifar-10-python.tar.gz, or a tar or zip of class folders")
        self.download = QPushButton("Download")
        self.download.setToolTip("Fetch the official archive, 163 MB, into the program's data folder")
        self.state = QLabel("No images loaded yet.")
        self.state.setWordWrap(True)
        self.state.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.path: str | None = None
        self.folder_to_begin = ""  # where dialogs start as long as there is no path

        buttons = QHBoxLayout()
        for button in (self.folder, self.file, self.download):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.samples)
        layout.addWidget(self.cifar)
        layout.addLayout(buttons)
        layout.addWidget(self.state)
        self.samples.clicked.connect(lambda: self.choose(datasets.SAMPLES))
        self.cifar.clicked.connect(self._again)
        self.folder.clicked.connect(self._ask_folder)
        self.file.clicked.connect(self._ask_file)
        self.download.clicked.connect(self.download_requested)

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
        self.state.setText("Loading …")
        self.chosen.emit(text)

    def show_loaded(self, data: datasets.ImageSet) -> None:
        """Say what was loaded, and under which name figures on it will be quoted."""
        self.state.setText(f"{len(data):,} images: {data.source}")

    def show_error(self, message: str) -> None:
        """Say why nothing was loaded."""
        self.state.setText(f"⚠ {message}")

    def show_busy(self, text: str) -> None:
        """Say what is going on."""
        self.state.setText(text)

    def set_official(self, official: bool) -> None:
        """Offer CIFAR-10 by name, or if the bundle is for other images, a folder or an archive of them."""
        self.cifar.setText("CIFAR-10" if official else "Folder or archive")
        self.download.setVisible(official)

    def _again(self) -> None:
        if self.path is not None:
            self.choose(self.path)
        else:
            self.state.setText(
                "Choose a folder or a file"
                + (" with CIFAR-10, or download it." if self.download.isVisibleTo(self) else ".")
            )
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
    """All settings of an evaluation.

    Signals:
        started(), cancelled(): the buttons.
        preset_requested(str): the attacks of this preset are asked for.
        changed(): something that decides cost or plan is another now.
    """

    started = Signal()
    cancelled = Signal()
    preset_requested = Signal(str)
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.data = DataChoice()
        self.attacks = AttackList()
        self.preset = QPushButton("The paper's attacks")
        self.preset.setToolTip(
            "FGSM, JSMA and C&W as in Nguyen et al. 2017, which leaves their settings open: FGSM's budget here is 8/255"
        )
        self.sweep = QPushButton("Several settings")
        self.sweep.setToolTip(
            "FGSM at four budgets, JSMA, C&W at four confidences, and each of them once aimed at a random class"
        )
        self.limit = QSpinBox()
        self.limit.setRange(1, _DEFAULT_LIMIT)
        self.limit.setValue(_DEFAULT_LIMIT)
        self.limit.setGroupSeparatorShown(True)
        self.limit.setToolTip("How many images are drawn from the data set")
        self.all = QPushButton("All")
        self.all.setToolTip("Take every image of the data set")
        self.seed = QDoubleSpinBox(decimals=0)  # a QSpinBox ends at half of what a plan may hold
        self.seed.setRange(0, _HIGHEST_SEED)
        self.seed.setToolTip("Decides which images are drawn; the same seed draws the same ones")
        self.attacked = QComboBox()
        self.attacked.addItem("Direct: f1 itself is attacked", bundles.CLASSIFIER)
        self.attacked.setToolTip(
            "Transferred: adversarial images are made against a second classifier and shown to this detector"
        )
        self.attacked.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.evade = QComboBox()
        self.evade.addItem("No detector", "")
        self.evade.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.estimate = QLabel()
        self.estimate.setWordWrap(True)
        self.start = QPushButton("Start")
        self.start.setDefault(True)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop within a second; the rows computed so far are kept and can be continued")
        self.cancel.setEnabled(False)
        no_wheel = NoWheel(self)
        for editor in (self.limit, self.seed, self.attacked, self.evade):
            no_wheel.spare(editor)
        self._arrange()
        self.set_data(None)

        self.preset.clicked.connect(lambda: self.preset_requested.emit("paper"))
        self.sweep.clicked.connect(lambda: self.preset_requested.emit("sweep"))
        self.start.clicked.connect(self.started)
        self.cancel.clicked.connect(self.cancelled)
        self.all.clicked.connect(lambda: self.limit.setValue(self.limit.maximum()))
        self.limit.valueChanged.connect(lambda _: self.changed.emit())
        self.seed.valueChanged.connect(lambda _: self.changed.emit())
        for choice in (self.attacked, self.evade):
            choice.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.attacks.changed.connect(self.changed)

    def _arrange(self) -> None:
        which = QGroupBox("Attacks")
        inner = QVBoxLayout(which)
        inner.addWidget(self.attacks)
        presets = QHBoxLayout()
        presets.addWidget(self.preset)
        presets.addWidget(self.sweep)
        presets.addStretch(1)
        inner.addLayout(presets)

        how = QGroupBox("Run")
        form = QFormLayout(how)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        count = QHBoxLayout()
        count.addWidget(self.limit, 1)
        count.addWidget(self.all)
        form.addRow("&Images", count)
        form.labelForField(count).setBuddy(self.limit)  # type: ignore[attr-defined]
        form.addRow("&Seed", self.seed)
        form.addRow("Settin&g", self.attacked)
        form.addRow("Attacker &knows", self.evade)

        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(8, 8, 8, 8)
        for group in (self.data, which, how):
            column.addWidget(group)
        column.addStretch(1)
        scroll = Scrolled(body, column=True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 2)
        buttons.addWidget(self.cancel, 1)
        foot = QVBoxLayout()
        foot.setContentsMargins(8, 0, 8, 8)
        foot.addWidget(self.estimate)
        foot.addLayout(buttons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll, 1)
        layout.addLayout(foot)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def set_engine(self, info: EngineInfo) -> None:
        """Fill in what depends on the loaded bundle."""
        self.attacks.set_attacks(info.attacks, info.domain.classes)
        self.data.samples.setEnabled(info.has_samples)
        self.data.set_official(info.domain == CIFAR10)
        before = self.attacked.currentData()
        while self.attacked.count() > 1:
            self.attacked.removeItem(1)
        if info.card.has(bundles.SECOND_CLASSIFIER):
            self.attacked.addItem("Transferred: a second classifier is attacked", bundles.SECOND_CLASSIFIER)
        self.attacked.setEnabled(self.attacked.count() > 1)
        self.attacked.setCurrentIndex(max(0, self.attacked.findData(before)))
        before = self.evade.currentData()
        while self.evade.count() > 1:
            self.evade.removeItem(1)
        for detector in info.detectors:
            self.evade.addItem(detector.title, f"{detector.name}:{detector.rules[0]}")
        self.evade.setCurrentIndex(max(0, self.evade.findData(before)))

    def set_data(self, data: datasets.ImageSet | None) -> None:
        """Bound the number of images by the data; None: nothing is loaded."""
        if data is not None:
            self.limit.setMaximum(len(data))
            self.limit.setSuffix(f" of {len(data):,}")
        for widget in (self.limit, self.all):
            widget.setEnabled(data is not None)

    def set_plan(self, plan: Plan) -> None:
        """Put the settings of a plan into the panel, so that Start means that plan."""
        self.attacks.choose([(choice.name, choice.parameters()) for choice in plan.attacks])
        self.limit.setValue(plan.limit)
        self.seed.setValue(plan.seed)
        self.attacked.setCurrentIndex(max(0, self.attacked.findData(plan.attacked)))
        evaded = ",".join(f"{one.name}:{one.rule}" for one in plan.evade)
        if self.evade.findData(evaded) < 0:  # a plan of the command line may have others
            self.evade.addItem(", ".join(f"{detectors.title(one.name)} ({one.rule})" for one in plan.evade), evaded)
        self.evade.setCurrentIndex(self.evade.findData(evaded))

    def request(self) -> Request:
        """The settings as they stand."""
        return Request(
            attacks=self.attacks.chosen(),
            limit=self.limit.value(),
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

    def set_state(self, running: bool, reason: str) -> None:
        """Enable the buttons; `reason` says why Start is not possible, "" where it is."""
        self.start.setEnabled(not running and not reason)
        self.start.setToolTip(reason or "Compute the rows; what was computed before with these settings is kept")
        self.cancel.setEnabled(running)
        for widget in (self.data, self.attacks, self.preset, self.sweep, self.seed, self.attacked):
            widget.setEnabled(not running)
        direct = self.attacked.currentData() == bundles.CLASSIFIER
        self.evade.setEnabled(direct and not running)
        self.evade.setToolTip(
            "The attacks must fool f1 and also keep this detector from flagging the image."
            if direct
            else "Choose the direct setting first: an attacker who knows a detector attacks f1 itself."
        )
        self.limit.setReadOnly(running)
        self.all.setDisabled(running or not self.limit.isEnabled())
