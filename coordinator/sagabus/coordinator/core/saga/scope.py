"""`async with ctx.scope():` what was done in the block is undone when the block is left by an exception (U11).

Which scope a step belongs to is told by a context variable: asyncio copies the context into each task, so tasks that
are made in a scope belong to it, and scopes in tasks beside each other do not meet. It is looked at only in a saga that
uses scopes. A saga's tasks start in an empty context (L9), so nothing of another saga is ever found here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sagabus.coordinator.core.loop.loop import SagaTask

if TYPE_CHECKING:
    from sagabus.coordinator.core.saga.program import Program

__all__ = ["Scope"]


class Members:
    """The steps of one scope. It does not know its saga: contexts keep it, and would keep the saga with it."""

    __slots__ = ("is_open", "outer", "steps")

    def __init__(self, outer: Members | None) -> None:
        self.outer = outer
        self.steps: list[int] = []
        self.is_open = True

    @property
    def open(self) -> Members | None:
        """These, or those of the innermost scope around it that was not left: a task may outlive its scope."""
        found: Members | None = self
        while found is not None and not found.is_open:
            found = found.outer
        return found


_INNERMOST: Final[ContextVar[Members | None]] = ContextVar("sagabus_scope", default=None)


class Scope:
    """What `ctx.scope()` gives: to be used once, with `async with`, by the task that enters it.

    Leaving the block by an exception gives up its open steps, settles those of unknown outcome, and undoes those that
    have completed, the last first; then the exception goes on. Nothing cuts that short: a task that is cancelled
    meanwhile hears of it after that. Left without an exception, its steps belong to the scope around it, or the saga.
    """

    __slots__ = ("_members", "_program", "_task")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._members: Members | None = None
        self._task = 0

    async def __aenter__(self) -> Self:
        """Raises RuntimeError for a scope that was entered before."""
        self._program.loop.check()
        if self._members is not None:
            raise RuntimeError("this scope was entered before: each `async with` needs a ctx.scope() of its own")
        self._task = _running_task()
        self._members = Members(_INNERMOST.get())
        _INNERMOST.set(self._members)
        self._program.use_scopes()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises RuntimeError in another task than the one that entered it."""
        program = self._program
        if program.loop.dead:
            return  # this copy of the code has nothing left to do
        program.loop.check()
        steps, outer = self._leave()
        if not isinstance(error, Exception | asyncio.CancelledError):
            note_steps(outer, steps)  # what is worse than an error stops the saga, and undoes nothing (U6)
        elif steps:
            await program.roll_back(steps, to_its_end=True)

    def _leave(self) -> tuple[list[int], Members | None]:
        """(its steps, those of the scope around it)."""
        members = self._members
        if members is None or _running_task() != self._task:
            raise RuntimeError(
                "a scope is left by another task than the one that entered it: enter and leave it with one `async "
                "with`, and not in an async generator that another task closes"
            )
        _INNERMOST.set(members.outer)
        members.is_open = False
        steps, members.steps = members.steps, []
        return steps, members.outer

    async def undo(self) -> None:
        """Undo now what was done in the scope so far, as if it were left by an exception; the block goes on.

        Only inside of the block. May be called again: what is undone is never undone twice. If the waiting is
        cancelled, the undo goes on all the same. Raises RuntimeError outside of the block.
        """
        self._program.loop.check()
        members = self._members
        if members is None or not members.is_open:
            raise RuntimeError(
                "scope.undo() is for the inside of its block: a scope that was left has no steps any more. They belong "
                "to what is around it; `await call.undo()` undoes one of them"
            )
        steps, members.steps = members.steps, []
        await self._program.roll_back(steps)


def _running_task() -> int:
    """Its number. A scope that knew its task would be a cycle with it."""
    task = asyncio.current_task()
    return task.number if isinstance(task, SagaTask) else 0


def innermost() -> Members | None:
    """Those of the scope of the running task."""
    return _INNERMOST.get()


def note_steps(members: Members | None, numbers: Sequence[int]) -> None:
    """They belong to this scope, or to the first one around it that is open; else to the saga alone."""
    found = None if members is None else members.open
    if found is not None:
        found.steps += numbers
