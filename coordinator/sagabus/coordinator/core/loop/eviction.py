"""Taking a saga out of memory while its code is suspended half-way (rule L4).

Theory of operation. Python has no way to drop a suspended coroutine without running its `finally` and `except` blocks;
left to the garbage collector they would run later, on whichever loop happens to run. So they run here, at a known
moment, and find a dead loop: `SagaEvicted` is thrown into the code, newest task first, and is what the loop answers to
everything, a BaseException, so that no `except Exception` takes it for a failed step. (`close()` would not do: where an
inner coroutine swallows GeneratorExit it is dropped half-way, its future is left in a state in which awaiting it fails
at once, and a loop around that never ends.)

Code that swallows even that in a loop (`while True: try: … except: pass`) would turn for ever, and the process with it.
After `REFUSALS_PER_EVICTION` refusals the loop therefore looks alive again: the code comes to its next `await` and is
left there for good. What it puts on the loop until then is thrown away; the owner has to do the same with what it put
elsewhere.

What is closed leaves no cycle behind, as far as asyncio is concerned: the garbage collector has nothing to do for it. A
task and what it waits for know each other, and an exception knows the frames that it went through; both are parted.

This module must never wait, and must never let an exception of the saga out.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from sagabus.coordinator.core.loop.watch import PumpInterrupted

if TYPE_CHECKING:
    from sagabus.coordinator.core.loop.primitives import SagaTask
    from sagabus.coordinator.core.loop.scheduler import Scheduler

__all__ = ["EVICTED", "Eviction", "SagaEvicted"]

EVICTED = "this saga was taken out of memory; nothing that this copy of its code does takes effect"

REFUSALS_PER_EVICTION = 1_000
"""Refusals that one eviction answers with SagaEvicted. Honest code meets a handful for each `finally`."""

THROWS_PER_COROUTINE = 50
"""How often SagaEvicted is thrown into a coroutine that goes on awaiting: once for each `finally` that does."""


class SagaEvicted(BaseException):
    """The saga was taken out of memory. It lives on in its history; this copy of its code has nothing left to do."""


class Eviction:
    """The closing of one saga's coroutines."""

    __slots__ = ("_loop", "_refusals")

    def __init__(self, loop: Scheduler) -> None:
        self._loop = loop
        self._refusals = 0

    def refused(self) -> None:
        """The dead loop is about to raise SagaEvicted. Makes sure that this ends some time."""
        self._refusals += 1
        if self._refusals > REFUSALS_PER_EVICTION:
            self._loop.dead, self._loop.pumping = False, True

    def close(self, tasks: dict[int, SagaTask[Any]]) -> None:
        """End the coroutines of the tasks, newest first, and forget the tasks. The dead loop is the running one.

        An interrupt may come at any place (L10): what is still among the tasks then is to be closed once more.
        """
        while tasks:
            number = next(reversed(tasks))
            self._close(tasks[number].get_coro())
            _part(tasks[number])
            del tasks[number]
        self._bury()

    def _close(self, coroutine: Coroutine[Any, Any, Any] | Any) -> None:
        for _ in range(THROWS_PER_COROUTINE):
            self._bury()
            try:
                awaited = coroutine.throw(SagaEvicted(EVICTED))
            except PumpInterrupted:  # in it, or on the way back from it: the next throw will tell whether it has ended
                continue
            except BaseException as error:  # it ended; whatever it raises has nobody to go to
                error.__traceback__ = None
                return
            if isinstance(awaited, asyncio.Future):
                awaited._asyncio_future_blocking = False  # as a task does, or it cannot be awaited again
            if not self._loop.dead:
                break  # where `refused` wanted it
        _keep_for_ever(coroutine)

    def _bury(self) -> None:
        self._loop.dead, self._loop.pumping = True, False


def _part(task: Any) -> None:
    """The task from whatever it waits for, and from whoever waits for it: none of them will be woken."""
    for future in (task, task._fut_waiter):
        for callback, _ in (future is not None and future._callbacks) or ():
            future.remove_done_callback(callback)


def _keep_for_ever(coroutine: object) -> None:
    """A coroutine that awaits on whatever is thrown at it would, once dropped, turn for ever in its destructor, be it
    when the interpreter ends. A list would be emptied then; a reference that nobody holds is not."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))
