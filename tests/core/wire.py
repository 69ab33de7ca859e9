"""What a saga says, read back from its messages as the world reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sagabus.contracts import codec
from sagabus.contracts.commands import CommandHead, read_command
from sagabus.contracts.envelope import Message
from sagabus.contracts.names import RunId, SagaId
from sagabus.contracts.replies import Failure
from sagabus.coordinator.core.saga.history import Input, Kind


@dataclass(frozen=True, slots=True)
class Read:
    """A message as it would be read from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def as_read(message: Message, *, offset: int = 0) -> Read:
    return Read(message.topic, message.partition or 0, offset, 0, message.key, message.value, message.headers)


def altered(message: Message, **parts: Any) -> Message:
    """The same with another key, value or headers."""
    plain = {"key": message.key, "value": message.value, "headers": message.headers, **parts}
    return Message.of(message.topic, saga_id=message.saga_id, partition=message.partition, **plain)


@dataclass(frozen=True, slots=True)
class Sent:
    """A copy of a command."""

    head: CommandHead
    service: str
    body: bytes
    cause: str

    @classmethod
    def of(cls, message: Message) -> Sent:
        cause = dict(message.headers)["ce_causationid"].decode()
        return cls(read_command(as_read(message)), message.topic.removesuffix(".commands"), message.value or b"", cause)

    @property
    def short(self) -> str:
        """`do 1 stock.reserve`."""
        return f"{self.head.kind} {self.head.step} {self.head.activity}"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A lifecycle event. sequence: 0 for one without a number."""

    type: str
    sequence: int
    body: dict[str, Any]
    cause: str | None

    @classmethod
    def of(cls, message: Message) -> Lifecycle:
        headers = {name: value.decode() for name, value in message.headers}
        body = json.loads(message.value or b"")
        return cls(headers["ce_type"], int(headers.get("ce_sequence", "0")), body, headers.get("ce_causationid"))

    @property
    def answer(self) -> str:
        """Of a request; empty for another event."""
        if self.type == "sagabus.request.applied":
            return f"applied {self.body['request']}"
        if self.type in ("sagabus.request.refused", "sagabus.cancel.rejected"):
            return f"refused {self.body['request']} {self.body['error']['code']}"
        return ""


@dataclass(slots=True)
class Output:
    """What came out, of one turn or of all so far."""

    commands: list[Sent] = field(default_factory=list)
    lifecycle: list[Lifecycle] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    rejections: list[Lifecycle] = field(default_factory=list)
    """Lifecycle events without a number."""

    @property
    def short(self) -> list[str]:
        return [sent.short for sent in self.commands]

    @property
    def told(self) -> list[str]:
        """Without what is answered to requests."""
        types = (event.type.removeprefix("sagabus.") for event in self.lifecycle)
        return [type for type in types if not type.startswith("request.")]

    @property
    def answers(self) -> list[str]:
        """To requests: `applied cancel`, `refused retry request.no_use`."""
        return [event.answer for event in self.lifecycle if event.answer] + [one.answer for one in self.rejections]

    def add(self, other: Output) -> None:
        self.commands += other.commands
        self.lifecycle += other.lifecycle
        self.events += other.events
        self.rejections += other.rejections


def an_input(
    kind: Kind, step: int = 0, attempt: int = 0, name: str = "", ref: str = "", payload: bytes | None = None
) -> Input:
    """For the saga of these tests."""
    return Input(SagaId("O-1"), RunId("r1"), kind, step, attempt, name, ref, payload, ref or "cause")


def failure(code: str, *, again_after: float | None = None) -> bytes:
    return codec.encode(Failure(code=code, message=f"{code} happened", again_after=again_after))
