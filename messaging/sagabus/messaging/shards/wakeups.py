"""When tenures are due for a turn without records: once a second for the beat, and when a timer of the side's is due.

The beat is how a lost shard is noticed (S1), how an idle one stores its relay's position, and what S3 goes by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.shards.ports import Processor
from sagabus.messaging.shards.tenure import Tenure

BEAT: Final = 1.0
"""Seconds that a tenure may go without a turn."""


class Wakeups:
    """Waits, and says who is due. `clock` gives seconds since 1970, and is asked for timers only."""

    def __init__(self, side: Processor, clock: Callable[[], float]) -> None:
        self._side = side
        self._clock = clock
        self._wake = asyncio.Event()
        self._fired: float | None = None

    def wake(self, *, anew: bool = False) -> None:
        """Something may be due earlier than it was. `anew`: also what found nobody to fire it (see `due`)."""
        if anew:
            self._fired = None
        self._wake.set()

    async def wait(self, tenures: Collection[Tenure]) -> None:
        """Until somebody may be due."""
        beat = min((tenure.turned_at for tenure in tenures), default=monotonic()) + BEAT
        pause = beat - monotonic()
        timer = self._timer()
        if timer is not None:
            pause = min(pause, timer - self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause)):
                await self._wake.wait()
        self._wake.clear()

    def due(self, tenures: Collection[Tenure]) -> list[Tenure]:
        """Who is to be turned now. Timers fire only in tenures that have caught up (H4)."""
        now = monotonic()
        beats = any(now - tenure.turned_at >= BEAT for tenure in tenures)
        timer = self._timer()
        fires = timer is not None and timer <= self._clock()
        # A timer that stays due after its turn is of a tenure that has to catch up first: it waits for the next beat.
        self._fired = None if beats else timer if fires else self._fired
        half = BEAT / 2  # who is nearly due comes along: idle shards beat together
        return [t for t in tenures if (fires and t.caught_up) or (beats and now - t.turned_at >= half)]

    def _timer(self) -> float | None:
        timer = self._side.next_due()
        return None if timer == self._fired else timer
