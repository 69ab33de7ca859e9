"""One turn's deciding: arrivals are offered to their sagas one by one, and all that follows is gathered.

Nothing is awaited here and nothing is written: the sagas are in memory, and `gathered` is what one transaction takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from sagabus.contracts import canonical, codec
from sagabus.contracts.envelope import Record, microseconds, pack_headers, source_of
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType, rejection_message
from sagabus.contracts.names import RunId, SagaId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED, FOREIGN, NO_USE
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.reading import read
from sagabus.coordinator.store.rows import EarlyRequest, SagaKey, SagaRow, StartedId, TimerRef
from sagabus.coordinator.store.write import Writes
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn

EARLY_LIMIT: Final = 100
"""Requests kept for an id that has not been started; producers overtake each other, but not without end."""

EARLY_MICROSECONDS: Final = 3_600 * 1_000_000
"""How long they are kept."""

APPLIED: Final = "applied"
NO_SAGA: Final = "reply.no_saga"
REQUEST_NO_SAGA: Final = "request.no_saga"
PURGED: Final = "reply.purged"
SAME_START: Final = "start.same"
OTHER_INPUT: Final = "start.other_input"
START_EXPIRED: Final = "start.expired"
EARLY_KEPT: Final = "early.kept"
EARLY_TOO_MANY: Final = "early.too_many"
EARLY_EXPIRED: Final = "early.expired"
_EXPIRED: Final = (
    "this start is older than what is remembered of started ids, so it may be a copy of one that was carried out; "
    "look for its effects, then start it under another id"
)
_DEAD: Final = {
    CLOSED: "the saga has ended",
    NO_USE: "there is nothing to retry or to skip: look at the saga's steps, `sagabus show`",
    FOREIGN: "the reply came on another service's topic; only a step's own service may answer for it",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """An input on its way to its saga, with the record it came in; a timer has none. kept: it came before its saga."""

    memory: ShardMemory
    input: Input
    record: Record | None = None
    kept: bool = False


@dataclass(slots=True)
class Deciding:
    """Of one turn. ids: for new runs. by_key, by_id: all sagas that the turn may need; of an id the current one.

    counts: each record of the turn once, under one of `contracts.reasons`. kept_counts: what became of requests that an
    earlier turn, or this one, has counted as kept. started: ids whose sagas retention has removed (H2); until: for how
    long one is remembered that is started again now, in microseconds since 1970.
    """

    turn: Turn
    loading: Loading
    now: int
    ids: Callable[[], UUID]
    by_id: dict[SagaId, Saga] = field(default_factory=dict)
    by_key: dict[SagaKey, Saga] = field(default_factory=dict)
    started: dict[SagaId, StartedId] = field(default_factory=dict)
    until: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kept_counts: Counter[str] = field(default_factory=Counter)
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
        removed = self.started.get(request.saga_id) if existing is None else None
        before = existing.state.input_hash if existing else removed.input_hash if removed else None
        if before is None and _may_be_forgotten(memory.tenure, record):
            self._reject_start(memory.tenure, request, record, START_EXPIRED, _EXPIRED)
        elif before is None:
            self.counts[APPLIED] += 1
            self._begin(memory, request, definition, digest)
        elif canonical.same_input(before, digest):
            self.counts[SAME_START] += 1
            if removed and removed.until < self.until:  # so that this copy is known again as long as it can be read
                self.writes.started_ids.append(replace(removed, until=self.until))
        else:
            sentence = f"saga {request.saga_id} was started with another input; choose another id"
            self._reject_start(memory.tenure, request, record, OTHER_INPUT, sentence)

    def _begin(
        self, memory: ShardMemory, request: Request, definition: SagaDefinition[Any, Any] | None, digest: bytes
    ) -> None:
        state = self.loading.state(
            request.saga_id, RunId(self.ids().hex[:12]), memory.tenure.shard, definition=request.name,
            version=definition.version if definition else 0, trace=pack_headers(request.trace),
        )  # fmt: skip
        state.input_hash = digest
        saga = Saga(state, definition)
        self.known(saga)
        self._new.add(id(saga))
        self._take(saga, memory, Input(
            request.saga_id, state.run, Kind.STARTED, name=request.name, ref=request.message_id, payload=request.body,
            cause=request.message_id,
        ))  # fmt: skip
        for early in memory.early.pop(request.saga_id, ()):
            self.writes.early_removed.append(early.ref)
            self._offer_early(memory, early)

    def _offer_early(self, memory: ShardMemory, early: EarlyRequest) -> None:
        try:
            given = read(early, self.loading.namespace)
        except MessageInvalid as error:  # an older release took it
            self.dead_letter(memory.tenure, early, error.reason, error.message, kept=True)
            return
        assert isinstance(given, Input), "a start is never kept as early"
        self.offer(Offer(memory, given, early, kept=True))

    def _reject_start(self, tenure: Tenure, request: Request, record: Record, reason: str, message: str) -> None:
        self.dead_letter(tenure, record, reason, message)
        self._reject(tenure, LifecycleType.START_REJECTED, request.saga_id, request.message_id, reason, message)

    def _reject(
        self, tenure: Tenure, type: LifecycleType, saga_id: SagaId, cause: str, code: str, message: str
    ) -> None:
        body = codec.encode_value({"saga_id": saga_id, "error": {"code": code, "message": message}})
        self.turn.send(tenure, rejection_message(
            namespace=self.loading.namespace, source=source_of(self.loading.namespace), type=type, saga_id=saga_id,
            body=body, time=self.now, cause=cause, shard=tenure.shard,
        ))  # fmt: skip

    def dead_letter(self, tenure: Tenure, record: Record, reason: str, message: str, *, kept: bool = False) -> None:
        """Keep it for a person. kept: it was counted as kept before."""
        (self.kept_counts if kept else self.counts)[reason] += 1
        self.turn.dead_letter(tenure, record, reason=reason, message=message)

    def offer(self, offer: Offer) -> None:
        """An input for a saga that is there, or not yet."""
        given, id, run = offer.input, offer.input.saga_id, offer.input.run
        saga = self.by_id.get(id) if run is None else self.by_key.get(SagaKey(id, run))
        if saga is None:
            self._without_saga(offer)
            return
        reason = self._take(saga, offer.memory, given)
        if offer.record is None:
            return
        if reason in _DEAD:
            self.dead_letter(offer.memory.tenure, offer.record, reason, _DEAD[reason], kept=offer.kept)
            return
        if reason == CANCEL_REJECTED:
            self._reject_cancel(offer.memory.tenure, given, kept=offer.kept)
            return
        (self.kept_counts if offer.kept else self.counts)[reason or APPLIED] += 1

    def _take(self, saga: Saga, memory: ShardMemory, given: Input) -> str | None:
        self.touch(saga, memory)
        return saga.take(given, now=self.now)

    def touch(self, saga: Saga, memory: ShardMemory) -> None:
        """Its effects are gathered at the end of the turn."""
        self._touched[id(saga)] = saga, memory

    def _without_saga(self, offer: Offer) -> None:
        kind, record = offer.input.kind, offer.record
        if record is None:
            return  # a timer of a saga that is gone
        removed = self.started.get(offer.input.saga_id)
        if removed is not None and offer.input.run in (None, removed.run):
            self._after_removal(offer, record, kind)
            return
        if kind in (Kind.EVENT, Kind.CANCEL):
            self._keep_early(offer, record)
            return
        if kind is Kind.OPERATOR:
            message = f"no saga {offer.input.saga_id} is known here"
            self.dead_letter(offer.memory.tenure, record, REQUEST_NO_SAGA, message)
            return
        message = f"no saga {offer.input.saga_id} with run {offer.input.run} is known here"
        self.dead_letter(offer.memory.tenure, record, NO_SAGA, message)

    def _after_removal(self, offer: Offer, record: Record, kind: Kind) -> None:
        """Retention has removed this saga. No history is lost, so nobody is called (U9).

        What a closed saga would have said to a copy cannot be told any more from what it would have shown to a person,
        a step that succeeded after its undo: therefore replies are kept as dead letters.
        """
        tenure, given = offer.memory.tenure, offer.input
        if kind in (Kind.EVENT, Kind.OPERATOR):
            self.dead_letter(tenure, record, CLOSED, _DEAD[CLOSED])
        elif kind is Kind.CANCEL:
            self._reject_cancel(tenure, given)
        else:
            message = f"saga {given.saga_id} ended, and was removed by retention (SAGABUS_RETENTION_SAGAS)"
            self.dead_letter(tenure, record, PURGED, message)

    def _reject_cancel(self, tenure: Tenure, given: Input, *, kept: bool = False) -> None:
        (self.kept_counts if kept else self.counts)[CANCEL_REJECTED] += 1
        message = "the saga has ended, or is being undone already"
        type = LifecycleType.CANCEL_REJECTED
        self._reject(tenure, type, given.saga_id, given.cause, CANCEL_REJECTED, message)

    def _keep_early(self, offer: Offer, record: Record) -> None:
        memory, saga_id = offer.memory, offer.input.saga_id
        if len(memory.early.get(saga_id, ())) >= EARLY_LIMIT:
            message = f"{EARLY_LIMIT} requests are kept for {saga_id} already, and nobody has started it"
            self.dead_letter(memory.tenure, record, EARLY_TOO_MANY, message)
            return
        self.counts[EARLY_KEPT] += 1
        number = memory.last_early + 1
        early = EarlyRequest.of(record, shard=memory.tenure.shard, saga_id=saga_id, number=number, at=self.now)
        memory.know_early(early)
        self.writes.early_added.append(early)

    def expire_early(self, memory: ShardMemory) -> None:
        """Requests for an id that nobody has started in time are dead letters."""
        for early in memory.outdated_early(self.now - EARLY_MICROSECONDS):
            message = f"saga {early.saga_id} was not started within an hour"
            self.dead_letter(memory.tenure, early, EARLY_EXPIRED, message, kept=True)
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


def _may_be_forgotten(tenure: Tenure, record: Record) -> bool:
    """H2. An unknown start from before that may be a copy of one whose id was forgotten. 0: its time is not known."""
    known_from = tenure.pruned_before
    return known_from is not None and 0 < record.timestamp * 1_000 < microseconds(known_from)


def _input_hash(definition: SagaDefinition[Any, Any] | None, request: Request) -> bytes:
    if definition is None:  # it waits on attention; its input is read when a coordinator has the definition
        return canonical.digests(request.body, None)
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
