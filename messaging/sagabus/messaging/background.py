"""Work that goes on until it is stopped, and that no fault ends in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.loop_time import monotonic

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE: Final = 0.5
"""Seconds after a fault."""

AGAIN: Final = 2.0
"""Seconds after which a task that goes on is cancelled once more."""


class Background:
    """Steps, each repeated in a task of its own."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *steps: Callable[[], Awaitable[None]]) -> None:
        self._tasks += [asyncio.create_task(_repeat(step), name=f"sagabus {step.__name__}") for step in steps]

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
        _, going_on = await asyncio.wait(going_on, timeout=AGAIN)


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


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except Exception as error:
            log.error("%s: %s", step.__name__, error, exc_info=trace(error))
            await asyncio.sleep(PAUSE)
