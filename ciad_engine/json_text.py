"""Plain data as JSON that every program reads."""

from __future__ import annotations

import json
import math
from typing import Any


def write(content: Any, **how: Any) -> str:
    """Return the content as JSON text; `how` are arguments of `json.dumps`.

    JSON has no NaN and no infinity: such a number, which an old or foreign results database may hold, becomes null.
    """
    return json.dumps(_finite(content), allow_nan=False, **how)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content
