"""The whole name of an event that a person has named: in part, or with a slip of the pen.

For people alone, who ask for it (`?name=near`). A program gives the whole name, and is taken at its word: code may wait
for an event whose name stands nowhere in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Any, Final

from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http.near_names import did_you_mean, near
from sagabus.coordinator.http.refusals import ApiError

UNKNOWN_EVENT: Final = "event.unknown"


class EventNames:
    """definitions: of this process, whose code names events."""

    def __init__(self, definitions: Iterable[SagaDefinition[Any, Any]]) -> None:
        self._of_saga: dict[str, frozenset[str]] = {}
        for one in definitions:
            self._of_saga[one.name] = self._of_saga.get(one.name, frozenset()) | one.events

    def whole(self, given: str, *, saga: str | None, awaited: Collection[str] = ()) -> str:
        """saga: the name of its definition; None where it is not started. awaited: what its code waits for now.

        The same where nothing else may be meant. Raises ApiError where something else, or more than one name, may be.
        """
        everything = frozenset[str]().union(*self._of_saga.values())
        known: set[str] = {*(everything if saga is None else self._of_saga.get(saga, ())), *awaited}
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


def _close_ends(given: str, known: Collection[str]) -> list[str]:
    """By the part behind the service: `reader_cme` is `library.reader_came`, `depot.paid` is `paid` of no service."""
    by_end = {name.rpartition(".")[2]: name for name in sorted(known)}
    return [by_end[end] for end in near(given, by_end) or near(given.rpartition(".")[2], by_end)]


def _sentence(given: str, meant: Collection[str]) -> str:
    return f"no saga's code here names an event {given[:60]!r}; {did_you_mean(meant)}"
