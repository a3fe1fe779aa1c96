"""The one task for a purpose, which a newer one replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciad_app.worker import Engine, Task, Work


class Latest:
    """Holds the task; nobody is called back for one that was replaced."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.task: Task | None = None

    @property
    def busy(self) -> bool:
        return self.task is not None

    def submit(
        self,
        work: Work,
        done: Callable[[Any], object],
        *,
        failed: Callable[[str], object] | None = None,
        cancelled: Callable[[], object] | None = None,
        **more: Any,
    ) -> None:
        """Submit work as `Engine.submit` does, in the place of what was submitted here before."""
        self.drop()

        def ended(then: Callable[..., object] | None) -> Callable[..., None]:
            def call(*arguments: object) -> None:
                self.task = None
                if then is not None:
                    then(*arguments)

            return call

        self.task = self._engine.submit(
            work, ended(done), failed=ended(failed or self._engine.note.emit), cancelled=ended(cancelled), **more
        )

    def cancel(self) -> None:
        """Cancel the task, which is called back then."""
        if self.task is not None:
            self.task.cancel()

    def drop(self) -> None:
        """Cancel the task and call nobody back."""
        if self.task is not None:
            self.task.drop()
            self.task = None
