"""Lifecycle events: what became of a saga, for the world, on `<namespace>.events`.

Numbered from 1 without gaps by `ce_sequence`: twelve digits, zero-padded, since the CloudEvents sequence extension
sorts as text.
De-duplicate by saga id, run and sequence.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from pydantic import BaseModel

from sagabus.contracts import names
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import OWN_HEADERS, Headers, Message, common_bytes, own_bytes, own_pieces, trace_bytes
from sagabus.contracts.event_type import Event
from sagabus.contracts.record_bytes import header, record_of


class LifecycleType(StrEnum):
    STARTED = "sagabus.saga.started"
    COMPLETED = "sagabus.saga.completed"
    COMPENSATED = "sagabus.saga.compensated"
    CANCELLED = "sagabus.saga.cancelled"
    TERMINATED = "sagabus.saga.terminated"
    ATTENTION = "sagabus.saga.attention"
    ATTENTION_CLEARED = "sagabus.saga.attention_cleared"
    ATTRIBUTES = "sagabus.saga.attributes"
    """The saga's code has set attributes: at most one for each time that it comes to rest."""
    PAUSED = "sagabus.saga.paused"
    RESUMED = "sagabus.saga.resumed"
    STEP_COMPLETED = "sagabus.step.completed"
    STEP_FAILED = "sagabus.step.failed"
    COMPENSATION_COMPLETED = "sagabus.compensation.completed"
    COMPENSATION_FAILED = "sagabus.compensation.failed"
    COMPENSATION_SKIPPED = "sagabus.compensation.skipped"
    REQUEST_APPLIED = "sagabus.request.applied"
    """A verb has taken effect."""
    REQUEST_REFUSED = "sagabus.request.refused"
    """A verb has changed nothing, and why. Of a cancel it is CANCEL_REJECTED."""
    START_REJECTED = "sagabus.start.rejected"
    CANCEL_REJECTED = "sagabus.cancel.rejected"


def lifecycle_message(
    addresses: Addresses,
    type: LifecycleType,
    body: bytes,
    *,
    sequence: int,
    time: int,
    cause: str | None,
    trace: Headers = (),
) -> Message:
    """One numbered lifecycle event of a saga."""
    a = addresses
    id, count = f"{a.saga_id}:{a.run}:event:{sequence}", OWN_HEADERS + 1
    if cause is None:
        own, count = own_bytes(id, type, time, cause), count - 1
    else:
        own = own_pieces(id, type, time, cause)
    own.append(_sequence(sequence))
    if trace:
        own += trace_bytes(trace)
        count += len(trace)
    return Message(_topic(a.namespace), a.saga_id, a.shard, a.prefix.record(body, count, own))


@lru_cache(maxsize=1024)
def _sequence(sequence: int) -> bytes:
    return header("ce_sequence", b"%012d" % sequence)


_topic: Final = lru_cache(maxsize=64)(names.events_topic)


def rejection_message(
    *, namespace: str, source: bytes, type: LifecycleType, saga_id: str, body: bytes, time: int, cause: str, shard: int
) -> Message:
    """A request that had no effect. Without `ce_sequence`: match it by `ce_causationid`."""
    headers = (*common_bytes(source, saga_id), *own_bytes(f"{cause}:rejected", type, time, cause))
    return Message(names.events_topic(namespace), saga_id, shard, record_of(saga_id.encode(), body, headers))


def domain_event_message(
    event: Event[BaseModel], body: bytes, *, id: str, topic: str, source: bytes, saga_id: str, cause: str | None,
    time: int, key: str | None = None, trace: Headers = (),
) -> Message:  # fmt: skip
    """A domain event. Its key is the one given, else the declared field's value, else the saga id."""
    chosen = key or event.key() or saga_id
    own = own_bytes(id, event.type.name, time, cause)
    headers = (*common_bytes(source, saga_id), *own, *trace_bytes(trace))
    return Message(topic, saga_id, None, record_of(chosen.encode(), body, headers))
