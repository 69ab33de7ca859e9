"""What the code of this process's sagas knows of events: their names, and what their data is.

A person may name an event in part, or with a slip of the pen, and asks for its whole name (`?name=near`). A program
gives the whole name, and is taken at its word, with its data: code may wait for an event whose name stands nowhere in
it, and another coordinator may run other code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Any, Final

from sagabus.contracts import EventType, codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.core.saga.program import event_body
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http.near_names import did_you_mean, near
from sagabus.coordinator.http.refusals import ApiError

UNKNOWN_EVENT: Final = "event.unknown"
UNREADABLE_EVENT: Final = "event.unreadable"


class EventNames:
    """definitions: of this process, whose code names events."""

    def __init__(self, definitions: Iterable[SagaDefinition[Any, Any]]) -> None:
        self._of_saga: dict[str, set[EventType[..., Any]]] = {}
        for one in definitions:
            self._of_saga.setdefault(one.name, set()).update(one.event_types)

    def whole(self, given: str, *, saga: str | None, awaited: Collection[str] = ()) -> str:
        """saga: the name of its definition; None where it is not started. awaited: what its code waits for now.

        The same where nothing else may be meant. Raises ApiError where something else, or more than one name, may be.
        """
        known = {*(type.name for type in self._types(saga)), *awaited}
        if given in known:
            return given
        ends = sorted(name for name in known if name.endswith(f".{given}"))
        if len(ends) == 1:
            return ends[0]
        meant = ends or near(given, known) or _close_ends(given, known)
        if meant:
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY, UNKNOWN_EVENT, _sentence(given, meant), parameter="name=exact"
            )
        return given

    def check_data(self, name: str, request: bytes | None, *, saga: str | None) -> None:
        """request: the body of the event, as the saga's code will read it. saga: as for `whole`.

        Raises ApiError where no version of the code that names this event here can read it: the saga would set it
        aside, and need a person's attention. What is not known here is not judged.
        """
        fault: MessageInvalid | None = None
        for type in sorted((one for one in self._types(saga) if one.name == name), key=repr):
            try:
                codec.decode(event_body(type), request, what=f"event {name}")
            except MessageInvalid as error:
                fault = error
            else:
                return
        if fault is not None:
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY, UNREADABLE_EVENT, fault.message, parameter="name=exact"
            ) from fault

    def _types(self, saga: str | None) -> Collection[EventType[..., Any]]:
        return (
            set[EventType[..., Any]]().union(*self._of_saga.values()) if saga is None else self._of_saga.get(saga, ())
        )


def _close_ends(given: str, known: Collection[str]) -> list[str]:
    """By the part behind the service: `reader_cme` is `library.reader_came`, `depot.paid` is `paid` of no service."""
    by_end = {name.rpartition(".")[2]: name for name in sorted(known)}
    return [by_end[end] for end in near(given, by_end) or near(given.rpartition(".")[2], by_end)]


def _sentence(given: str, meant: Collection[str]) -> str:
    return f"no saga's code here names an event {given[:60]!r}; {did_you_mean(meant)}"
