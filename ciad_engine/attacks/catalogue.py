"""Every attack of CIAD on one page: what it does, its settings, and which module computes it.

Importing this module imports no torch; an attack's algorithm is imported when it runs.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ciad_engine.attacks import parameters
from ciad_engine.attacks.base import Attack, FittedAttack, Found
from ciad_engine.attacks.parameters import parameter
from ciad_engine.attacks.targets import TargetedAttack, target
from ciad_engine.domain import Pixels
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ciad_engine.attacks.goal import Goal
    from ciad_engine.attacks.model import Model


class _Own(TargetedAttack):
    """An attack whose `find` is the function `algorithm`, "module:function", called with the attack first."""

    algorithm: ClassVar[str]

    def find(self, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
        return pkgutil.resolve_name(f"ciad_engine.attacks.{self.algorithm}")(self, model, images, goal, job)


@dataclasses.dataclass(frozen=True)
class _Box(_Own):
    """Settings of attacks that keep every value within a budget."""

    norm: ClassVar[str] = "linf"

    eps: float = parameter(
        8.0, "Budget", "How far a colour value may move, in grey levels.", low=0, high=255, unit="/255"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.eps < 1:  # most likely a part of 1 was meant
            raise SettingError(
                f"{self.name}: eps = {self.eps:g} is less than one grey level and would change nothing; "
                "write 8 for a budget of 8/255."
            )


@dataclasses.dataclass(frozen=True)
class _Steps(_Box):
    """Settings of attacks that take many steps inside the box."""

    step: float = parameter(
        2.0, "Step", "How far it moves in one iteration, in grey levels.", low=0.01, high=255, unit="/255"
    )
    stop_early: bool = parameter(
        False, "Stop early", "Whether an image that is misclassified takes no further step: nearer, but less certain.",
        place=1,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FGSM(_Box):
    """Goodfellow, Shlens, Szegedy 2015 (arXiv 1412.6572), section 4: x + eps sign(gradient of the loss).

    The loss is the cross-entropy of the label; with a target the step goes down that of the target.
    A fraction of eps cannot be stored in 8 bits: values move by floor(eps) grey levels, within the budget.
    """

    name: ClassVar[str] = "fgsm"
    title: ClassVar[str] = "FGSM"
    source: ClassVar[str] = "Goodfellow et al. 2015 (arXiv 1412.6572), section 4"
    algorithm: ClassVar[str] = "projected_gradient:fgsm"
    evades: ClassVar[bool] = True
    starts_at_images: ClassVar[bool] = True

    eps: float = parameter(
        8.0, "Budget", "How far each colour value moves, in grey levels.", low=0, high=255, unit="/255"
    )


@dataclasses.dataclass(frozen=True)
class BIM(_Steps):
    """Kurakin, Goodfellow, Bengio 2017 (arXiv 1607.02533), section 2.2: FGSM's step again and again.

    After each step every value is put back into [x - eps, x + eps] and into its range. With a target the
    steps go down the target's cross-entropy (there: the least likely class's). All iterations are
    run, as there, unless `stop_early`, which tests (and climbs from) the nearest grey levels at
    each step. The box ends on grey levels: floor(eps) of them either way.
    """

    name: ClassVar[str] = "bim"
    title: ClassVar[str] = "BIM"
    source: ClassVar[str] = "Kurakin et al. 2017 (arXiv 1607.02533), section 2.2"
    algorithm: ClassVar[str] = "projected_gradient:bim"
    evades: ClassVar[bool] = True
    starts_at_images: ClassVar[bool] = True

    iterations: int = parameter(10, "Iterations", "How many steps.", low=1, high=10_000, unit="steps")


@dataclasses.dataclass(frozen=True)
class PGD(_Steps):
    """Madry et al. 2018 (arXiv 1706.06083), section 2.1: BIM from random points of the box, several times.

    An image that is misclassified at the end of a run takes part in no further one. Each image's
    random points follow from the seed and the image alone, whatever else is attacked with it.
    """

    name: ClassVar[str] = "pgd"
    title: ClassVar[str] = "PGD"
    source: ClassVar[str] = "Madry et al. 2018 (arXiv 1706.06083), section 2.1"
    algorithm: ClassVar[str] = "projected_gradient:pgd"
    evades: ClassVar[bool] = True

    iterations: int = parameter(20, "Iterations", "How many steps of one run.", low=1, high=10_000, unit="steps")
    restarts: int = parameter(1, "Runs", "How many random starts.", low=1, high=1000)
    seed: int = parameter(0, "Seed", "Decides the random starts.", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class OrthogonalPGD(PGD):
    """Bryniarski et al. 2022 (arXiv 2106.15023), section 4: PGD whose steps against a detector spare the classifier.

    Each step follows the gradient of one of the two alone: that of the classifier while it is not fooled, else that of
    the detectors that must stay quiet ("selective"). "Orthogonal" takes out of it what would change the other, to first
    order. Without a detector to evade it is PGD.
    """

    name: ClassVar[str] = "opgd"
    title: ClassVar[str] = "Orthogonal PGD"
    source: ClassVar[str] = "Bryniarski et al. 2022 (arXiv 2106.15023), section 4"
    algorithm: ClassVar[str] = "projected_gradient:orthogonal"

    variant: str = parameter(
        "orthogonal", "Variant", "Whether a step spares the other one's gradient, too.",
        choices=("orthogonal", "selective"),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Square(_Box):
    """Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2 for L-infinity: random search, no gradient.

    It begins with vertical stripes. Each query moves the colours of a random square as far as the budget allows, each
    channel up or down, and keeps that if the goal comes nearer. The squares shrink on the paper's schedule. It shows
    whether a defence only hides its gradients.
    """

    name: ClassVar[str] = "square"
    title: ClassVar[str] = "Square"
    source: ClassVar[str] = "Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2"
    algorithm: ClassVar[str] = "square:find"
    evades: ClassVar[bool] = True

    queries: int = parameter(1000, "Queries", "How often the classifier is asked.", low=1, high=100_000)
    p: float = parameter(0.8, "First square", "Share of the image that the first squares cover.", low=0.001, high=1)
    seed: int = parameter(0, "Seed", "Decides stripes and squares.", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class JSMA(_Own):
    """Papernot et al. 2016 (arXiv 1511.07528), algorithm 3 with equations 8 to 10, on logits.

    Each step adds `theta` to the pair of values (p, q) that maximises -alpha beta among those with
    alpha > 0 > beta, where alpha is the pair's gradient of the target's logit and beta that of the
    sum of all other logits (theta < 0: alpha < 0 < beta). The search is exact. A value is no longer
    available once it is at the end of its range. At most floor(gamma * values / 2) steps.

    Untargeted, the target is the class that the network finds most likely after the label, and any
    wrong class ends the attack. If the attempt fails, the image starts anew toward the next likely
    class, so that no target succeeds on an image on which the untargeted attack fails. Success is
    tested before each step, so an image of T steps takes T + 1 forward and 2 T backward passes (and a
    forward pass more for each further attempt), one forward pass before the attack, and one after it
    if a `theta` of less than the range leaves values that have to be rounded.
    """

    name: ClassVar[str] = "jsma"
    title: ClassVar[str] = "JSMA"
    source: ClassVar[str] = "Papernot et al. 2016 (arXiv 1511.07528), algorithm 3, equations 8-10"
    norm: ClassVar[str] = "l0"
    algorithm: ClassVar[str] = "jsma:find"
    version: ClassVar[int] = 2
    refills: ClassVar[bool] = True

    theta: float = parameter(
        1.0, "Step", "What is added to a chosen value, as a part of its range; not 0.", low=-1, high=1
    )
    gamma: float = parameter(0.1, "Budget", "Largest part of all values that may be changed.", low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.theta == 0:
            raise SettingError("jsma: theta = 0 changes nothing; choose a number from -1 to 1 that is not 0.")


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL2(_Own):
    """Carlini & Wagner 2017 (arXiv 1608.04644), section V with f_6, box by tanh, section VI-A.

    Minimises ||x' - x||^2 + c max(Z_label - max of the other Z + confidence, 0) with Adam over w
    (with a target: max of the other Z - Z_target), and searches the smallest c that succeeds:
    tenfold until the first success, then bisection. The nearest image that ever succeeded is kept.

    The search, the end of a descent and Adam's state are each image's own, so batch mates do not matter, and an image
    whose descent has ended begins the next at once; after its last, an image that waits takes its place. Not in the
    paper: a descent ends early, when a twentieth of the iterations, ten at least, brought no gain (in the authors' code
    a tenth). One step is one forward and one backward pass.
    """

    name: ClassVar[str] = "cw"
    title: ClassVar[str] = "C&W"
    source: ClassVar[str] = "Carlini & Wagner 2017 (arXiv 1608.04644), sections V and VI-A"
    norm: ClassVar[str] = "l2"
    algorithm: ClassVar[str] = "carlini_wagner:find"
    evades: ClassVar[bool] = True
    refills: ClassVar[bool] = True

    confidence: float = parameter(
        0.0, "Confidence", "By how much the wrong class's logit must exceed all others (kappa).", low=0, high=1000
    )
    iterations: int = parameter(
        1000, "Iterations", "Most iterations for one value of c.", low=1, high=100_000, unit="steps"
    )
    search_steps: int = parameter(9, "Search steps", "How many values of c are tried.", low=1, high=30)
    learning_rate: float = parameter(0.01, "Learning rate", "Adam's step, in tanh space.", low=1e-6, high=10)
    initial_c: float = parameter(
        1e-3, "First c", "Weight of the classification against the distance, first tried.", low=1e-9, high=1e9
    )


@dataclasses.dataclass(frozen=True)
class LBFGS(_Own):
    """Szegedy et al. 2014 (arXiv 1312.6199), section 4.1: minimise ||r||^2 + c loss(x + r), 0 <= x + r <= 1.

    There the length is not squared and the other term has the weight; this is Carlini & Wagner's form of it.

    The loss is the target's cross-entropy, -log p; without a target, which is not in the paper, that
    of any other class, -log(1 - p) with the label's p. The smallest c that succeeds is searched as by
    Carlini & Wagner: tenfold until the first success, then bisection. The nearest image that ever succeeded is kept.

    Each image has its own Hessian, line search and c, so batch mates do not matter. The minimiser is
    L-BFGS on the values that are free, its steps projected into the box (Byrd et al. 1995 find the same
    minima). One step is one trial point: one forward and one backward pass.
    """

    name: ClassVar[str] = "lbfgs"
    title: ClassVar[str] = "L-BFGS"
    source: ClassVar[str] = "Szegedy et al. 2014 (arXiv 1312.6199), section 4.1"
    norm: ClassVar[str] = "l2"
    algorithm: ClassVar[str] = "lbfgs:find"
    evades: ClassVar[bool] = True

    iterations: int = parameter(50, "Iterations", "Most steps for one value of c.", low=1, high=10_000, unit="steps")
    search_steps: int = parameter(9, "Search steps", "How many values of c are tried.", low=1, high=30)
    initial_c: float = parameter(
        1e-2, "First c", "Weight of the classification against the distance, first tried.", low=1e-9, high=1e9
    )


@dataclasses.dataclass(frozen=True)
class DeepFool(_Own):
    """Moosavi-Dezfooli, Fawzi, Frossard 2016 (arXiv 1511.04599), algorithm 2, for the Euclidean norm.

    Each step goes to the nearest of the boundaries that the linearised network has between the label
    and another class; the sum of the steps is lengthened by `overshoot`. Unlike there each point is put
    into the range of images before it is tested, and a value at the end of its range takes part
    in no step beyond it; only the `candidates` likeliest classes are considered. With a target, which
    is not in the paper, each step goes to the boundary between the target and the class that leads.
    One step is two forward passes and one backward pass a considered class, with a target one.
    """

    name: ClassVar[str] = "deepfool"
    title: ClassVar[str] = "DeepFool"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599), algorithm 2"
    norm: ClassVar[str] = "l2"
    algorithm: ClassVar[str] = "deepfool:find"
    refills: ClassVar[bool] = True

    overshoot: float = parameter(
        0.02, "Overshoot", "By what part the way to the boundary is lengthened, so that it is crossed.", low=0, high=10
    )
    iterations: int = parameter(50, "Iterations", "Most steps.", low=1, high=10_000, unit="steps")
    candidates: int = parameter(
        10, "Classes", "How many of the likeliest classes are considered, the label among them.", low=2, high=1000
    )


@dataclasses.dataclass(frozen=True)
class DDN(_Own):
    """Rony et al. 2019 (arXiv 1811.09600), algorithm 1.

    A step follows the normalised gradient, its length falling by a cosine from 1 to 1/100. Then the change is
    scaled to a length that shrinks by the factor 1 - gamma while the image is adversarial and grows by
    1 + gamma while it is not, and, with `quantize`, rounded to grey levels. The nearest adversarial image met
    is kept. One step is one forward and, but for the last, one backward pass, for every image the same number.
    """

    name: ClassVar[str] = "ddn"
    title: ClassVar[str] = "DDN"
    source: ClassVar[str] = "Rony et al. 2019 (arXiv 1811.09600), algorithm 1"
    norm: ClassVar[str] = "l2"
    algorithm: ClassVar[str] = "ddn:find"
    evades: ClassVar[bool] = True

    iterations: int = parameter(100, "Iterations", "How many steps.", low=2, high=100_000, unit="steps")
    gamma: float = parameter(
        0.05, "Change of length", "By what part the distance shrinks or grows in a step.", low=1e-6, high=0.9
    )
    first_norm: float = parameter(
        1.0, "First length", "Euclidean distance tried first; colour values count from 0 to 1.", low=1e-6, high=1000
    )
    quantize: bool = parameter(True, "Grey levels", "Whether each point is rounded to 8 bits before it is tested.")


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """What `Universal.fitted` found.

    Attributes:
        levels: int16 (3, H, W), in grey levels; added to an image, values beyond 0 and 255 cut off.
        count: of how many images it was computed.
        rate: what part of these it fools; of other images, expect less.
        network: the fingerprint (`model.fingerprint`) of the network it was computed for; empty if that was not kept.
    """

    levels: npt.NDArray[np.int16]
    count: int
    rate: float
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Universal(_Box, FittedAttack):
    """One small change that is added to every image, computed once (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401).

    Computed in the way of Shafahi et al. 2020 (arXiv 1811.11304, section 3), without DeepFool: steps along the sign of
    the gradient, summed over a batch of images, of the cross-entropy of the classes the network itself sees in them,
    cut off where it is large; after each step v is put back into the box |v| <= eps. Each batch's gradient is divided
    by its mean and averaged over the past steps, the steps get shorter, an image the network is sure of counts a
    hundredth at least, and of the states after each pass over the images the one that fools most of them is kept, in
    whole grey levels. With a target the steps go down the target's cross-entropy; for one perturbation that makes most
    sense with `given`.

    No image it is computed from needs a label. An image it is run on takes two forward passes and no
    backward pass. Its success rate on images it was not computed from is the fooling rate of the
    first paper, but among images the network gets right.
    """

    name: ClassVar[str] = "universal"
    title: ClassVar[str] = "Universal"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401); Shafahi et al. 2020 (arXiv 1811.11304)"
    algorithm: ClassVar[str] = "universal:find"
    fewest: ClassVar[int] = 10

    eps: float = parameter(
        10.0, "Budget", "How far a colour value may move, in grey levels.", low=0, high=255, unit="/255"
    )
    step: float = parameter(
        2.0, "Step", "How far it moves in the first step, in grey levels; less in each later one.",
        low=0.01, high=255, unit="/255",
    )  # fmt: skip
    passes: int = parameter(20, "Passes", "How often it goes through the images it learns from.", low=1, high=1000)
    learns_from: int = parameter(
        500, "Learns from", "Most images it is computed from. In an evaluation these are never evaluated ones.",
        low=fewest, high=100_000, unit="images",
    )  # fmt: skip
    seed: int = parameter(0, "Seed", "Decides the order in which it goes through them.", low=0, high=2**31 - 1)
    target: str = target(best=False)

    perturbation: Perturbation | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def most(self) -> int:
        return self.learns_from

    @property
    def needs_fitting(self) -> bool:
        return self.perturbation is None

    @property
    def found(self) -> Perturbation:
        """The perturbation.

        Raises:
            SettingError: it is not computed yet.
        """
        if self.perturbation is None:
            raise SettingError(f"{self.name}: there is no perturbation yet: compute it with `fitted` first.")
        return self.perturbation

    def fitted(self, network: nn.Module, images: Pixels, job: Job | None = None) -> Self:
        from ciad_engine.attacks import universal

        return dataclasses.replace(self, perturbation=universal.learn(self, network, images, job or Job()))

    def fitting(self) -> bytes:
        from ciad_engine.attacks import universal

        return universal.to_bytes(self)

    def with_fitting(self, kept: bytes) -> Self:
        from ciad_engine.attacks import universal

        found = universal.from_bytes(kept)
        if found != self:  # in any setting
            raise SettingError(f"{self.name}: what was kept is of other settings: {parameters.values(found)}.")
        return dataclasses.replace(self, perturbation=found.perturbation)

    def about_fitting(self) -> str:
        return f"computed from {self.found.count:,} images, of which it fools {100 * self.found.rate:.0f}%"


ALL: tuple[type[Attack], ...] = (
    FGSM,
    BIM,
    PGD,
    OrthogonalPGD,
    Square,
    JSMA,
    CarliniWagnerL2,
    LBFGS,
    DeepFool,
    DDN,
    Universal,
)
