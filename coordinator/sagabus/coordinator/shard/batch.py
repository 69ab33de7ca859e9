"""One turn's batch over shards of a process: taken in, loaded, decided, prepared, committed.

A start whose saga is not in memory is presumed new, and decided last, with nothing looked up. If the statement that
makes the sagas finds that one of them is known, nothing was committed: the starts alone are decided again.

Sagas with a short history are replayed at once, those with a long one behind the turns (`replays`). What is read is
read before anything is decided. What is written has nothing left to compute: it is one statement where it is little,
else one transaction. The loop breathes between any two pieces of work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from sagabus.contracts.envelope import Record
from sagabus.contracts.names import SagaId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.saga.admission import REPLIES
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import Effects
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.decisions import Decisions, Mark
from sagabus.coordinator.shard.delivery import Delivery
from sagabus.coordinator.shard.intake import Intake
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.pace import LOOK_EVERY, Pace
from sagabus.coordinator.shard.present import Present
from sagabus.coordinator.shard.replays import ReplayUnderWay
from sagabus.coordinator.shard.starts import Starts, may_be_forgotten
from sagabus.coordinator.store.rows import SagaKey, SagaRow
from sagabus.coordinator.store.small_turn import SmallTurn
from sagabus.coordinator.store.write import Encoded, SagaExists, Store
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.tenure import Tenure

_Memories = dict[SagaId, ShardMemory]
Gathered = Sequence[tuple[Saga, ShardMemory, Effects]]
Prepared = SmallTurn | tuple[memoryview | None, Encoded]
"""What is written: as one statement; or outbox rows, and the others."""


@dataclass(slots=True)
class _Missing:
    """What a turn needs of the store, and in which memory it belongs.

    sagas: to be replayed. starts: ids of starts that are not presumed new: it is only asked whether their sagas are
    there. runs: sagas of which another run is in memory.
    """

    sagas: _Memories = field(default_factory=dict)
    starts: _Memories = field(default_factory=dict)
    runs: dict[SagaKey, ShardMemory] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return not (self.sagas or self.starts or self.runs)


@dataclass(slots=True)
class Batch:
    """For one use. ids, until: see `Starts`."""

    database: Database
    loading: Loading
    memories: Mapping[Tenure, ShardMemory]
    decisions: Decisions
    partitions: int
    ids: Callable[[], UUID]
    until: int
    present: Present = field(default_factory=Present)
    pace: Pace = field(default_factory=Pace)
    intake: Intake = field(init=False)
    _presumed: _Memories = field(default_factory=dict)
    """Ids that are started, of which nothing is in memory, and that nothing else of the turn is for. Most are new, so
    that is presumed, and the statement that makes them finds out (docs/decisions/0017)."""
    _ended_losses: list[ShardMemory] = field(default_factory=list)
    _gathered: Gathered = ()
    _begun: Gathered = ()
    """Of sagas that are presumed new."""
    _mark: Mark | None = None
    """Where their decisions begin; None without any."""
    _prepared: Prepared | None = None

    def __post_init__(self) -> None:
        reads = self.loading.reads
        self.intake = Intake(self.database, reads, self.partitions, self.decisions, self.pace)

    async def take_in(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        """All that is there for the sagas of these shards."""
        intake = self.intake
        await intake.notices(self.memories)
        for memory in self.memories.values():
            for saga, under_way in memory.replays.take_ready():
                self._came_back(memory, saga)
                intake.put_aside(memory, under_way.timers)
        for memory in self.memories.values():
            await intake.stored(memory)
        for tenure, records in work.items():
            await intake.records(self.memories[tenure], records)
        for memory in self.memories.values():
            intake.due_timers(memory)

    async def load(self) -> None:
        """The sagas of what was taken in are in memory afterwards, or on their way."""
        await self._finish_noticed()
        missing = self._missing()
        if not missing.is_nothing:
            await self._load(missing)

    async def _load(self, missing: _Missing) -> None:
        reads, read = self.loading.reads, self.database.read
        await self._look_for(missing.sagas.keys() | missing.starts.keys(), missing.starts)
        found = {row.key: row for id in missing.sagas if (row := self.present.rows.get(id)) is not None}
        runs = missing.runs | self._other_runs()
        if runs:
            found |= await read(partial(reads.runs, keys=list(runs)))
        found = await self._without_copies(found)
        histories: dict[SagaKey, list[Row]] = {}
        if found:
            most = self.loading.limits.short_history
            histories = await read(partial(reads.histories, keys=list(found), most=most))
        found = self.loading.with_history(found.values(), histories)
        await self._replay({key: row for key, row in found.items() if key not in runs}, histories, missing.sagas)
        for key, memory in runs.items():
            if key in found:
                memory.know_concerns(found[key])
                is_read = len(histories[key]) < self.loading.limits.short_history
                await self._replay_whole(memory, ReplayUnderWay(found[key], histories[key], is_read))

    async def _look_for(self, ids: Set[SagaId], starts: Mapping[SagaId, ShardMemory]) -> None:
        """Whether there are sagas of these ids, or were. starts: ids of starts among them, that are not in memory."""
        if not ids:
            return
        reads, present = self.loading.reads, self.present
        present.rows |= await self.database.read(partial(reads.sagas, ids=ids))
        if unknown := ids - present.rows.keys():
            present.removed |= await self.database.read(partial(reads.started_ids, ids=unknown))
        for id, memory in starts.items():
            if id in present.rows or id in present.removed:
                memory.starts_known_at = self.decisions.now

    async def _without_copies(self, found: dict[SagaKey, SagaRow]) -> dict[SagaKey, SagaRow]:
        """Those that are needed. A late reply to a closed saga replays it only where the rows of its step do not
        explain it: a copy costs the same however long the history is. One that keeps inputs undecided is replayed:
        its code may be back."""
        inputs = [input for _, input, _ in self.intake.incoming if isinstance(input, Input)]
        late: list[tuple[SagaKey, Input]] = []
        for input in inputs:
            if input.run is not None and input.kind in REPLIES:
                row = found.get(SagaKey(input.saga_id, input.run))
                if row is not None and row.is_closed and row.decided is None:
                    late.append((row.key, input))
        if not late:
            return found
        wanted = [(key, input.step) for key, input in late]
        rows = await self.database.read(partial(self.loading.reads.steps, wanted=wanted))
        denied = self.present.denied
        for (key, input), of_step in zip(late, rows, strict=True):
            reason = self.loading.denial(found[key], of_step, input) if of_step else None
            if reason is not None:
                denied[id(input)] = reason
        needed = {(one.saga_id, one.run or self.present.run(one.saga_id)) for one in inputs if id(one) not in denied}
        answered = {key for key, _ in late}
        return {key: row for key, row in found.items() if key not in answered or key in needed}

    def _missing(self) -> _Missing:
        """One walk for nearly all turns, in which every saga is in memory, or just begins: see `_presumed`."""
        missing = _Missing()
        new: _Memories = {}
        for memory, input, record in self.intake.incoming:
            saga = memory.saga(input.saga_id)
            if saga is not None:
                self.present.know(saga)
            else:
                saga = self.present.by_id.get(input.saga_id)
            if saga is not None:
                if isinstance(input, Input) and input.run is not None and input.run != saga.state.run:
                    missing.runs[SagaKey(input.saga_id, input.run)] = memory
            elif memory.replays.of(input.saga_id) is not None:
                continue
            elif not isinstance(input, Request):
                missing.sagas[input.saga_id] = memory
            elif record is not None and self._is_to_be_looked_for(memory, record):
                missing.starts[input.saga_id] = memory
            else:
                new[input.saga_id] = memory
        for id in missing.sagas:
            missing.starts.pop(id, None)
        known = missing.sagas.keys() | missing.starts.keys()
        self._presumed = {id: memory for id, memory in new.items() if id not in known}
        return missing

    def _is_to_be_looked_for(self, memory: ShardMemory, start: Record) -> bool:
        """Starts that are known have come lately; or one that is not known would be refused (H2)."""
        return memory.looks_for_starts(self.decisions.now) or may_be_forgotten(memory.tenure, start)

    def _other_runs(self) -> dict[SagaKey, ShardMemory]:
        """Inputs for another run than the current one of their id."""
        found: dict[SagaKey, ShardMemory] = {}
        for memory, input, _ in self.intake.incoming:
            if isinstance(input, Input) and input.run is not None:
                current = self.present.run(input.saga_id)
                if current is not None and current != input.run:
                    found[SagaKey(input.saga_id, input.run)] = memory
        return found

    async def _replay(
        self,
        found: Mapping[SagaKey, SagaRow],
        histories: Mapping[SagaKey, list[Row]],
        memories: Mapping[SagaId, ShardMemory],
    ) -> None:
        """The short ones now, as many as fit into a turn; the others behind the turns."""
        limits = self.loading.limits
        room = limits.rows_within_turn
        for key, row in found.items():
            memory, history = memories[key.id], histories[key]
            memory.know_concerns(row)
            room -= len(history)
            is_read = len(history) < limits.short_history
            if (is_read and room >= 0) or row.id in self.intake.noticed:
                await self._replay_whole(memory, ReplayUnderWay(row, history, is_read))
            else:
                memory.replays.begin(row, history, is_read=is_read)

    async def _finish_noticed(self) -> None:
        """What is parked or released is told in this very turn, or never. That is rare, and may take its time."""
        if not any(memory.replays.under_way for memory in self.memories.values()):
            return
        for memory, input, _ in [*self.intake.incoming]:
            if isinstance(input, Input) and input.kind is Kind.NOTICE:
                one = memory.replays.finish_now(input.saga_id)
                if one is not None:
                    await self._replay_whole(memory, one)
                    self.intake.put_aside(memory, one.timers)

    async def _replay_whole(self, memory: ShardMemory, one: ReplayUnderWay) -> None:
        """Within this turn, however long it is."""
        limits, now = self.loading.limits, self.decisions.now
        while not one.is_read:
            await self.database.read(partial(one.read_on, reads=self.loading.reads, most=limits.page))
        replay = one.replay or self.loading.replay(one.row, one.rows, now=now)
        while not replay.go_on(limits.portion):
            if self.pace.is_out_of_breath:
                await self.pace.breathe()
        self._came_back(memory, replay.saga)

    def _came_back(self, memory: ShardMemory, saga: Saga) -> None:
        """From the store, with what follows from that it was not in memory."""
        state = saga.state
        current = self.present.run(state.id)
        if current is None or current == state.run:
            self.present.know(saga)
        else:
            self.present.know_run(saga)
        self.decisions.touch(saga, memory)
        if memory.lost_records is not None and not (state.blocked or state.is_closed):
            self._after_loss(saga, memory, memory.lost_records)

    def _after_loss(self, saga: Saga, memory: ShardMemory, topics: Sequence[str]) -> None:
        """The bus has lost what was sent, and perhaps what was to be read (S6)."""
        if topics:
            words = f"records of {', '.join(topics)} were removed by retention before they were read"
            lost = Input(
                saga.state.id, None, Kind.NOTICE, name=ConcernKind.RECORDS_LOST, ref=",".join(sorted(topics)),
                payload=words.encode(),
            )  # fmt: skip
            self.decisions.take(saga, memory, lost)
        saga.resend_outstanding(now=self.decisions.now)

    async def decide(self) -> None:
        """Input by input; but for starts of sagas that are presumed new, which `prepare` decides."""
        deliver, start = Delivery(self.decisions, self.present).deliver, self._starts().take
        presumed, pace = self._presumed, self.pace
        for number, (memory, input, record) in enumerate(self.intake.incoming):
            if not number % LOOK_EVERY and pace.is_out_of_breath:
                await pace.breathe()
            if not isinstance(input, Request):
                deliver(memory, input, record)
            elif record is not None and input.saga_id not in presumed:
                start(memory, input, record)

    async def _begin_presumed(self) -> Gathered:
        """Nothing else of the turn has to do with these ids."""
        starts = self._starts()
        ours = [one for one in self.intake.incoming if one[1].saga_id in self._presumed]
        for number, (memory, input, record) in enumerate(ours):
            if not number % LOOK_EVERY and self.pace.is_out_of_breath:
                await self.pace.breathe()
            if isinstance(input, Request) and record is not None:
                starts.take(memory, input, record)
        return self.decisions.gather()

    def _starts(self) -> Starts:
        return Starts(self.decisions, self.present, self.loading, self.ids, self.until)

    async def prepare(self) -> None:
        """What `commit` writes is decided and encoded: nothing is left to be computed while its transaction waits."""
        decisions = self.decisions
        self._gathered = decisions.gather()
        self._ended_losses = [memory for memory in self.memories.values() if memory.has_gone_through_all]
        decisions.writes.ended_losses += [memory.tenure.shard for memory in self._ended_losses]
        if self._presumed:
            self._mark = decisions.mark()
            self._begun = await self._begin_presumed()
            decisions.writes.presumed_new += self._presumed
        self._prepared = self._encoded()

    async def commit(self, store: Store) -> Gathered:
        """All of it in one transaction. Raises what the database raises; nothing may be remembered then."""
        try:
            await self._write(store)
        except SagaExists:
            if self._mark is None:
                raise
            await self._decide_again(self._mark)
            await self._write(store)
        self.decisions.turn.committed()
        return [*self._gathered, *self._begun]

    async def _decide_again(self, before: Mark) -> None:
        """A saga that was presumed new is not, and nothing was written: all of those are looked for, and decided upon
        once more. What the first time has left in memory is taken back."""
        presumed, self._mark = self._presumed, None
        self.decisions.back_to(before)
        self.present.forget(presumed)
        await self._look_for(presumed.keys(), presumed)
        self._begun = await self._begin_presumed()
        self._prepared = self._encoded()

    def _encoded(self) -> Prepared:
        turn, writes = self.decisions.turn, self.decisions.writes
        return SmallTurn.of(turn, writes) or (turn.encoded(), writes.encoded())

    async def _write(self, store: Store) -> None:
        assert self._prepared is not None
        if isinstance(self._prepared, SmallTurn):
            await self.database.write(partial(self._prepared.write, schema=store.schema))
            return
        rows, encoded = self._prepared
        async with self.database.transaction() as connection:
            await self.decisions.turn.write(connection, rows)
            await store.write(connection, encoded)

    def forget_losses(self) -> None:
        """Those that are made good, which is committed."""
        for memory in self._ended_losses:
            memory.lost_records = None
