"""The rows of the coordinator's tables as values. What the shell decides upon, and what comes back after a restart.

Times are microseconds since 1970, payloads are bytes as they came. Nothing here knows SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sagabus.contracts.envelope import Headers, Record, pack_headers, unpack_headers
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.recorded import Head
from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus


class SagaKey(NamedTuple):
    """One run of one saga."""

    id: SagaId
    run: RunId


class SagaRef(NamedTuple):
    """One run of one saga, and the shard that its rows belong to."""

    shard: int
    id: SagaId
    run: RunId


class TimerRef(NamedTuple):
    """Which timer. kind and number are the core's: a timer of that kind exists once for each number."""

    shard: int
    id: SagaId
    run: RunId
    kind: str
    number: int


class EarlyRef(NamedTuple):
    """Which early request."""

    shard: int
    saga_id: SagaId
    number: int


@dataclass(slots=True, unsafe_hash=True)
class SagaRow:
    """A saga as it stands. Its input is the payload of the first row of its history. Never changed, and not frozen for
    the same reason as `history.Row`.

    sequence: of its last lifecycle event. last_now: never runs backwards (H3). attributes: a JSON object. decided:
    history rows after this one are inputs that were taken but not decided upon; None where there are none.
    attention: the words of the latest concern. concerns: all of them, JSON (`core.saga.concern`); None in rows of older
    releases. trace: packed headers. events: JSON (`core.saga.events`); None where it has to do with none.
    """

    id: SagaId
    run: RunId
    definition: str
    version: int
    fingerprint: str
    status: SagaStatus
    shard: int
    sequence: int
    last_now: int
    input_hash: bytes
    started_at: int
    result: bytes | None = None
    error: bytes | None = None
    attributes: bytes | None = None
    parent_id: SagaId | None = None
    parent_run: RunId | None = None
    parent_step: int | None = None
    parent_shard: int | None = None
    attention: str | None = None
    concerns: bytes | None = None
    decided: int | None = None
    paused: bool = False
    trace: bytes = b""
    closed_at: int | None = None
    events: bytes | None = None

    @property
    def key(self) -> SagaKey:
        return SagaKey(self.id, self.run)

    @property
    def is_closed(self) -> bool:
        return self.status in CLOSED


def head_of(row: SagaRow) -> Head:
    """Of a recorded history."""
    return Head(
        saga=row.definition, version=row.version, id=row.id, run=row.run, fingerprint=row.fingerprint,
        status=SagaStatus(row.status), started_at=row.started_at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimerRow:
    """A timer that fires at `due`."""

    shard: int
    id: SagaId
    run: RunId
    kind: str
    number: int
    due: int

    @property
    def ref(self) -> TimerRef:
        return TimerRef(self.shard, self.id, self.run, self.kind, self.number)

    @property
    def cursor(self) -> TimerCursor:
        return TimerCursor(self.due, self.id, self.run, self.kind, self.number)


class TimerCursor(NamedTuple):
    """Where a timer stands in the order in which timers fire (H3): a page of them begins after the last one before."""

    due: int
    id: str
    run: str
    kind: str
    number: int


class EarlyCount(NamedTuple):
    """The early requests of one saga id. first_at: when the oldest was taken. started: whether its saga is there."""

    saga_id: SagaId
    kept: int
    last_number: int
    first_at: int
    started: bool


@dataclass(frozen=True, slots=True)
class EarlyRequest:
    """A record that came before its saga was there, kept as it was read: it can be taken in as the record that it was.

    Nobody has started the saga yet, or its long history is being replayed. number: gives the order, and with the saga
    id the identity. at: when it was taken.
    """

    shard: int
    saga_id: SagaId
    number: int
    at: int
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    packed_headers: bytes
    value: bytes | None

    @classmethod
    def of(cls, record: Record, *, shard: int, saga_id: SagaId, number: int, at: int) -> EarlyRequest:
        r = record
        headers = pack_headers(r.headers)
        return cls(shard, saga_id, number, at, r.topic, r.partition, r.offset, r.timestamp, r.key, headers, r.value)

    @property
    def headers(self) -> Headers:
        return unpack_headers(self.packed_headers)

    @property
    def ref(self) -> EarlyRef:
        return EarlyRef(self.shard, self.saga_id, self.number)


@dataclass(frozen=True, slots=True)
class StartedId:
    """A saga id that has been used, and for which input: remembered beyond the saga's row, until `until` (H2).

    Written when the saga's row is removed. until: that moment, or that of the last equal start since, and as long
    again as starts are remembered.
    """

    id: SagaId
    run: RunId
    input_hash: bytes
    until: int
    shard: int


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """Which process has a shard, and which definitions it runs: what it lacks can be named where its sagas wait.

    definitions: JSON, a list of {"name": …, "version": …}. instance: of the settings; empty for a dynamic member.
    """

    shard: int
    host: str
    process: int
    instance: str
    definitions: bytes
