"""Open sagas of which nothing has been heard since their shard was acquired.

Resends are timers in memory, known to whoever has loaded the saga. After an acquisition nobody has: a command or a
reply that was lost before it would be waited for without end. So they are all loaded in time, a page at a time, and at
once when the bus has lost what was sent (S6).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import islice
from typing import Final

from sagabus.contracts.names import SagaId

UNLOADED_PAUSE_MICROSECONDS: Final = 10_000_000
"""After an acquisition, until the first are loaded: most of them are heard of by then."""

UNLOADED_PAGE: Final = 50
"""Sagas loaded at a time."""

IDS_READ: Final = 1_000
"""Ids read at a time. Most may be of sagas that have begun since the acquisition, which cost no more than a look."""

UNLOADED_STEP_MICROSECONDS: Final = 200_000
"""Between two pages, where nothing is urgent: what has to be done for sagas that are heard of comes first."""


class UnloadedSagas:
    """A walk over the open sagas of one tenure, by their ids. acquired: microseconds since 1970."""

    def __init__(self, *, acquired: int) -> None:
        self.after = ""
        """The last id that was named."""
        self.is_done = False
        self._next = acquired + UNLOADED_PAUSE_MICROSECONDS
        self._hurry = False

    def hurry(self) -> None:
        """The bus has lost what was sent: no pauses."""
        self._hurry = True

    def is_due(self, now: int) -> bool:
        return now >= self.due

    @property
    def due(self) -> int:
        """When the next page is to be read, in microseconds since 1970."""
        return 0 if self._hurry else self._next

    def named(self, ids: Sequence[SagaId], now: int, *, loaded: Container[SagaId]) -> list[SagaId]:
        """These `IDS_READ` were the next, fewer at the end. Gives those that are to be loaded now, a page at most."""
        self._next = now + UNLOADED_STEP_MICROSECONDS
        page = [*islice((id for id in ids if id not in loaded), UNLOADED_PAGE)]
        is_full = len(page) == UNLOADED_PAGE
        self.is_done = not is_full and len(ids) < IDS_READ
        self.after = page[-1] if is_full else ids[-1] if ids else self.after
        return page
