"""Page Inspect with an engine, and images for it."""

from __future__ import annotations

import numpy as np
import pytest

from ciad_app.inspect.page import InspectPage
from ciad_engine.datasets.base import ImageSet
from tests.app.inspect.steps import TIMEOUT


@pytest.fixture
def page(engine, qtbot):
    made = InspectPage(engine)
    qtbot.addWidget(made)
    made.resize(1280, 710)
    made.show()
    made.messages = []
    made.message.connect(made.messages.append)
    qtbot.waitUntil(lambda: not engine.busy, timeout=TIMEOUT)
    made.messages.clear()
    return made


@pytest.fixture
def known(engine, qtbot):
    """Six images labelled with what the untrained classifier says of them, so that they can be attacked."""
    pixels = np.random.default_rng(5).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    found = []
    engine.submit(lambda session, job: session.system.inspect(pixels).y1, found.append)
    qtbot.waitUntil(lambda: bool(found), timeout=TIMEOUT)
    return ImageSet(pixels, found[0], "Test images")
