"""Time for pauses and patience: the clock of the event loop, which never runs backwards.

Whoever runs this code on a loop of their own, with a time of its own, has all of its waiting in hand. What time of day
it is comes as a `clock` argument instead, in seconds since 1970.
"""

from __future__ import annotations

from asyncio import get_running_loop


def monotonic() -> float:
    """Seconds, from an arbitrary beginning; asyncio's own loops go by `time.monotonic`."""
    return get_running_loop().time()
