"""Lets the event loop breathe: heartbeats, the API and probes go on while many sagas are replayed or decided upon."""

from __future__ import annotations

import asyncio
from typing import Final

from sagabus.messaging.loop_time import monotonic

BREATH_SECONDS: Final = 0.01
"""Of computing at a stretch. What else runs on the loop waits for so long, again and again: a turn beside a long replay
takes a dozen rounds of the loop."""


LOOK_EVERY: Final = 8
"""Inputs of a batch between two looks at the clock: a few milliseconds at most."""


class Pace:
    """Of one turn. To be asked between any two pieces of work, none of which takes long itself."""

    def __init__(self) -> None:
        self._since = monotonic()

    @property
    def is_out_of_breath(self) -> bool:
        return monotonic() - self._since >= BREATH_SECONDS

    async def breathe(self) -> None:
        """Everything that is ready runs once."""
        await asyncio.sleep(0)
        self._since = monotonic()
