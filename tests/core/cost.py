"""Sagas of any size without the checks of `Drive`, which look at all of a saga after each input; and what they cost.

Processor time is compared with processor time of the same test, as ratios with a wide margin: what is looked for is a
cost that grows with the saga, which is not a matter of some percent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sagabus.contracts import codec
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.replay import Replay, restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.definition import SagaDefinition
from tests.core.restored import T0
from tests.core.wire import an_input, failure

Definition = SagaDefinition[Any, Any]
DONE = b'{"ref":"r"}'


class Plain:
    """One saga, each input a turn."""

    def __init__(self, code: Definition) -> None:
        self.code = code
        self.saga = Saga(self.fresh(), code)
        self.rows: list[Row] = []
        self.logged: list[str] = []
        self.now = T0
        self.give(Kind.STARTED, name="saga", ref="start", payload=b'{"type":"start","saga":"saga","input":{}}')

    @staticmethod
    def fresh() -> SagaState:
        addresses = Addresses("sagabus", source_of("sagabus"), SagaId("O-1"), RunId("r1"), 3)
        return SagaState(addresses, definition="saga", version=1)

    @property
    def state(self) -> SagaState:
        return self.saga.state

    def give(self, kind: Kind, step: int = 0, attempt: int = 0, **rest: Any) -> str | None:
        self.now += 1
        word = self.saga.take(an_input(kind, step, attempt, **rest), now=self.now)
        effects = self.saga.drain()
        self.logged += effects.log
        self.rows += [replace(row, sequence=effects.sequence) for row in effects.rows]
        return word

    def completed(self, *steps: int) -> None:
        for step in steps:
            assert self.give(Kind.STEP_COMPLETED, step, 1, name="stock", ref=f"r{step}", payload=DONE) is None

    def refused(self, step: int) -> None:
        assert self.give(Kind.STEP_REFUSED, step, 1, name="stock", payload=failure("no")) is None

    def undone(self, *steps: int) -> None:
        for step in steps:
            assert self.give(Kind.UNDO_COMPLETED, step, 1, name="stock", payload=b"null") is None

    def never(self, *steps: int) -> None:
        for step in steps:
            assert self.give(Kind.SETTLE_NEVER, step, 1, name="stock", payload=b"null") is None

    def event(self, *numbers: int) -> None:
        for number in numbers:
            body = codec.encode_value({"type": "event", "name": "payment.confirmed", "data": {"amount": number}})
            assert self.give(Kind.EVENT, name="payment.confirmed", ref=str(number), payload=body) is None

    def cancel(self) -> None:
        assert self.give(Kind.CANCEL, ref="cancel", payload=b"") is None

    def replay(self) -> Replay:
        state = self.fresh()
        state.standing = self.state.standing
        return Replay(state, self.code, self.rows, status=self.state.status, now=self.now)

    def restored(self) -> Saga:
        state = self.fresh()
        state.standing = self.state.standing
        return restore(state, self.code, self.rows, status=SagaStatus(self.state.status), now=self.now)
