"""SHIM"""

import dataclasses
from collections.abc import Callable

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Evasion:
    name: str
    excess: Callable[[Tensor, Tensor], Tensor]
