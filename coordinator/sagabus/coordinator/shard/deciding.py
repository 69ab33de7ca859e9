"""One turn's deciding: arrivals are offered to their sagas one by one, and all that follows is gathered.

Nothing is awaited here and nothing is written: the sagas are in memory, and `gathered` is what one transaction takes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from sagabus.contracts import codec
from sagabus.contracts.envelope import Record, pack_headers, source_of
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType, rejection_message
from sagabus.contracts.names import RunId, SagaId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.decide import Saga
from sagabus.coordinator.core.effects import IN_MEMORY, Effects
from sagabus.coordinator.core.history import Arrival, Kind
from sagabus.coordinator.core.objection import CANCEL_REJECTED, CLOSED, FOREIGN
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.reading import Input, read
from sagabus.coordinator.store.rows import EarlyRequest, SagaKey, SagaRow, TimerRef
from sagabus.coordinator.store.write import Writes
from sagabus.messaging.tenure import Tenure
from sagabus.messaging.turn import Turn

EARLY_LIMIT: Final = 100
"""Requests kept for an id that has not been started; producers overtake each other, but not without end."""

EARLY_MICROSECONDS: Final = 3_600 * 1_000_000
"""How long they are kept."""

NO_SAGA: Final = "reply.no_saga"
SAME_START: Final = "start.same"
OTHER_INPUT: Final = "start.other_input"
_DEAD: Final = {
    CLOSED: "the saga has ended",
    FOREIGN: "the reply came on another service's topic; only a step's own service may answer for it",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """An input on its way to its saga, with the record it came in; a timer has none."""

    memory: ShardMemory
    input: Input
    record: Record | None = None


@dataclass(slots=True)
class Deciding:
    """Of one turn. sagas: all that the turn may need, by key and, the current one, by id."""

    turn: Turn
    loading: Loading
    now: int
    by_id: dict[SagaId, Saga] = field(default_factory=dict)
    by_key: dict[SagaKey, Saga] = field(default_factory=dict)
    started: dict[SagaId, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    writes: Writes = field(default_factory=Writes)
    _touched: dict[int, tuple[Saga, ShardMemory]] = field(default_factory=dict)
    _new: set[int] = field(default_factory=set)

    def known(self, saga: Saga) -> None:
        self.by_id[saga.state.id] = saga
        self.by_key[SagaKey(saga.state.id, saga.state.run)] = saga

    def start(self, memory: ShardMemory, request: Request, record: Record) -> None:
        """Every accepted start becomes one saga; an equal one is the same saga, another input is refused visibly."""
        definition = self.loading.definitions.newest(request.name)
        try:
            digest = _input_hash(definition, request)
        except MessageInvalid as error:
            self._reject_start(memory.tenure, request, record, error.reason, error.message)
            return
        existing = self.by_id.get(request.saga_id)
        before = existing.state.input_hash if existing else self.started.get(request.saga_id)
        if before is None:
            self._begin(memory, request, definition, digest)
        elif before == digest:
            self.counts[SAME_START] += 1
        else:
            sentence = f"saga {request.saga_id} was started with another input; choose another id"
            self._reject_start(memory.tenure, request, record, OTHER_INPUT, sentence)

    def _begin(
        self, memory: ShardMemory, request: Request, definition: SagaDefinition[Any, Any] | None, digest: bytes
    ) -> None:
        state = self.loading.state(
            request.saga_id, RunId(uuid4().hex[:12]), memory.tenure.shard, definition=request.name,
            version=definition.version if definition else 0, trace=pack_headers(request.trace),
        )  # fmt: skip
        state.input_hash = digest
        saga = Saga(state, definition)
        self.known(saga)
        self._new.add(id(saga))
        arrival = Arrival(Kind.STARTED, name=request.name, ref=request.message_id, payload=request.body)
        self._take(saga, memory, arrival, request.message_id)
        for early in memory.early.pop(request.saga_id, ()):
            self.writes.early_removed.append(early.ref)
            self._offer_early(memory, early)

    def _offer_early(self, memory: ShardMemory, early: EarlyRequest) -> None:
        given = read(early, self.loading.namespace)
        assert isinstance(given, Input), "a start is never kept as early"
        self.offer(Offer(memory, given, early))

    def _reject_start(self, tenure: Tenure, request: Request, record: Record, reason: str, message: str) -> None:
        self.counts[reason] += 1
        self.turn.dead_letter(tenure, record, reason=reason, message=message)
        self._reject(tenure, LifecycleType.START_REJECTED, request.saga_id, request.message_id, reason, message)

    def _reject(
        self, tenure: Tenure, type: LifecycleType, saga_id: SagaId, cause: str, code: str, message: str
    ) -> None:
        body = codec.encode_value({"saga_id": saga_id, "error": {"code": code, "message": message}})
        self.turn.send(tenure, rejection_message(
            namespace=self.loading.namespace, source=source_of(self.loading.namespace), type=type, saga_id=saga_id,
            body=body, time=self.now, cause=cause, shard=tenure.shard,
        ))  # fmt: skip

    def offer(self, offer: Offer) -> None:
        """An input for a saga that is there, or not yet."""
        given, id, run = offer.input, offer.input.saga_id, offer.input.run
        saga = self.by_id.get(id) if run is None else self.by_key.get(SagaKey(id, run))
        if saga is None:
            self._without_saga(offer)
            return
        reason = self._take(saga, offer.memory, given.arrival, given.cause)
        if reason is not None:
            self._objected(offer, reason)

    def _take(self, saga: Saga, memory: ShardMemory, arrival: Arrival, cause: str) -> str | None:
        self.touch(saga, memory)
        return saga.take(arrival, now=self.now, cause=cause)

    def touch(self, saga: Saga, memory: ShardMemory) -> None:
        """Its effects are gathered at the end of the turn."""
        self._touched[id(saga)] = saga, memory

    def _objected(self, offer: Offer, reason: str) -> None:
        self.counts[reason] += 1
        tenure, given = offer.memory.tenure, offer.input
        if reason == CANCEL_REJECTED:
            message = "the saga has ended, or is being undone already"
            self._reject(tenure, LifecycleType.CANCEL_REJECTED, given.saga_id, given.cause, reason, message)
        elif reason in _DEAD and offer.record is not None:
            self.turn.dead_letter(tenure, offer.record, reason=reason, message=_DEAD[reason])

    def _without_saga(self, offer: Offer) -> None:
        kind, record = offer.input.arrival.kind, offer.record
        if record is None:
            return  # a timer of a saga that is gone
        if kind in (Kind.EVENT, Kind.CANCEL):
            self._keep_early(offer, record)
            return
        self.counts[NO_SAGA] += 1
        message = f"no saga {offer.input.saga_id} with run {offer.input.run} is known here"
        self.turn.dead_letter(offer.memory.tenure, record, reason=NO_SAGA, message=message)

    def _keep_early(self, offer: Offer, record: Record) -> None:
        memory, saga_id = offer.memory, offer.input.saga_id
        if len(memory.early.get(saga_id, ())) >= EARLY_LIMIT:
            message = f"{EARLY_LIMIT} requests are kept for {saga_id} already, and nobody has started it"
            self.turn.dead_letter(memory.tenure, record, reason="early.too_many", message=message)
            return
        number = memory.last_early + 1
        early = EarlyRequest.of(record, shard=memory.tenure.shard, saga_id=saga_id, number=number, at=self.now)
        memory.know_early(early)
        self.writes.early_added.append(early)

    def expire_early(self, memory: ShardMemory) -> None:
        """Requests for an id that nobody has started in time are dead letters."""
        for early in memory.outdated_early(self.now - EARLY_MICROSECONDS):
            message = f"saga {early.saga_id} was not started within an hour"
            self.turn.dead_letter(memory.tenure, early, reason="early.expired", message=message)
            self.writes.early_removed.append(early.ref)

    def gather(self) -> Iterator[tuple[Saga, ShardMemory, Effects]]:
        """Put everything into `writes` and the turn; yields what memory notes after the commit."""
        for saga, memory in self._touched.values():
            effects = saga.drain()
            key = SagaKey(saga.state.id, saga.state.run)
            if effects.rows:
                self.writes.history.append((key, effects.rows, effects.sequence))
            for message in effects.messages:
                self.turn.send(memory.tenure, message)
            self._gather_timers(key, memory.tenure.shard, effects)
            if id(saga) in self._new:
                self.writes.new_sagas.append(saga_row(saga))
            elif effects.saga_changed:
                self.writes.changed_sagas.append(saga_row(saga))
            yield saga, memory, effects

    def _gather_timers(self, key: SagaKey, shard: int, effects: Effects) -> None:
        for timer in effects.timers_cleared:
            if timer.kind not in IN_MEMORY:
                self.writes.timers[TimerRef(shard, key.id, key.run, timer.kind, timer.number)] = None
        for timer, due in effects.timers_set.items():
            if timer.kind not in IN_MEMORY:
                self.writes.timers[TimerRef(shard, key.id, key.run, timer.kind, timer.number)] = due


def _input_hash(definition: SagaDefinition[Any, Any] | None, request: Request) -> bytes:
    if definition is None:  # it waits on attention; its input is read when a coordinator has the definition
        return hashlib.sha256(request.body).digest()
    return definition.input_hash(request.body)


def saga_row(saga: Saga) -> SagaRow:
    """The saga's row as of now."""
    state = saga.state
    return SagaRow(
        id=state.id, run=state.run, definition=state.definition, version=state.version, fingerprint=saga.fingerprint,
        status=state.status, shard=state.addresses.shard, sequence=state.sequence, last_now=state.now,
        input_hash=state.input_hash, started_at=state.started_at, result=state.result, error=state.error,
        attention=state.attention, decided=state.blocked - 1 if state.blocked else None,
        trace=pack_headers(state.trace), closed_at=state.closed_at,
    )  # fmt: skip
