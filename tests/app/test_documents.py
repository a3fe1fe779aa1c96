"""The pages for users under Help."""

from __future__ import annotations

import re

import pytest

from ciad_app.documents import DocumentDialog, pages
from tests.app.steps import actions


def test_every_page_is_in_the_menu_and_the_lesson_comes_first(window):
    found = pages()
    assert next(iter(found)) == "A lesson of 45 minutes"
    assert set(found) <= set(actions(window))
    actions(window)["A lesson of 45 minutes"].trigger()
    (dialog,) = window.findChildren(DocumentDialog)
    assert dialog.isVisible()
    assert "The attacker answers" in dialog.text.toPlainText()
    dialog.reject()


@pytest.mark.parametrize("file", pages().values(), ids=lambda file: file.stem)
def test_links_between_pages_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).is_file(), target
