"""Open sagas of which nothing has been heard since their shard was taken.

Resends are timers in memory, known to whoever has loaded the saga. After a take nobody has: a command or a reply that
was lost before it would be waited for without end. So they are all loaded in time, a few with each turn.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from sagabus.contracts.names import SagaId

PATIENCE: Final = 10_000_000
"""Microseconds after a take until the first are loaded: most of them are heard of by then."""

PORTION: Final = 50
"""Sagas loaded by one turn for this: about ten milliseconds of replaying."""


class UnloadedSagas:
    """Of one tenure. ids: the open sagas of the shard. taken: microseconds since 1970."""

    def __init__(self, ids: Iterable[SagaId], *, taken: int) -> None:
        self._ids = sorted(ids, reverse=True)
        self._from = taken + PATIENCE

    def everybody(self) -> list[SagaId]:
        """All of them; nobody is left to be named."""
        ids, self._ids = self._ids[::-1], []
        return ids

    def portion(self, heard: Container[SagaId], now: int) -> list[SagaId]:
        """The next ones that are not in memory; each is named once."""
        found: list[SagaId] = []
        while self._ids and now >= self._from and len(found) < PORTION:
            id = self._ids.pop()
            if id not in heard:
                found.append(id)
        return found
