"""The pages of the window, in the order of their tabs; the first is shown unless another one is remembered."""

from __future__ import annotations

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_app.page import Page

PAGES: tuple[type[Page], ...] = (InspectPage, EvaluatePage)
