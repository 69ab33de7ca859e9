"""Finds out that another process is in the group under the same static name, by how often the group forgets this one.

Two static members of one name end each other's membership by joining. One that stood still for a session is forgotten
too, and that is not counted: processes that are stopped and go on would stay out of their groups for a minute.
"""

from __future__ import annotations

from typing import Final

from sagabus.messaging.backoff import Backoff

TWIN_LOSSES: Final = 3
TWIN_WINDOW_SECONDS: Final = 30.0
"""A static member that the group has forgotten so many times in this time has a twin."""

TWIN_QUIET_SECONDS: Final = 300.0
"""After so long without it, the next such loss is a new event, and its pause the first one again. Being assigned is no
sign: each of the two is, whenever it joins."""

TWIN_FIRST_PAUSE_SECONDS: Final = 10.0
TWIN_LONGEST_PAUSE_SECONDS: Final = 60.0
"""Until it joins once more, doubling; meanwhile the other one works."""


class Twins:
    """What one static member knows of another one of its name."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._seen = 0.0
        self._backoff = Backoff(first_seconds=TWIN_FIRST_PAUSE_SECONDS, longest_seconds=TWIN_LONGEST_PAUSE_SECONDS)

    def forgotten(self, now: float) -> float | None:
        """The group has forgotten this member. If that shows a twin: for how many seconds to stay out of the group.

        now: monotonic seconds.
        """
        self._losses = [*(at for at in self._losses if now - at < TWIN_WINDOW_SECONDS), now]
        if len(self._losses) < TWIN_LOSSES:
            return None
        self._losses = []
        if now - self._seen > TWIN_QUIET_SECONDS:
            self._backoff.reset()
        self._seen = now
        return self._backoff.next()
