"""Open sagas of which nothing has been heard since their shard was acquired.

Resends are timers in memory, known to whoever has loaded the saga. After an acquisition nobody has: a command or a
reply that was lost before it would be waited for without end. So all are gone through in time, by id, a page at a time,
and at once when the bus has lost what was sent (S6).

Theory of operation. A page is read with a look at each saga of it, in the statement that finds it: one that is at rest
for sure has nothing to be sent again, and is not loaded (`store.open_page`). The first page is a sample: all of it is
loaded. What is to be loaded of a page waits here, and some of it is named with each step; only when all of it has been
named the next page is read. So no saga is looked at twice, and nothing is read that is not used: what was loaded or has
closed meanwhile is passed over.

The first sagas of each shard are gone through at once, for a cluster that has a few thousand. From then on a step is
followed by a pause that goes by what it has cost, and by how much else there is to do: with all shards of the cluster
on their way, and however many sagas are open, the walk takes a share of a processor, which is small where many records
come (docs/decisions/0023). Records are counted, and no clock of the processor is asked: a simulated walk is the same
each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.store.open_page import OpenPage

UNLOADED_PAUSE_MICROSECONDS: Final = 10_000_000
"""After an acquisition, until the first are loaded: most of them are heard of by then."""

UNLOADED_PAGE: Final = 50
"""Sagas loaded at a time."""

LOOKED_AT: Final = 200
"""Sagas looked at in one statement: a millisecond or two, for which the next turn waits."""

UNLOADED_STEP_MICROSECONDS: Final = 200_000
"""Between two steps at least, where nothing is urgent: what has to be done for sagas that are heard of comes first."""

LOOKED_AT_WITHOUT_A_PAUSE: Final = 1_000
"""Sagas of a shard that are gone through at that pace, whatever it costs."""

WALK_SHARE: Final = 0.3
"""Of a processor, that all walks of a cluster together take after that, the coordinators' and PostgreSQL's part, while
nothing else is to be done."""

LEAST_SHARE: Final = 0.02
"""The same, where records take half a processor or more."""

RECORD_MICROSECONDS: Final = 200
"""Of processor time, that a record costs coordinators and PostgreSQL together, about."""

LOOK_MICROSECONDS: Final = 10
"""Of processor time, for a saga that is looked at, with the turn behind which that is done (bench/walk.py)."""

LOAD_MICROSECONDS: Final = 550
"""The same, for one that is loaded: it is read, replayed, and kept by the next turn."""


class UnloadedSagas:
    """A walk over the open sagas of one tenure, by their ids.

    acquired: microseconds since 1970. shards: of the cluster, which share the processor time.
    """

    def __init__(self, *, acquired: int, shards: int) -> None:
        self.after = ""
        """The last id that was looked at."""
        self._shards = shards
        self._is_read = False
        self.looked_at = 0
        """Sagas."""
        self._restless: OrderedDict[SagaId, None] = OrderedDict()
        """Of the page that was read last: those that are still to be named."""
        self._spent = 0
        """Microseconds of processor time since the last step."""
        self._records, self._since = 0, acquired
        """Taken in by the shard since the last step, and when that was."""
        self._next = acquired + UNLOADED_PAUSE_MICROSECONDS
        self._hurry = False

    def hurry(self) -> None:
        """The bus has lost what was sent: no pauses."""
        self._hurry = True

    @property
    def is_done(self) -> bool:
        """All have been looked at, and what is to be loaded has been named."""
        return self._is_read and not self._restless

    def is_due(self, now: int) -> bool:
        return now >= self.due

    @property
    def due(self) -> int:
        """When the next step is to be made, in microseconds since 1970."""
        return 0 if self._hurry else self._next

    @property
    def wants_page(self) -> bool:
        """Whether the next `LOOKED_AT` are to be read, before `step`."""
        return not self._restless and not self._is_read

    def took(self, records: int) -> None:
        """A turn of the shard has taken in so many."""
        self._records += records

    def read(self, page: OpenPage) -> None:
        """These are the next."""
        self._is_read = page.count < LOOKED_AT
        self.after = page.last or self.after
        self.looked_at += page.count
        self._spent += page.count * LOOK_MICROSECONDS
        self._restless.update(dict.fromkeys(page.restless))

    def heard_of(self, id: SagaId) -> None:
        """It was in memory, and has closed since, or stands still: it is not to be loaded any more."""
        self._restless.pop(id, None)

    def step(self, now: int, *, loaded: Container[SagaId]) -> list[SagaId]:
        """Those that are to be loaded now, `UNLOADED_PAGE` at most."""
        named: list[SagaId] = []
        while self._restless and len(named) < UNLOADED_PAGE:
            id, _nothing = self._restless.popitem(last=False)
            if id not in loaded:
                named.append(id)
        self._next = now + self._pause(now, self._spent + len(named) * LOAD_MICROSECONDS)
        self._spent, self._records, self._since = 0, 0, now
        return named

    def _pause(self, now: int, spent: int) -> int:
        """Microseconds, after a step that has cost so many of processor time."""
        if self.looked_at <= LOOKED_AT_WITHOUT_A_PAUSE:
            return UNLOADED_STEP_MICROSECONDS
        return max(UNLOADED_STEP_MICROSECONDS, round(spent * self._shards / self._share(now)))

    def _share(self, now: int) -> float:
        """Of a processor, for all walks. Other shards are taken to be as busy as this one was since the last step."""
        busy = self._records * self._shards * RECORD_MICROSECONDS / max(1, now - self._since)
        return max(LEAST_SHARE, WALK_SHARE * (1 - 2 * busy))
