"""What asyncio and a saga's own code ask of the saga's loop: tasks, futures, callbacks, timers, the time.

The half of the loop that its owner does not touch; the owner's half is `SagaLoop`. Nothing runs here: callbacks queue
up until the loop is pumped, timers are only noted. It must never read a clock or accept work from outside the saga.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _unregister_task
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from math import isnan
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from sagabus.coordinator.core.loop.eviction import EVICTED, Eviction, SagaEvicted
from sagabus.coordinator.core.loop.primitives import LoopHandle, SagaFuture, SagaTask, SagaTimer
from sagabus.coordinator.core.loop.refused import EAGER, FOREIGN, UNPUMPED, LoopRefused, RefusingLoop

__all__ = ["FOREVER", "Scheduler"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FOREVER = 1_000 * 365 * 86_400 * 1_000_000
"""Microseconds. Later deadlines, such as `sleep(math.inf)`, become this one, which calendars and databases can hold."""


class Scheduler(RefusingLoop):
    """The state of one saga's loop, and its methods that a saga may use."""

    __slots__ = (
        "_context", "_eviction", "_number", "_ready", "_tasks", "_timer_number", "_timers", "code",
        "dead", "errors", "failure", "name", "now", "pumping", "timers_changed", "unguarded",
    )  # fmt: skip

    def __init__(self) -> None:
        self.name = ""
        """The saga's id, for a log."""
        self.code = ""
        """Which code it runs: a fingerprint. A watchdog has less patience with code that has spun before."""
        self.now = 0
        """Microseconds since the saga's start; set by each pump."""
        self.pumping = False
        """Whether work may be put on the loop: it is being pumped, or its owner is resolving, cancelling, starting."""
        self.dead = False
        self.unguarded = 0
        """Blocks that are open in which its code may do what a guard refuses (L14)."""
        self.failure: BaseException | None = None
        """What stopped the saga's code for good: a BaseException other than CancelledError, or work from outside."""
        self.errors: list[dict[str, Any]] = []
        """Contexts of `call_exception_handler`, for the log: failed callbacks, exceptions that nobody looked at."""
        self.timers_changed: set[int] = set()
        """Numbers of the timers that were made, cancelled or fired since the owner last took note."""
        self._context = Context()
        self._eviction: Eviction | None = None
        self._number = 0
        self._ready: list[LoopHandle | SagaTimer] = []
        self._tasks: dict[int, SagaTask[Any]] = {}
        self._timer_number = 0
        self._timers: dict[int, SagaTimer] = {}

    get_debug: Any = staticmethod(bool)  # False, and no Python call: asyncio asks for every future and task

    def time(self) -> float:
        """Seconds since the saga's start; stands still while its code runs."""
        if self.dead:
            self._refuse(EVICTED)
        return self.now / 1_000_000

    def create_future(self) -> SagaFuture[Any]:
        if self.dead:
            self._refuse(EVICTED)
        future: SagaFuture[Any] = SagaFuture(loop=self)
        future.number = self._number = self._number + 1
        return future

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> SagaTask[T]:
        if not self.pumping or eager_start:
            coro.close()  # else Python warns that it was never awaited, which is not the trouble
            self._refuse(EAGER if self.pumping else UNPUMPED, "eager_start", fails=self.pumping)
        return self._create_task(coro, name, context)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> LoopHandle:
        if not self.pumping:
            # the waiter that this was to wake is lost: let nobody wait in silence
            self._refuse(UNPUMPED, "unpumped", fails=True)
        if not args and _is_foreign(getattr(callback, "__self__", None)):
            self._refuse(FOREIGN, "foreign_task", fails=True)
        handle = LoopHandle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SagaTimer:
        return self._create_timer(self.now, delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SagaTimer:
        return self._create_timer(0, when, callback, args, context)

    def is_running(self) -> bool:
        """False: asyncio asks only before it starts a task eagerly (3.12), which this loop would not get to see."""
        return False

    def is_closed(self) -> bool:
        return self.dead

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def _create_task(self, coro: Coroutine[Any, Any, T], name: str | None, context: Context | None) -> SagaTask[T]:
        number = self._number = self._number + 1
        task: SagaTask[T] = SagaTask(coro, loop=self, name=name or f"Task-{number}", context=context)
        _unregister_task(task)  # from the process-wide set, where the numbers of all sagas would collide (rule L2)
        task.number = number
        self._tasks[number] = task
        task.add_done_callback(self._finished, context=self._context)
        return task

    def _finished(self, task: asyncio.Future[Any]) -> None:
        assert isinstance(task, SagaTask)
        del self._tasks[task.number]
        error = task._exception  # exception() would count as somebody having looked at it
        if error is not None and not isinstance(error, Exception):
            raise error

    def _create_timer(
        self, base: int, delay: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> SagaTimer:
        if not self.pumping:
            self._refuse(UNPUMPED)
        if isnan(delay):
            raise ValueError("a delay or a deadline cannot be NaN")
        due = min(base + round(min(delay, FOREVER / 1_000_000) * 1_000_000), FOREVER)
        number = self._timer_number = self._timer_number + 1
        timer = SagaTimer(number, due, callback, args, copy_context() if context is None else context, self)
        self._timers[number] = timer
        self.timers_changed.add(number)
        return timer

    def _forget_timer(self, number: int) -> None:
        if self._timers.pop(number, None) is not None:
            self.timers_changed.add(number)

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        # Any other moment than this saga's own is the garbage collector's choice, which no replay repeats (rule L5). A
        # generator that is left alone here is freed without its code being run.
        if self.pumping:
            self._create_task(generator.aclose(), None, None)

    def refuse(self, sentence: str, code: str) -> NoReturn:
        """Stop the saga's code for good, on attention. Raises LoopRefused."""
        self._refuse(sentence, code, fails=True)

    def _refuse(self, sentence: str, code: str = "", *, fails: bool = False) -> NoReturn:
        if self.dead:
            if self._eviction is not None:
                self._eviction.refused()
            raise SagaEvicted(EVICTED)
        error = LoopRefused(sentence, code)
        if fails and self.failure is None:
            self.failure = error
        raise error


def _is_foreign(owner: object) -> bool:
    return isinstance(owner, asyncio.Task) and not isinstance(owner, SagaTask)
