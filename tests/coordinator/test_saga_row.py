"""A saga's row says what its state says: each column its own."""

from __future__ import annotations

from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import pack_headers, source_of
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, concerns_json
from sagabus.coordinator.core.saga.events import AwaitedEvent, Events, events_json
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.shard.decisions import saga_row
from sagabus.coordinator.store.rows import SagaRow

TRACE = (("traceparent", b"00-1-2-03"),)
EVENTS = Events(9, (AwaitedEvent("paid", 7),))


def state_of() -> SagaState:
    addresses = Addresses("shop", source_of("shop"), SagaId("ORD-1"), RunId("abc"), 5)
    state = SagaState(addresses, definition="order", version=3, trace=TRACE)
    state.input_hash, state.sequence, state.now, state.started_at = b"hash", 11, 22, 33
    return state


def test_every_column_has_what_the_state_says() -> None:
    state = state_of()
    state.stands(
        status=SagaStatus.COMPENSATED, closed_at=44, result=b"1", error=b"2", fingerprint="print", paused=True,
        events=EVENTS, attributes=b'{"stage":"new"}',
    )  # fmt: skip
    state.raise_concern(Concern(ConcernKind.STEP, 1), "look at it")
    state.blocked, state.sequence = 8, 11
    assert saga_row(Saga(state, None)) == SagaRow(
        id=SagaId("ORD-1"), run=RunId("abc"), definition="order", version=3, fingerprint="print",
        status=SagaStatus.COMPENSATED, shard=5, sequence=11, last_now=22, input_hash=b"hash", started_at=33,
        result=b"1", error=b"2", attributes=b'{"stage":"new"}', attention="look at it",
        concerns=concerns_json(state.concerns), decided=7, paused=True, trace=pack_headers(TRACE), closed_at=44,
        events=events_json(EVENTS),
    )  # fmt: skip


def test_what_most_sagas_have_not_is_left_out() -> None:
    state = state_of()
    state.trace = ()
    row = saga_row(Saga(state, None))
    assert (row.attention, row.concerns, row.decided, row.trace) == (None, None, None, b"")
    assert (row.events, row.attributes) == (None, None)
