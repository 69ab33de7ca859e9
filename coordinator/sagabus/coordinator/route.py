"""A route: events of an outside topic that start a saga, or wake one, by a key of theirs (H6).

Declared by `SagaDefinition.on`, carried out by `routing`. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sagabus.contracts import DeclarationError, EventType

SagaIdOf = Callable[[Any], str | None]
InputOf = Callable[[Any], BaseModel]


@dataclass(frozen=True, slots=True)
class Route:
    """Of one definition and one event.

    saga_id: the saga that an event is for; None of it means that it is for no saga. starts: the event starts that saga;
    else it is told to it. input_of: makes the saga's input; None where the event's data is the input as it stands.
    """

    saga: str
    event: EventType[..., Any]
    saga_id: SagaIdOf
    starts: bool
    input: type[BaseModel]
    input_of: InputOf | None = None

    @property
    def topic(self) -> str:
        assert self.event.topic is not None  # `declared` has seen to it
        return self.event.topic

    def __str__(self) -> str:
        return f"the route of {self.event.name} to saga {self.saga}"


def declared(saga: str, input: type[BaseModel], event: Any, saga_id: Any, start: Any, others: Iterable[Route]) -> Route:
    """A route, checked. others: those that the definition has already. Raises DeclarationError."""
    what = f"saga {saga}: on()"
    if not isinstance(event, EventType):
        raise DeclarationError(f"{what} was given {event!r}; give an event type, of Service.event or event()")
    if event.topic is None:
        raise DeclarationError(
            f"{what}: event {event.name} has no topic to read; declare it with Service.event, or as "
            "event(name, Model, topic=…, key=…)"
        )
    if any(other.event.name == event.name and other.topic == event.topic for other in others):
        raise DeclarationError(f"{what} is declared twice for {event.name} of topic {event.topic}; keep one of them")
    if not callable(saga_id):
        raise DeclarationError(f"{what}: saga_id={saga_id!r} cannot be called; give a function of the event's data")
    return Route(saga, event, saga_id, start is not False, input, _input_of(what, input, event, start))


def _input_of(what: str, input: type[BaseModel], event: EventType[..., Any], start: Any) -> InputOf | None:
    if callable(start):
        made: InputOf = start
        return made
    if not isinstance(start, bool):
        raise DeclarationError(f"{what}: start={start!r}: give True, or a function that makes the saga's input")
    if start and not issubclass(event.model, input):
        raise DeclarationError(
            f"{what}: start=True makes the event's data the saga's input, and {event.model.__name__} is no "
            f"{input.__name__}; give start=lambda data: {input.__name__}(…)"
        )
    return None
