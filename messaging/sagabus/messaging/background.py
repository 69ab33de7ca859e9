"""Work that goes on until it is stopped, and that no fault ends in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.loop_time import monotonic

log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds after a fault."""


class Background:
    """Steps, each repeated in a task of its own."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *steps: Callable[[], Awaitable[None]]) -> None:
        self._tasks += [asyncio.create_task(_repeat(step), name=f"sagabus {step.__name__}") for step in steps]

    async def stop(self) -> None:
        """Cancelled, and over when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until_set(event: asyncio.Event, *, at: float | None) -> None:
    """Until the event is set, or the monotonic clock shows `at`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if at is None else max(0.0, at - monotonic())):
            await event.wait()


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
