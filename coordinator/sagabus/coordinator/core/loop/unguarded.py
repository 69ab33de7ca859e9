"""`with ctx.unguarded():` a few lines of a saga's code that the guard lets do what it refuses (L14).

Not across an await: the code would go on when history says so, and what it has opened would be open meanwhile, or not,
as it happens. So each block has one look put behind it on the loop. It runs when the code has come to its next await,
and finds the block closed. It must never change the order of anything else.
"""

from __future__ import annotations

from typing import Final

from sagabus.coordinator.core.loop.loop import SagaLoop

ACROSS_AWAIT: Final = "a block of ctx.unguarded() was still open at an `await`: close it before, and wait outside of it"


class Unguarded:
    """One block. It is made by `SagaContext.unguarded`, and entered once."""

    __slots__ = ("_is_open", "_loop")

    def __init__(self, loop: SagaLoop) -> None:
        self._loop = loop
        self._is_open = False

    def __enter__(self) -> None:
        self._loop.check()
        if not self._is_open:
            self._is_open = True
            self._loop.unguarded += 1
            self._loop.call_soon(self._look)

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> bool:
        was_open, self._is_open = self._is_open, False
        self._loop.unguarded -= was_open
        return was_open

    def _look(self) -> None:
        if self._close():
            self._loop.refuse(ACROSS_AWAIT, "unguarded")
