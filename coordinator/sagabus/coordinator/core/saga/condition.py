"""What one wait wants: events of a type, of which the author's `where` says yes (H5).

An event is read once for each model, whoever looks at it. Where its model may read the same bytes as another value the
next time, a decision `read` holds what was read, also of an event that no wait wanted: so `where` is asked about the
same value in every replay.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from sagabus.contracts import EventType
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.core.saga.mailbox import Arrival

if TYPE_CHECKING:
    from sagabus.coordinator.core.saga.program import Program

E = TypeVar("E", bound=BaseModel)

Where = Callable[[Any], bool]


def check(type: object, where: object) -> None:
    """What is given to `ctx.event`. Raises TypeError."""
    if not isinstance(type, EventType):
        raise TypeError(f"ctx.event() takes a type of event, as Service.event() or event() makes it, not {type!r}")
    if where is None:
        return
    if not callable(where):
        raise TypeError(f"ctx.event({type.name}, where={where!r}): give a function of the event's data, or a lambda")
    if inspect.iscoroutinefunction(where):
        raise TypeError(f"ctx.event({type.name}): where= is an async function; give one that answers at once")


class Condition:
    """The `Look` of one wait."""

    __slots__ = ("_program", "_type", "_where", "has_set_aside")

    def __init__(self, program: Program, type: EventType[..., Any], where: Where) -> None:
        self._program = program
        self._type = type
        self._where = where
        self.has_set_aside = False
        """Whether this wait has met an event that it could not read."""

    def __call__(self, event: Arrival) -> bool | None:
        """Raises what the author's function raises, with a note that names the event."""
        try:
            data = self._program.read_event(event, self._type)
        except MessageInvalid as fault:
            self._program.set_aside(event.name, fault, again=self.has_set_aside)
            self.has_set_aside = True
            return None
        try:
            return self._answer(data)
        except Exception as error:
            error.add_note(f"while `where` of a wait looked at event {event.name}")
            raise

    def _answer(self, data: Any) -> bool:
        try:
            answer: object = self._where(data)
            if not inspect.isawaitable(answer):
                return bool(answer)
        except (StopIteration, asyncio.CancelledError) as error:  # which mean something else to a task
            raise RuntimeError(f"`where` raised {type(error).__name__}") from error
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError("`where` gave something to be awaited; it has to answer at once")


class EventStream(AsyncIterator[E], Generic[E]):
    """`async for data in ctx.events(type)`: it never ends by itself. Between two events it holds none."""

    __slots__ = ("_next",)

    def __init__(self, next: Callable[[], Coroutine[Any, Any, E]]) -> None:
        self._next = next

    def __aiter__(self) -> EventStream[E]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, E]:
        return self._next()
