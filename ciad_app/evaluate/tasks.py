"""The page's tasks in the engine: which of them the engine's progress is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ciad_app.evaluate.work import Work
from ciad_app.worker import Engine, Task


class Tasks:
    """Submits work under a name; the engine's progress belongs to `running` ("" for somebody else's)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.running = ""

    def submit(
        self,
        name: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[str], None],
        cancelled: Callable[[], None],
        text: str,
        partial: Callable[[Any], None] | None = None,
        tells_time: bool = False,
    ) -> Task:
        """As `Engine.submit`."""

        def begun() -> None:
            self.running = name

        def last(function: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                if self.running == name:
                    self.running = ""
                function(*arguments)

            return call

        return self._engine.submit(
            work, last(done), failed=last(failed), cancelled=last(cancelled), partial=partial, begun=begun, text=text,
            tells_time=tells_time,
        )  # fmt: skip
