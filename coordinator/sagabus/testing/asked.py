"""What a saga asked for, as a test compares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sagabus.contracts import Activity, Command, Compensation, Event, MessageInvalid, codec


class Asked:
    """A command that the saga sent: equal to another one, and to a filled-in command, of the same name and input."""

    __slots__ = ("activity", "input")

    def __init__(self, activity: Activity[..., Any, Any], input: BaseModel) -> None:
        self.activity = activity
        self.input = input

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Command):
            return self.activity.name == other.activity and self.input == other.input
        return isinstance(other, Asked) and (self.activity.name, self.input) == (other.activity.name, other.input)

    def __hash__(self) -> int:
        return hash(self.activity.name)

    def __repr__(self) -> str:
        return command_words(self.activity, self.input)


@dataclass(frozen=True, slots=True)
class TestedStep:
    """A step as it stands. activity: its whole name. outcome: sent, paused, completed, failed, unknown, never. undo:
    none, settling, sent, paused, done, skipped, blocked. attempts: of the command that was sent last.
    output: None where it has none, or has not completed."""

    __test__ = False  # for pytest, which collects classes by their names

    number: int
    activity: str
    input: BaseModel
    output: BaseModel | None
    outcome: str
    undo: str
    attempts: int


class PublishedEvent:
    """An event that the saga published: equal to a filled-in event of the same name and data. data: JSON, as sent."""

    __slots__ = ("data", "key", "name", "topic")

    def __init__(self, name: str, data: bytes, *, topic: str, key: str) -> None:
        self.name = name
        self.data = data
        self.topic = topic
        self.key = key

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Event):
            return self.name == other.type.name and _read(other.type.model, self) == other.data
        return isinstance(other, PublishedEvent) and (self.name, self.data) == (other.name, other.data)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"{self.name} {self.data.decode()}"


def _read(model: type[BaseModel], published: PublishedEvent) -> BaseModel | None:
    try:
        return codec.decode(model, published.data, what=published.name)
    except MessageInvalid:
        return None


@dataclass(frozen=True, slots=True)
class StartedSaga:
    """Of another saga, by `ctx.start`. input: the fields, as they are sent."""

    saga: str
    id: str
    input: dict[str, Any]


def command_words(activity: Activity[..., Any, Any], input: BaseModel) -> str:
    """`inventory.reserve(order_id='7')`."""
    fields = ", ".join(f"{name}={getattr(input, name)!r}" for name in type(input).model_fields)
    undo = "undo " if isinstance(activity, Compensation) else ""
    return f"{undo}{activity.name}({fields})"
