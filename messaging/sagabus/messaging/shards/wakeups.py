"""When tenures are due for a turn without records: once a second for the heartbeat, when a timer of the processor's is
due, and when somebody has asked for a turn of a tenure.

The heartbeat is how a lost shard is noticed (S1), how an idle one stores its relay's position, and what S3 goes by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.shards.ports import Processor
from sagabus.messaging.shards.tenure import Tenure

HEARTBEAT_SECONDS: Final = 1.0
"""A tenure may go without a turn for so long."""


class Wakeups:
    """Waits, and says who is due. `clock` gives seconds since 1970, and is asked for timers only."""

    def __init__(self, processor: Processor, clock: Callable[[], float]) -> None:
        self._processor = processor
        self._clock = clock
        self._wake = asyncio.Event()
        self._waits_for: float | None = None
        self._fired: float | None = None

    def look(self) -> None:
        """A turn was asked for, or who is held has changed."""
        self._wake.set()

    def after_turn(self, *, caught_up: bool = False) -> None:
        """The next timer may be another one. caught_up: also what found nobody to fire it before (see `due`)."""
        if caught_up:
            self._fired = None
        if self._timer() != self._waits_for:
            self._wake.set()

    async def wait(self, tenures: Collection[Tenure]) -> None:
        """Until somebody may be due."""
        heartbeat = min((tenure.turned_at for tenure in tenures), default=monotonic()) + HEARTBEAT_SECONDS
        pause = 0.0 if any(tenure.turn_requested for tenure in tenures) else heartbeat - monotonic()
        self._waits_for = timer = self._timer()
        if timer is not None:
            pause = min(pause, timer - self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause)):
                await self._wake.wait()
        self._wake.clear()

    def due(self, tenures: Collection[Tenure]) -> list[Tenure]:
        """Who is to be turned now. Timers fire only in tenures that have caught up (H4)."""
        now = monotonic()
        beats = any(now - tenure.turned_at >= HEARTBEAT_SECONDS for tenure in tenures)
        timer = self._timer()
        fires = timer is not None and timer <= self._clock()
        # A timer that stays due after its turn is of a tenure that has to catch up: it waits for the next heartbeat.
        self._fired = None if beats else timer if fires else self._fired
        half = HEARTBEAT_SECONDS / 2  # who is nearly due comes along: idle shards beat together
        return [
            tenure
            for tenure in tenures
            if tenure.turn_requested or (fires and tenure.caught_up) or (beats and now - tenure.turned_at >= half)
        ]

    def _timer(self) -> float | None:
        timer = self._processor.next_due()
        return None if timer == self._fired else timer
