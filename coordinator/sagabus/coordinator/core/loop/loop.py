"""The deterministic event loop on which one saga's code runs (rules L1 to L12).

Theory of operation. A saga is ordinary asyncio code that is run again from its history after a crash, so it has to do
the same again, in another process, on another day. This loop has a ready queue and no selector, and nothing happens
on it by itself: its owner resolves futures, fires timers, cancels tasks, and then pumps the ready queue dry. Time
stands still within a pump and is what the owner says it is; a timer is only noted, in whole microseconds, for the
owner to write down and to fire. Tasks and futures hash by number, so that sets of them are walked alike everywhere
(primitives.py). Methods that would reach outside are refused with the cure (refused.py). What asyncio and the saga's
code may call is in scheduler.py. A saga that leaves memory is closed under guard, on its dead loop (eviction.py).

It must never read a clock, wait, run a saga's code outside a pump (or its eviction), or let the saga's exceptions reach
the owner. All calls come from one thread.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from asyncio.events import _get_running_loop, _set_running_loop
from asyncio.tasks import _enter_task, _leave_task, current_task
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import islice
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from sagabus.coordinator.core.loop.eviction import EVICTED, Eviction, SagaEvicted
from sagabus.coordinator.core.loop.primitives import LoopHandle, SagaFuture, SagaTask, SagaTimer
from sagabus.coordinator.core.loop.refused import NOT_YOURS, LoopRefused
from sagabus.coordinator.core.loop.scheduler import Scheduler
from sagabus.coordinator.core.loop.watch import WATCH, PumpInterrupted, Watch

__all__ = ["LoopOverrun", "LoopRefused", "PumpInterrupted", "SagaEvicted", "SagaFuture", "SagaLoop", "SagaTask"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LoopOverrun(Exception):
    """One pump ran more callbacks than it may: `while True: await asyncio.sleep(0)` and the like (rule L10)."""


class SagaLoop(Scheduler):
    """The event loop of one saga, from its start or replay until its eviction; in its owner's hands."""

    __slots__ = ("_handles_per_pump",)

    def __init__(self, *, handles_per_pump: int = 100_000) -> None:
        """handles_per_pump: callbacks. A saga takes a few for each input; a hundred thousand is seconds of work."""
        super().__init__()
        self._handles_per_pump = handles_per_pump

    def start(self, coroutine: Coroutine[Any, Any, T]) -> SagaTask[T]:
        """Make the saga's main task, in an empty context (rule L9): nothing of the coordinator's leaks into it."""
        if self.dead:
            coroutine.close()
        return self._admit(self._create_task, coroutine, None, self._context)

    def resolve(self, future: asyncio.Future[T], value: T) -> None:
        """Give a future of this loop its result; whoever waits for it runs in the next pump. Nothing if it is done."""
        if not future.done():
            self._admit(future.set_result, value)

    def reject(self, future: asyncio.Future[Any], error: Exception) -> None:
        """Give a future of this loop an exception, likewise."""
        if not future.done():
            self._admit(future.set_exception, error)

    def call(self, callback: Callable[[], object]) -> None:
        """Have this called by the next pump, in an empty context."""
        self._admit(self._ready.append, LoopHandle(callback, (), Context()))

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Have CancelledError thrown into a task of this loop by the next pump."""
        self._admit(task.cancel)

    def pump(self, now: int) -> None:
        """Run the ready queue dry. now: microseconds since the saga's start, never less than before.

        What the saga raises ends up in its tasks, in `errors` or in `failure`, and so does an interrupt; once there is
        a failure, nothing runs any more. Raises LoopOverrun after too many callbacks: the loop is only fit for eviction
        then.
        """
        if self.dead or self.pumping or now < self.now:
            self._refuse_pump(now)
        self.now = now
        if self._ready and self.failure is None:
            self._run_dry()

    @property
    def is_idle(self) -> bool:
        """No task is left."""
        return not self._tasks

    def tasks(self) -> list[SagaTask[Any]]:
        """The tasks that have not ended, oldest first."""
        return list(self._tasks.values())

    def timers(self) -> dict[int, int]:
        """Pending timers: number -> due in microseconds since the start, in the order in which they fire (rule L12).

        Numbers count from 1 in the order of making and are never used again.
        """
        return {timer.number: timer.due for timer in sorted(self._timers.values(), key=_firing_order)}

    def due(self, number: int) -> int | None:
        """Of a pending timer, in microseconds since the start; None once it was cancelled or has fired."""
        timer = self._timers.get(number)
        return None if timer is None else timer.due

    def take_changed_timers(self) -> list[int]:
        """The numbers in `timers_changed`, in order, each told once."""
        changed = sorted(self.timers_changed)
        self.timers_changed.clear()
        return changed

    @property
    def has_timers(self) -> bool:
        """Whether any is pending."""
        return bool(self._timers)

    def drop_timers(self) -> None:
        """The saga's code is through: what it has left pending never fires."""
        self.timers_changed.update(self._timers)
        self._timers.clear()

    def fire(self, number: int) -> None:
        """Have the timer's callback run by the next pump. KeyError if it was cancelled, has fired, or never was."""
        if self.dead:
            self._refuse(EVICTED)
        self._ready.append(self._timers.pop(number))
        self.timers_changed.add(number)

    def check(self) -> None:
        """Raise unless this very loop is being pumped right now. The saga's context calls it first in each method.

        Raises SagaEvicted on a dead loop, else LoopRefused: something other than the saga's code got hold of the
        context, such as another saga, a thread, or a destructor run by the garbage collector (rule L6).
        """
        if not self.pumping or _get_running_loop() is not self:
            self._refuse(NOT_YOURS)

    def evict(self) -> None:
        """Take the saga out of memory: close what is suspended, with this loop dead (rule L4). Idempotent."""
        if self.pumping:
            raise RuntimeError("a saga cannot be evicted while it is pumped")
        if not self.dead:
            self.dead = True
            if self._tasks or self._ready or self._timers or self.errors:
                self._eviction = Eviction(self)
                self._close_all(self._eviction)
                while self._tasks:  # one spun, and the interrupt took the others' closing with it
                    self._close_all(self._eviction)
                self._eviction = None

    def _close_all(self, eviction: Eviction) -> None:
        self._ready[:] = [LoopHandle(self._close, (eviction,), Context())]
        self._run_dry()

    def _close(self, eviction: Eviction) -> None:
        eviction.close(self._tasks)
        self._ready.clear()
        self._timers.clear()
        self.errors.clear()

    def _admit(self, action: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Let the owner put work on the loop between pumps. Nobody else may (rule L7)."""
        if self.dead:
            self._refuse(EVICTED)
        before, self.pumping = self.pumping, True
        try:
            return action(*args)
        finally:
            self.pumping = before

    def _run_dry(self) -> None:
        """Run the ready queue set apart from all else: garbage collection off (rule L6), the outer loop and its task
        put aside (L8), generator hooks of our own (L5), interrupts kept inside (L10)."""
        collecting, hooks, outer = gc.isenabled(), sys.get_asyncgen_hooks(), _get_running_loop()
        gc.disable()
        outer_task = None if outer is None else current_task(outer)
        if outer is not None and outer_task is not None:
            _leave_task(outer, outer_task)  # while the outer loop is still the running one: Python 3.14 insists
        _set_running_loop(self)
        watch = WATCH
        knows_sagas = hooks.firstiter is watch.firstiter  # and each change of a hook is an audit event
        if knows_sagas:
            sys.set_asyncgen_hooks(finalizer=self._finalize)
        else:
            sys.set_asyncgen_hooks(None, self._finalize)
        self.pumping = not self.dead
        try:
            try:  # one for each interrupt that can still come; why a loop would not do is told in watch.py
                try:
                    self._run(watch)
                except PumpInterrupted:
                    if watch.interrupting:
                        watch.withdraw()
            except PumpInterrupted:
                if watch.interrupting:
                    watch.withdraw()
        finally:
            if watch.words:
                self.failure, watch.words = PumpInterrupted(watch.words), ""
                self._ready.clear()
            self.pumping = False
            if knows_sagas:
                sys.set_asyncgen_hooks(finalizer=hooks.finalizer)
            else:
                sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(outer)
            if outer is not None and outer_task is not None:
                _enter_task(outer, outer_task)
            if collecting:
                gc.enable()

    def _run(self, watch: Watch) -> None:
        """One long function, for calls are most of what a pump costs."""
        ready, left = self._ready, self._handles_per_pump
        handle: LoopHandle | SagaTimer | None = None
        try:
            watch.pumps += 1
            watch.loop = self
            while ready:
                for handle in islice(ready, left):  # goes on to what the callbacks append
                    if handle._callback is not None:
                        try:
                            handle._context.run(handle._callback, *handle._args)
                        except BaseException as error:
                            if self._ends(error, handle):
                                return
                if len(ready) > left:
                    del ready[:left]
                    raise LoopOverrun(f"{self._handles_per_pump} callbacks ran and the saga has not come to rest")
                left -= len(ready)
                handle = None  # nor may a traceback that somebody keeps, and with it this frame, keep the last callback
                ready.clear()  # may set off destructors that put more on it
        finally:
            watch.loop = None  # first of all: from here on nobody begins to interrupt
            if watch.interrupting:
                watch.withdraw()

    def _ends(self, error: BaseException, handle: asyncio.Handle) -> bool:
        if isinstance(error, Exception | asyncio.CancelledError):
            self.call_exception_handler({"message": "exception in callback", "exception": error, "handle": handle})
            return False
        if self.failure is None:
            self.failure = error
        self._ready.clear()
        return True

    def _refuse_pump(self, now: int) -> NoReturn:
        if self.pumping:
            raise RuntimeError("this loop is being pumped already")
        if not self.dead:
            raise ValueError(f"a saga's time cannot go back from {self.now} to {now} µs")
        self._refuse(EVICTED)


def _firing_order(timer: SagaTimer) -> tuple[int, int]:
    return timer.due, timer.number
