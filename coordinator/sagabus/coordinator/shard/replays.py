"""Sagas on their way back into memory, behind the turns: a long history delays no other saga by more than a portion.

    wanted -> first rows read -> (further pages read) -> replayed, portion by portion -> ready for the next turn

Records for a saga on its way are kept as early requests, in the turn that takes them in; its timers wait here. No
transaction is open while anything is computed. All of it belongs to a tenure and goes with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.core.saga.replay import Replay
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import SagaRow
from sagabus.messaging.postgres.database import Connection

REPLAYS_AT_A_TIME: Final = 16
"""Of a shard: their histories are in memory as a whole. They take turns."""

WANTED_TOGETHER: Final = REPLAYS_AT_A_TIME // 2
"""Wanted sagas begin when there is room for so many: they are read by two statements, however many they are."""

WANTED_OF_A_PIECE: Final = 1_000
"""Wanted sagas that are looked at in one piece of work: most of them may be in memory already."""


@dataclass(slots=True)
class ReplayUnderWay:
    """rows: read so far. replay: once all are."""

    row: SagaRow
    rows: list[Row]
    is_read: bool
    replay: Replay | None = None
    timers: list[Input] = field(default_factory=list)
    """That came due meanwhile. They are rows, and nothing is lost with them."""

    async def read_on(self, connection: Connection, reads: Reads, most: int) -> int:
        """The next page of its history; how many rows."""
        rows = await reads.history_page(connection, self.row.key, after=self.rows[-1].seq, most=most)
        self.rows += rows
        self.is_read = len(rows) < most
        return len(rows)


class Replays:
    """Of one tenure."""

    def __init__(self) -> None:
        self.portions = 0
        """Pieces of work done for this tenure. Who has had the fewest comes next."""
        self._wanted: OrderedDict[SagaId, None] = OrderedDict()  # both are emptied from the front
        self.under_way: OrderedDict[SagaId, ReplayUnderWay] = OrderedDict()
        self._ready: list[tuple[Saga, ReplayUnderWay]] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._wanted or self.under_way)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way, though some may be wanted."""
        return not self.under_way

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def want(self, ids: Iterable[SagaId]) -> None:
        """These are to be in memory in time, though nothing may have come for them."""
        self._wanted.update(dict.fromkeys(ids))

    def next_wanted(self, loaded: Collection[SagaId]) -> list[SagaId]:
        """As many as may begin now. Those that are in memory, or on their way, are wanted no more.

        It may find none in one call where many are: see `WANTED_OF_A_PIECE`, `WANTED_TOGETHER`.
        """
        chosen: list[SagaId] = []
        room = REPLAYS_AT_A_TIME - len(self.under_way)
        if room < WANTED_TOGETHER:
            return chosen
        for _ in range(min(len(self._wanted), WANTED_OF_A_PIECE)):
            if len(chosen) >= room:
                break
            id, _nothing = self._wanted.popitem(last=False)
            if id not in loaded and id not in self.under_way:
                chosen.append(id)
        return chosen

    def begin(self, row: SagaRow, rows: Sequence[Row], *, is_read: bool) -> None:
        """rows: the first ones of its history. is_read: there are no more."""
        self._wanted.pop(row.id, None)
        self.under_way[row.id] = ReplayUnderWay(row, [*rows], is_read)

    def of(self, id: SagaId) -> ReplayUnderWay | None:
        """What is under way for this saga: it takes in nothing now."""
        return self.under_way.get(id)

    def finish_now(self, id: SagaId) -> ReplayUnderWay | None:
        """It is another one's to finish."""
        return self.under_way.pop(id, None)

    def next_piece(self) -> ReplayUnderWay:
        """One after the other. There must be one."""
        id = next(iter(self.under_way))
        self.under_way.move_to_end(id)
        return self.under_way[id]

    def done(self, one: ReplayUnderWay) -> None:
        """The next turn takes it."""
        assert one.replay is not None
        del self.under_way[one.row.id]
        self._ready.append((one.replay.saga, one))

    def take_ready(self) -> list[tuple[Saga, ReplayUnderWay]]:
        ready, self._ready = self._ready, []
        return ready

    def forget(self) -> None:
        """No saga's code runs on the way out (L4)."""
        for saga, _ in self._ready:
            saga.evict()
        for one in self.under_way.values():
            if one.replay is not None:
                one.replay.saga.evict()
        self._wanted.clear()
        self.under_way.clear()
        self._ready.clear()
