"""One saga on the pure core, with a clock of its own: no bus, no database, no time that passes.

It is stored as tables would keep it, from its effects alone. So it can be restored from its rows at any time, and must
be the same then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import from_json

from sagabus.contracts import Activity, Event, codec, declared
from sagabus.contracts.commands import Addresses, CommandHead, read_command
from sagabus.contracts.envelope import Headers, Message, source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId, events_topic, new_saga_id, requests_topic
from sagabus.contracts.requests import start_body
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects, TimerKey
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.program import Code
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.steps import Steps
from sagabus.coordinator.definition import SagaDefinition
from sagabus.testing.asked import Asked, PublishedEvent, StartedSaga, TestedStep
from sagabus.testing.words import ReplayDiffers

T0: Final = 1_767_225_600_000_000
"""When a test begins, if it does not say: 2026-01-01T00:00:00Z."""

NAMESPACE: Final = "sagabus"
RUN: Final = RunId("test")


@dataclass(frozen=True, slots=True)
class _Record:
    """A message as it would be read."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """A copy of a command. asked: None for a settle, which asks whether the step happened."""

    head: CommandHead
    service: str
    contract: Activity[..., Any, Any]
    asked: Asked | None

    @property
    def name(self) -> str:
        """`step 2 (payment.charge)`, `the undo of step 2 (payment.charge)`."""
        step = f"step {self.head.step} ({self.contract.name})"
        return {CommandKind.DO: step, CommandKind.UNDO: f"the undo of {step}"}.get(
            self.head.kind, f"the settle of {step}"
        )


class SagaInMemory:
    """now: microseconds since 1970; whoever drives it moves it."""

    def __init__(self, definition: SagaDefinition[Any, Any], *, id: str, now: int = T0) -> None:
        self.definition = definition
        self.id = new_saga_id(id)
        self.now = now
        self.rows: list[Row] = []
        self.timers: dict[TimerKey, int] = {}
        self.unread: list[Sent] = []
        """Commands that nobody has looked at yet."""
        self.published: list[PublishedEvent] = []
        self.started: list[StartedSaga] = []
        self.raised: BaseException | None = None
        """What has ended the saga's code."""
        self._code: Code = definition
        self._steps = Steps()
        self._standing: Standing
        self._saga = Saga(self._fresh(), self._code, contracts=declared.activities)

    @property
    def state(self) -> SagaState:
        return self._saga.state

    def start(self, input: BaseModel) -> str | None:
        body = start_body(self.definition.of(input))
        return self.take(self.input(Kind.STARTED, name=self.definition.name, ref="start", payload=body))

    def input(
        self,
        kind: Kind,
        step: int = 0,
        attempt: int = 0,
        *,
        name: str = "",
        ref: str = "",
        payload: bytes | None = None,
    ) -> Input:
        return Input(self.id, RUN, kind, step, attempt, name, ref, payload, ref)

    def event(self, event: Event[Any], *, ref: str) -> str | None:
        body = b'{"type":"event","name":%b,"data":%b}' % (
            codec.encode_value(event.type.name),
            codec.encode(event.data),
        )
        return self.take(self.input(Kind.EVENT, name=event.type.name, ref=ref, payload=body))

    def cancel(self, reason: str, *, ref: str) -> str | None:
        return self.take(self.input(Kind.CANCEL, name="test", ref=ref, payload=reason.encode()))

    def operate(self, verb: str, step: int, fields: dict[str, Any], *, ref: str) -> str | None:
        body = codec.encode_value({"type": verb, "step": step or None, "reason": "the test asks for it", **fields})
        return self.take(self.input(Kind.OPERATOR, step, name=verb, ref=ref, payload=body))

    def fire(self, key: TimerKey) -> str | None:
        """A timer that is due; the clock is moved there."""
        self.now = max(self.now, self.timers[key])
        word = self.take(self.input(Kind.TIMER, key.number, name=key.kind))
        if key.kind in IN_MEMORY and self.timers.get(key, self.now + 1) <= self.now:
            del self.timers[key]
        return word

    def take(self, input: Input) -> str | None:
        """A turn with one input. The reason code, if it was not taken."""
        word = self._saga.take(input, now=self.now)
        self._store(self._saga.drain())
        return word

    def restart(self) -> None:
        """Another process goes on, from the rows. Raises ReplayDiffers."""
        self.check_replay()
        self._saga.evict()
        self._saga = self._restored()
        self._store(self._saga.drain())

    def check_replay(self) -> None:
        """Raises ReplayDiffers where the saga's code, run again on its history, decides otherwise."""
        if not self.rows or self.state.blocked or self._saga.stopped is not None:
            return
        copy = self._restored()
        try:
            if copy.stopped is not None:
                raise ReplayDiffers(self.id, copy.stopped.stop.words)
            if copy.drain().rows:
                raise ReplayDiffers(self.id, "the code goes on where it had come to rest")
        finally:
            copy.evict()

    def evict(self) -> None:
        """End its code. Its `finally` blocks run here, and nothing of them takes effect (L4)."""
        self._saga.evict()

    def timers_in_order(self) -> list[TimerKey]:
        """The one that is due first comes first; among equals the lower number (H3)."""
        return sorted(self.timers, key=lambda key: (self.timers[key], key.number, key.kind))

    def steps(self) -> list[TestedStep]:
        outputs = {row.step: row.payload for row in self.rows if row.kind in _COMPLETED}
        return [
            TestedStep(
                step.number, step.activity, step.input, _output(step.contract, outputs.get(step.number)),
                step.outcome.value, step.undoing.value, step.do.attempt,
            )
            for step in self._steps.values()
        ]  # fmt: skip

    def _fresh(self) -> SagaState:
        addresses = Addresses(NAMESPACE, source_of(NAMESPACE), SagaId(self.id), RUN, 0)
        return SagaState(addresses, definition=self.definition.name, version=self.definition.version)

    def _restored(self) -> Saga:
        state, status = self._fresh(), self._standing.status
        state.standing = self._standing
        return restore(state, self._code, self.rows, status=status, now=self.now, contracts=declared.activities)

    def _store(self, effects: Effects) -> None:
        self.rows += effects.rows
        for row in self.rows[len(self.rows) - len(effects.rows) :]:
            row.sequence = effects.sequence
        self._standing = self.state.standing
        if not self.state.blocked and self._saga.stopped is None and self.state.contracts is None:
            self._steps = self.state.steps
        if effects.timers_dropped:
            self.timers.clear()
        for key in effects.timers_cleared:
            self.timers.pop(key, None)
        self.timers.update(effects.timers_set)
        if effects.raised:
            self.raised = effects.raised[-1][1]
        for message in effects.messages:
            self._note(message)

    def _note(self, message: Message) -> None:
        if message.topic == events_topic(NAMESPACE):
            return
        record = _Record(message.topic, message.key, message.value, message.headers)
        value, key = record.value or b"", (record.key or b"").decode()
        if message.topic.endswith(".commands"):
            self.unread.append(self._sent(record))
        elif message.topic == requests_topic(NAMESPACE):
            body = from_json(value)
            self.started.append(StartedSaga(body["saga"], key, body["input"]))
        else:
            name = dict(record.headers)["ce_type"].decode()
            self.published.append(PublishedEvent(name, value, topic=message.topic, key=key))

    def _sent(self, record: _Record) -> Sent:
        head = read_command(record)
        contract = self._steps[head.step].contract
        asked = contract.compensation if head.kind is CommandKind.UNDO else contract
        service = record.topic.removesuffix(".commands")
        if head.kind is CommandKind.SETTLE or asked is None:
            return Sent(head, service, contract, None)
        return Sent(head, service, contract, Asked(asked, codec.decode(asked.input, record.value, what=asked.name)))


_COMPLETED: Final = frozenset((Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED))


def _output(contract: Activity[..., Any, Any], payload: bytes | None) -> BaseModel | None:
    if contract.output_model is None or payload is None:
        return None
    return codec.decode(contract.output_model, payload, what=contract.name)
