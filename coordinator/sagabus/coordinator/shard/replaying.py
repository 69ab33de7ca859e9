"""The work behind a turn: sagas come back into memory, a portion at a time, of all shards in turns.

A shard's next turn waits for one portion of it at most. What cannot be read ends the turn as any failure does (S2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.pace import Pace
from sagabus.coordinator.shard.replays import ReplayUnderWay
from sagabus.coordinator.shard.unloaded import LOOKED_AT
from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.postgres.database import Database


class Replaying:
    """For all shards of a process."""

    def __init__(self, database: Database, loading: Loading) -> None:
        self._database = database
        self._loading = loading

    async def go_on(self, memories: Sequence[ShardMemory], *, now: int) -> None:
        """One portion for these shards together. now: of the turn, in microseconds since 1970."""
        limits = self._loading.limits
        end, rows = monotonic() + limits.seconds_behind_turn, limits.rows_behind_turn
        pace = Pace()
        for memory in memories:
            await self._walk_on(memory, now)
        while rows > 0 and monotonic() < end and (busy := [one for one in memories if one.replays.is_busy]):
            memory = min(busy, key=lambda one: one.replays.portions)
            memory.replays.portions += 1
            rows -= await self._piece(memory, pace, now)
            if pace.is_out_of_breath:
                await pace.breathe()

    async def _walk_on(self, memory: ShardMemory, now: int) -> None:
        """The next of the open sagas that nobody has heard of since the acquisition."""
        unloaded = memory.unloaded
        if unloaded.is_done or memory.replays.is_busy or not unloaded.is_due(now):
            return
        if unloaded.wants_page:
            shard, after, known = memory.tenure.shard, unloaded.after, self._fingerprints_at_rest(memory)
            look = partial(self._loading.reads.open_page, shard=shard, after=after, most=LOOKED_AT, fingerprints=known)
            unloaded.read(await self._database.read(look))
        memory.replays.want(unloaded.step(now, loaded=memory.loaded))

    def _fingerprints_at_rest(self, memory: ShardMemory) -> Sequence[str]:
        """Of the code whose sagas need not be loaded where they are at rest. Of none for the first page, a sample of
        all, and if each is to be told that records were lost (S6); copies of what is unanswered need no more than any
        walk."""
        wants_samples = memory.unloaded.looked_at < self._loading.limits.samples
        return () if wants_samples or memory.lost_records else self._loading.definitions.fingerprints

    async def _piece(self, memory: ShardMemory, pace: Pace, now: int) -> int:
        """Begin some, or read a page of one, or replay some rows of one. Returns the rows that it has cost."""
        begun = await self._begin(memory)
        if begun is not None:
            return begun
        one = memory.replays.next_piece()
        if not one.is_read:
            return await self._read_on(one)
        return await self._replay_on(memory, one, pace, now)

    async def _begin(self, memory: ShardMemory) -> int | None:
        replays, most = memory.replays, self._loading.limits.short_history
        ids = replays.next_wanted(memory.loaded)
        if not ids:
            return 1 if replays.is_empty else None
        reads = self._loading.reads
        rows = await self._database.read(partial(reads.sagas, ids=ids))
        keys = [row.key for row in rows.values()]
        histories = await self._database.read(partial(reads.histories, keys=keys, most=most))
        for row in self._loading.with_history(rows.values(), histories).values():
            history = histories[row.key]
            memory.know_concerns(row)
            replays.begin(row, history, is_read=len(history) < most)
        return 1 + sum(map(len, histories.values())) // 10

    async def _read_on(self, one: ReplayUnderWay) -> int:
        rows = await self._database.read(
            partial(one.read_on, reads=self._loading.reads, most=self._loading.limits.page)
        )
        return 1 + rows // 10  # to read a row costs a tenth of replaying it

    async def _replay_on(self, memory: ShardMemory, one: ReplayUnderWay, pace: Pace, now: int) -> int:
        portion = self._loading.limits.portion
        if one.replay is None:
            one.replay = self._loading.replay(one.row, one.rows, now=now)
        rows = 0
        while not pace.is_out_of_breath and rows < 10 * portion:
            rows += portion
            if one.replay.go_on(portion):
                memory.replays.done(one)
                break
        return max(rows, 1)
