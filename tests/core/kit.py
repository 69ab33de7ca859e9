"""A saga by hand: what may arrive, and what has come of it. `restored` checks what must hold after each arrival."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel

from sagabus.contracts import EventType, codec
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import HANDLER_ERROR
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.step import Step
from tests.core.restored import T0, Definition, Restored
from tests.core.services import Done, Order
from tests.core.wire import an_input, failure

__all__ = ["SECOND", "T0", "Definition", "Drive"]

SECOND = 1_000_000


class Drive(Restored):
    """One saga. A reply is by default the one to the attempt that is under way, from the step's own service."""

    _deliveries = 0

    # What may arrive.

    def start(self, input: BaseModel | None = None) -> Self:
        body = codec.encode_value({"type": "start", "saga": "saga", "input": (input or Order()).model_dump()})
        self.take(an_input(Kind.STARTED, name="saga", ref="start", payload=body))
        return self

    def completed(self, step: int, output: BaseModel | None = None, *, attempt: int = 0) -> str | None:
        return self.take(self.reply(Kind.STEP_COMPLETED, step, self._output(step, output), attempt))

    def refused(self, step: int, code: str = "no", *, attempt: int = 0) -> str | None:
        return self.take(self.reply(Kind.STEP_REFUSED, step, failure(code), attempt))

    def failed(
        self, step: int, code: str = HANDLER_ERROR, *, attempt: int = 0, again_after: float | None = None
    ) -> str | None:
        return self.take(self.reply(Kind.STEP_FAILED, step, failure(code, again_after=again_after), attempt))

    def undone(self, step: int, *, attempt: int = 0) -> str | None:
        return self.take(self.reply(Kind.UNDO_COMPLETED, step, b"null", attempt))

    def undo_failed(self, step: int, code: str = HANDLER_ERROR, *, attempt: int = 0) -> str | None:
        return self.take(self.reply(Kind.UNDO_FAILED, step, failure(code), attempt))

    def undo_refused(self, step: int, code: str = "no") -> str | None:
        return self.take(self.reply(Kind.UNDO_REFUSED, step, failure(code)))

    def settled(self, step: int, output: BaseModel | None = None) -> str | None:
        """It had happened."""
        return self.take(self.reply(Kind.SETTLE_COMPLETED, step, self._output(step, output)))

    def never(self, step: int) -> str | None:
        return self.take(self.reply(Kind.SETTLE_NEVER, step, b"null"))

    def unsettled(self, step: int, code: str = HANDLER_ERROR) -> str | None:
        return self.take(self.reply(Kind.SETTLE_FAILED, step, failure(code)))

    def event(self, type: EventType[..., Any], data: BaseModel | dict[str, Any], *, ref: str = "") -> str | None:
        value = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        body = codec.encode_value({"type": "event", "name": type.name, "data": value})
        self._deliveries += 1
        return self.take(an_input(Kind.EVENT, name=type.name, ref=ref or f"event-{self._deliveries}", payload=body))

    def cancel(self, reason: str = "", *, actor: str = "", ref: str = "") -> str | None:
        self._deliveries += 1
        id = ref or f"cancel-{self._deliveries}"
        return self.take(an_input(Kind.CANCEL, name=actor, ref=id, payload=reason.encode()))

    def operate(self, verb: str, step: int = 0, *, ref: str = "", **fields: Any) -> str | None:
        """An operator's request. fields: what its body has beside the verb, the step and the reason."""
        self._deliveries += 1
        body = codec.encode_value({"type": verb, "step": step or None, "reason": "a person knows", **fields})
        ref = ref or f"{verb}-{self._deliveries}"
        return self.take(an_input(Kind.OPERATOR, step, name=verb, ref=ref, payload=body))

    def fire(self, kind: TimerKind, number: int = 0) -> str | None:
        """A timer fires; the clock is moved to when it is due."""
        self.now = max(self.now, self.timers.get(TimerKey(kind, number), 0))
        return self.take(an_input(Kind.TIMER, step=number, name=kind))

    def fire_next(self) -> TimerKey:
        """The one that is due first; among equals the lower number (H3)."""
        key = min(self.timers, key=lambda key: (self.timers[key], key.number))
        assert self.fire(*key) is None
        return key

    def reply(self, kind: Kind, step: int, body: bytes, attempt: int = 0) -> Input:
        """What the step's participant would answer to the last command that it got."""
        asked = CommandKind.UNDO if kind.startswith("undo") else CommandKind.DO
        got = [sent.head.attempt for sent in self.all.commands if (sent.head.step, sent.head.kind) == (step, asked)]
        attempt = attempt or (got[-1] if got else 1)
        contract = self.contracts.get(step)
        ref = f"{self.id}:r1:{step}:{kind}:{attempt}"
        return an_input(kind, step, attempt, contract.service.name if contract else "stock", ref, body)

    def _output(self, step: int, output: BaseModel | None) -> bytes:
        contract = self.contracts.get(step)
        model: type[BaseModel] | None = contract.output if contract else None
        if output is None and model is Done:
            output = Done(ref=f"ref-{step}")
        return b"null" if output is None else codec.encode(output)

    # What has come of it.

    @property
    def status(self) -> str:
        """A plain string, so that type checkers do not take it for unchanged after the next arrival."""
        return self.state.status.value

    @property
    def attention(self) -> str:
        return self.state.attention or ""

    @property
    def error(self) -> Any:
        return None if self.state.error is None else json.loads(self.state.error)

    @property
    def result(self) -> Any:
        return None if self.state.result is None else json.loads(self.state.result)

    def step(self, number: int) -> Step:
        return self.state.steps[number]

    @property
    def kinds(self) -> list[str]:
        """Of the rows so far, with their numbers."""
        return [f"{row.kind} {row.step}" if row.step else str(row.kind) for row in self.rows]

    @property
    def due(self) -> dict[str, float]:
        """Pending timers, in seconds from now."""
        return {f"{kind} {number}": (due - self.now) / SECOND for (kind, number), due in sorted(self.timers.items())}
