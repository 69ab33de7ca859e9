"""Events: facts that are told to the world, or told to a saga."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pydantic import BaseModel

from sagabus.contracts import names, round_trip
from sagabus.contracts.errors import DeclarationError

P = ParamSpec("P")
I = TypeVar("I", bound=BaseModel)  # noqa: E741
M_co = TypeVar("M_co", bound=BaseModel, covariant=True)


class Event(Generic[M_co]):
    """One filled-in event."""

    __slots__ = ("data", "type")

    def __init__(self, type: EventType[..., Any], data: BaseModel) -> None:
        self.type = type
        self.data = data

    def key(self) -> str | None:
        """The record key that its type declares; None where the saga id is the key."""
        value = None if self.type.key is None else getattr(self.data, self.type.key)
        return None if value is None else str(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.type is other.type and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.type.name)

    def __repr__(self) -> str:
        return f"Event({self.type.name}, {self.data!r})"


class EventType(Generic[P, I]):
    """A named kind of event. topic: where `publish` sends it; None for one that sagas only wait for."""

    def __init__(self, name: str, model: Callable[P, I], *, topic: str | None = None, key: str | None = None) -> None:
        self.name = name
        self.model: type[I] = _model(model, name)
        self.topic = topic
        self.key = key
        if key is not None and key not in self.model.model_fields:
            raise DeclarationError(
                f"event {name}: key={key!r} is no field of {self.model.__name__}; "
                f"it has {', '.join(self.model.model_fields)}"
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Event[I]:
        """The fields of the model, as keyword arguments. Raises pydantic.ValidationError."""
        return Event(self, self.model(*args, **kwargs))

    def of(self, data: I, /) -> Event[I]:
        """The same from a model that exists already."""
        if not isinstance(data, self.model):
            raise TypeError(f"{self.name}.of() takes a {self.model.__name__}, not a {type(data).__name__}")
        return Event(self, data)

    def __repr__(self) -> str:
        return f"<event {self.name}>"


@overload
def event(name: str, model: Callable[P, I]) -> EventType[P, I]: ...
@overload
def event(name: str, model: Callable[P, I], *, topic: str, key: str) -> EventType[P, I]: ...
def event(name: str, model: Callable[P, I], *, topic: str | None = None, key: str | None = None) -> EventType[P, I]:
    """An event of somebody else's, for `ctx.event`. With topic and key a saga can publish it there too."""
    return EventType(names.event_name(name), model, topic=topic, key=key)


def _model(candidate: Any, name: str) -> Any:
    if not (isinstance(candidate, type) and issubclass(candidate, BaseModel)):
        raise DeclarationError(f"event {name}: {candidate!r} is not a pydantic model")
    round_trip.check(candidate, f"event {name}")
    return candidate
