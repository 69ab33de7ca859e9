"""The small parts of a saga's loop: futures and tasks that hash by number, handles, and durable timers.

Sets of tasks and futures (TaskGroup, `asyncio.wait`, `as_completed` keep some) are walked in the order of their
hashes. A hash is an address by default, so that two processes would replay one history differently; here it is the
number that the loop gave (rule L1). This module must never touch a clock or another loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sagabus.coordinator.core.loop.scheduler import Scheduler

__all__ = ["LoopHandle", "SagaFuture", "SagaTask", "SagaTimer"]

T = TypeVar("T")


class SagaFuture(asyncio.Future[T]):
    """A future of a saga, numbered by its maker before it is hashed: by `SagaLoop.create_future`, or by a subclass."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        return self.number


class SagaTask(asyncio.Task[T]):
    """A task of a saga. Made by `SagaLoop.create_task` alone; its name is "Task-<number>" unless it is given one."""

    number = 0  # until the loop gives it its own, right after asyncio's constructor, which asks for the hash

    def __hash__(self) -> int:
        return self.number


class LoopHandle(asyncio.Handle):
    """A callback in the ready queue. Cancelled or not is told by the callback alone: fewer stores for each one made."""

    __slots__ = ()
    _callback: Callable[..., object] | None
    _context: Context

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._callback = callback
        self._args = args
        self._context = context

    def cancel(self) -> None:
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'cancelled' if self._callback is None else self._callback}>"


class SagaTimer(asyncio.TimerHandle):
    """A durable timer: due at `due` microseconds after the saga's start. It fires when the loop's owner says so."""

    __slots__ = ("due", "number")
    _callback: Callable[..., object] | None
    _context: Context
    _loop: Scheduler

    def __init__(
        self,
        number: int,
        due: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        loop: Scheduler,
    ) -> None:
        self.number = number
        self.due = due
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context

    def when(self) -> float:
        return self.due / 1_000_000

    def cancel(self) -> None:
        self._callback = None
        self._args = ()
        self._loop._forget_timer(self.number)

    def cancelled(self) -> bool:
        return self._callback is None

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<SagaTimer {self.number} due {self.due} µs{' cancelled' if self._callback is None else ''}>"
