"""Work that goes on until it is stopped, and that never ends unnoticed.

Each task of a service is started by its `Supervisor`. A task that ends by anything but its cancellation has died: the
log names it, readiness says so, and the block that the supervisor guards is cancelled, drains, and raises `PartDied`,
so that the process ends with an exit code of its own. What may fail and be tried again catches `Exception` itself; what
comes here is a fault of ours, or a `BaseException` of somebody's code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sagabus.contracts.errors import ExitCode, SagabusError
from sagabus.messaging.backoff import Backoff, Reasons
from sagabus.messaging.loop_time import monotonic

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0
"""After a fault of a step."""

CANCEL_AGAIN_SECONDS: Final = 2.0
"""After so long, a task that goes on is cancelled once more."""

DRAIN_STEP_SECONDS: Final = 10.0
"""After a death, each wait of the drain has so long: then it is cancelled, and the drain goes on behind it."""


class PartDied(SagabusError):
    """A part of this process was ended by an unexpected error, and the process cannot work without it."""

    exit_code = ExitCode.OUR_FAULT

    def __init__(self, part: str, error: BaseException) -> None:
        super().__init__(f"{part} has died of {type(error).__name__}: {error}")
        self.part = part


class Supervisor:
    """Starts the tasks of a service. As a block (`async with`), it ends with PartDied when one of them has died.

    on_death: told at once, in words, before anything is cancelled. Without the block, a death is logged and told.
    """

    def __init__(self, on_death: Callable[[str], None] | None = None) -> None:
        self.death: PartDied | None = None
        """The first one."""
        self._on_death = on_death
        self._guarded: asyncio.Task[Any] | None = None
        self._cancelled = 0
        self._again: asyncio.TimerHandle | None = None

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """A task of this service. Whoever awaits it gets PartDied if it dies."""
        task = asyncio.create_task(self._watched(work, name), name=f"sagabus {name}")
        task.add_done_callback(_retrieved)
        task.add_done_callback(lambda _: work.close())  # which has not begun where the task was cancelled before
        return task

    def died(self, part: str, error: BaseException) -> PartDied:
        """Say so of a task that a library has started, and that it ends by this error."""
        death = PartDied(part, error)
        death.__cause__ = error
        log.critical("%s; this process ends", death, exc_info=error)
        if self.death is None:
            self.death = death
            if self._on_death is not None:
                self._on_death(str(death))
            self._cancel()
        return death

    async def __aenter__(self) -> Self:
        self._guarded = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guarded, self._guarded = self._guarded, None
        if self._again is not None:
            self._again.cancel()
        if self.death is not None:
            for _ in range(self._cancelled):
                if guarded is not None:
                    guarded.uncancel()
            raise self.death

    async def _watched(self, work: Coroutine[Any, Any, T], name: str) -> T:
        try:
            return await work
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self.died(name, error) from error  # nobody has cancelled it: it met another task's cancellation
        except BaseException as error:  # SystemExit too: raised on, it would end the loop, and drain nothing
            raise self.died(name, error) from error

    def _cancel(self) -> None:
        if self._guarded is not None:
            self._guarded.cancel()
            self._cancelled += 1
            self._again = asyncio.get_running_loop().call_later(DRAIN_STEP_SECONDS, self._cancel)


class Background:
    """Steps, each repeated in a task of its own."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *steps: Callable[[], Awaitable[None]]) -> None:
        self._tasks += [self._supervisor.spawn(_repeat(step), name=step.__name__.strip("_")) for step in steps]

    async def stop(self) -> None:
        """Cancelled, and over when this returns."""
        await cancelled(self._tasks)


async def until_set(event: asyncio.Event, *, at: float | None) -> None:
    """Until the event is set, or the monotonic clock shows `at`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if at is None else max(0.0, at - monotonic())):
            await event.wait()


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these, and wait for their end; what they raise is theirs.

    One cancellation may not do: libraries, and handlers, swallow one that meets their own waiting for a task they have
    cancelled. Whoever waited for such a task would wait without end.
    """
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=CANCEL_AGAIN_SECONDS)


async def uninterrupted(work: Awaitable[T]) -> T:
    """A cancellation waits for its end, and is raised then: what is half done could not be undone.

    For aiokafka's `stop` and `close` as well, in which a cancellation would be lost.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def trace(error: Exception) -> Exception | None:
    """For `exc_info`: errors of ours say all in their sentence."""
    return None if isinstance(error, SagabusError) else error


def _retrieved(task: asyncio.Task[Any]) -> None:
    """It has been logged: asyncio need not say that nobody asked."""
    if not task.cancelled():
        task.exception()


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
    reasons = Reasons()
    while True:
        try:
            await step()
            backoff.reset()
            reasons.over()
        except Exception as error:
            if reasons.new(error):
                log.error("%s: %s", step.__name__.strip("_"), error, exc_info=trace(error))
            await backoff.pause()
