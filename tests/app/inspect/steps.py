"""What the tests of page Inspect do again and again."""

from __future__ import annotations

from ciad_app.inspect.collection import of_set

TIMEOUT = 20_000  # ms


def show_set(page, images):
    page.gallery.show_collection(of_set(images))


def settle(page, qtbot):
    qtbot.waitUntil(lambda: page.found is not None and not page.busy, timeout=TIMEOUT)


def attack(page, qtbot, **settings):
    page.panel.choose("fgsm", {"eps": 32.0, **settings})
    page.attack_now()
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
