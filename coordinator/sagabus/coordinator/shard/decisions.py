"""What one turn has decided, gathered for one transaction: rows of the store, messages, dead letters, counts.

Nothing is awaited here and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sagabus.contracts import codec
from sagabus.contracts.envelope import Record, pack_headers, source_of
from sagabus.contracts.lifecycle import LifecycleType, rejection_message
from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.concern import concerns_json
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects
from sagabus.coordinator.core.saga.events import events_json
from sagabus.coordinator.core.saga.history import Input
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.store.rows import EarlyRequest, SagaKey, SagaRef, SagaRow, TimerRef
from sagabus.coordinator.store.write import Writes
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn, TurnMark

APPLIED: Final = "applied"


class Mark(NamedTuple):
    """How much there was of each."""

    turn: TurnMark
    counts: Counter[str]
    history: int
    timers: int
    lengths: Sequence[int]


@dataclass(slots=True)
class Decisions:
    """Of one turn. now: its time, in microseconds since 1970."""

    turn: Turn
    namespace: str
    now: int
    counts: Counter[str] = field(default_factory=Counter)
    """Each new record of the turn once, under one of `contracts.reasons`."""
    kept_counts: Counter[str] = field(default_factory=Counter)
    """What became of records that an earlier turn, or this one, has counted as kept."""
    writes: Writes = field(default_factory=Writes)
    begun: list[tuple[Saga, ShardMemory]] = field(default_factory=list)
    """Sagas that did not exist before."""
    _touched: dict[Saga, ShardMemory] = field(default_factory=dict)
    _new: set[Saga] = field(default_factory=set)

    def take(self, saga: Saga, memory: ShardMemory, input: Input) -> str | None:
        """None if applied, else the reason code."""
        self._touched[saga] = memory
        return saga.take(input, now=self.now)

    def touch(self, saga: Saga, memory: ShardMemory) -> None:
        """Its effects are gathered at the end of the turn."""
        self._touched[saga] = memory

    def made(self, saga: Saga, memory: ShardMemory) -> None:
        """It did not exist before."""
        self.touch(saga, memory)
        self.begun.append((saga, memory))
        self._new.add(saga)

    def count(self, record: Record, reason: str) -> None:
        """What became of this record."""
        (self.kept_counts if isinstance(record, EarlyRequest) else self.counts)[reason] += 1

    def dead_letter(self, tenure: Tenure, record: Record, reason: str, message: str) -> None:
        """Keep it for an operator."""
        self.count(record, reason)
        self.turn.dead_letter(tenure, record, reason=reason, message=message)

    def reject(
        self, tenure: Tenure, type: LifecycleType, saga_id: SagaId, *, cause: str, code: str, message: str
    ) -> None:
        """Tell whoever asked. cause: the id of the request."""
        body = codec.encode_value({"saga_id": saga_id, "error": {"code": code, "message": message}})
        self.turn.send(tenure, rejection_message(
            namespace=self.namespace, source=source_of(self.namespace), type=type, saga_id=saga_id, body=body,
            time=self.now, cause=cause, shard=tenure.shard,
        ))  # fmt: skip

    def keep(self, memory: ShardMemory, id: SagaId, record: Record, reason: str, *, started: bool = False) -> None:
        """As an early request, until its saga can take it in. started: the saga exists."""
        self.counts[reason] += 1
        number = memory.early.add(id, at=self.now, started=started)
        shard = memory.tenure.shard
        self.writes.early_added.append(EarlyRequest.of(record, shard=shard, saga_id=id, number=number, at=self.now))

    def unkeep(self, memory: ShardMemory, early: EarlyRequest) -> None:
        """It is taken in, or a dead letter."""
        memory.early.remove(early.saga_id)
        self.writes.early_removed.append(early.ref)

    def mark(self) -> Mark:
        """Where they stand, all gathered: `back_to` takes back what is decided from here on."""
        lengths = [len(each) for each in self._grown_by_starts()]
        writes = self.writes
        return Mark(self.turn.mark(), self.counts.copy(), writes.history.mark(), len(writes.timers), lengths)

    def back_to(self, mark: Mark) -> None:
        """Of starts alone: they change no saga that was there. Those that they have begun are dropped (L4).

        A start lets grow only what is marked here and in `_grown_by_starts`. Timers of new sagas have new keys, so they
        are the last ones.
        """
        self.turn.back_to(mark.turn)
        self.counts = mark.counts.copy()
        self.writes.history.back_to(mark.history)
        while len(self.writes.timers) > mark.timers:
            self.writes.timers.popitem()
        for saga, _ in self.begun[mark.lengths[0] :]:
            saga.evict()
        for each, length in zip(self._grown_by_starts(), mark.lengths, strict=True):
            del each[length:]
        self._touched.clear()
        self._new = {saga for saga, _ in self.begun}

    def _grown_by_starts(self) -> tuple[list[Any], ...]:
        writes = self.writes
        return self.begun, writes.new_sagas, writes.presumed_new, writes.timers_dropped, writes.started_ids

    def gather(self) -> list[tuple[Saga, ShardMemory, Effects]]:
        """Put everything into `writes` and the turn; returns what memory notes after the commit.

        What is decided after it is for the next call.
        """
        touched, self._touched = self._touched, {}
        writes, new = self.writes, self._new
        gathered: list[tuple[Saga, ShardMemory, Effects]] = []
        for saga, memory in touched.items():
            effects, state = saga.drain(), saga.state
            if effects.rows:
                writes.history.add(SagaKey(state.id, state.run), effects.rows, effects.sequence)
            if effects.messages:
                self.turn.send_all(memory.tenure, effects.messages)
            if effects.timers_set or effects.timers_cleared or effects.timers_dropped:
                self._gather_timers(SagaRef(memory.tenure.shard, state.id, state.run), effects)
            if saga in new:
                writes.new_sagas.append(saga_row(saga))
            elif effects.saga_changed:
                writes.changed_sagas.append(saga_row(saga))
            gathered.append((saga, memory, effects))
        return gathered

    def _gather_timers(self, saga: SagaRef, effects: Effects) -> None:
        if effects.timers_dropped:
            self.writes.timers_dropped.append(saga)
        for kind, number in effects.timers_cleared:
            if kind not in IN_MEMORY:
                self.writes.timers[TimerRef(*saga, kind, number)] = None
        for (kind, number), due in effects.timers_set.items():
            if kind not in IN_MEMORY:
                self.writes.timers[TimerRef(*saga, kind, number)] = due


def saga_row(saga: Saga) -> SagaRow:
    """The saga's row as of now."""
    state, standing = saga.state, saga.state.standing
    row = SagaRow(  # in its order: by name it takes half as long again
        state.id, state.run, state.definition, state.version, standing.fingerprint, standing.status,
        state.addresses.shard, state.sequence, state.now, state.input_hash, state.started_at, standing.result,
        standing.error, standing.attributes, paused=standing.paused, closed_at=standing.closed_at,
        events=events_json(standing.events),
    )  # fmt: skip
    if standing.concerns:
        row.attention, row.concerns = state.attention, concerns_json(standing.concerns)
    if state.blocked:
        row.decided = state.blocked - 1
    if state.trace:
        row.trace = pack_headers(state.trace)
    return row
