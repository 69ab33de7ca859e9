"""Virtual time, and the event loops of simulated processes.

Every process has an asyncio loop of its own, without selector and clock. The engine runs them in turns, one round of
ready callbacks at a time, in an order that a seeded generator chooses; when nobody is ready, time jumps to the next
timer. A process that is killed is never run again, one that is stopped is not run until it is continued: neither can do
anything about it, nor notice. The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_Loop: Any = asyncio.AbstractEventLoop
"""Only what asyncio's own parts ask for is there; the rest is never asked."""

FIRST_MOMENT = 1_000.0
"""Seconds on the loops' clocks when a run begins."""


class Deadlock(Exception):
    """Nobody is ready and nobody waits for a time."""


class Livelock(Exception):
    """Callbacks follow each other without end, and nobody waits for anything."""


AT_ONCE = 20_000
"""Rounds one after the other, all of them ready at once."""

MOST_ROUNDS = 60_000
"""Of one run. Runs that end take a few thousand; some that go wrong would take for ever."""

COST = 1e-6
"""Seconds that a round takes. Time that stands still altogether is a trap of its own: floats round."""


class SimulatedLoop(_Loop):  # type: ignore[misc]    # on purpose, see there
    """One process's loop."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.faults: list[str] = []
        """What escaped from callbacks: no code of ours may let that happen."""
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._engine = engine

    @property
    def runs(self) -> bool:
        return self.alive and not self.stopped

    def next_timer(self) -> float | None:
        timers = self.timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def round(self) -> None:
        """What asyncio calls an iteration: the callbacks that are ready now, not those that they make ready."""
        while (at := self.next_timer()) is not None and at <= self._engine.now:
            self.ready.append(heapq.heappop(self.timers)[2])
        before = _get_running_loop()
        _set_running_loop(self)
        try:
            for _ in range(len(self.ready)):
                if not self.runs:
                    return
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            _set_running_loop(before)

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._engine.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self.timers, (when, self._engine.number(), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context, **options)
        self.tasks.append(task)
        if len(self.tasks) > 200:
            self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.alive

    def is_closed(self) -> bool:
        return not self.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.faults.append(f"{self.name}: {context.get('message')}: {type(error).__name__}: {error}")

    def bury(self) -> None:
        """Close what a killed process has left, so that no destructor does it later; nothing of it takes effect."""
        self.alive = False
        before = _get_running_loop()
        _set_running_loop(self)
        try:
            for task in reversed(self.tasks):
                if not task.done():
                    task._log_destroy_pending = False
                    with suppress(BaseException):
                        task.get_coro().close()
        finally:
            _set_running_loop(before)
        self.tasks.clear()
        self.ready.clear()
        self.timers.clear()


class Engine:
    """Runs loops. random: chooses whose turn it is."""

    def __init__(self, random: Random) -> None:
        self.now = FIRST_MOMENT
        self.rounds = 0
        self._random = random
        self._loops: list[SimulatedLoop] = []
        self._number = 0

    def number(self) -> int:
        """Timers that are due together fire in the order in which they were set."""
        self._number += 1
        return self._number

    def loop(self, name: str) -> SimulatedLoop:
        made = SimulatedLoop(self, name)
        self._loops.append(made)
        return made

    def forget(self, loop: SimulatedLoop) -> None:
        self._loops.remove(loop)

    def run(self, until: Callable[[], bool], *, limit: float) -> bool:
        """Until the condition holds, looked at whenever time moves on; False if that time has come without it."""
        rounds = 0
        while True:
            ready = [loop for loop in self._loops if loop.runs and loop.ready]
            if ready:
                self.rounds += 1
                self.now += COST
                rounds += 1
                if rounds > AT_ONCE or self.rounds > MOST_ROUNDS:
                    raise Livelock(", ".join(loop.name for loop in ready))
                (ready[0] if len(ready) == 1 else self._random.choice(ready)).round()
                continue
            rounds = 0
            if until():
                return True
            times = [at for loop in self._loops if loop.runs and (at := loop.next_timer()) is not None]
            if not times:
                raise Deadlock
            self.now = max(self.now, min(times))
            if self.now > limit:
                return False
            for loop in self._loops:
                if loop.runs and (at := loop.next_timer()) is not None and at <= self.now:
                    loop.ready.append(heapq.heappop(loop.timers)[2])

    def complete(self, loop: SimulatedLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task on that loop."""
        return loop.create_task(work)
