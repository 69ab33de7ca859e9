"""Whether a start can be carried out, as far as this coordinator can tell before it publishes it.

A name that no coordinator of the namespace runs is a slip of the pen far more often than a definition that is yet to be
deployed; and an input that does not fit would become a dead letter that nobody looks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http.refusals import ApiError

UNKNOWN_SAGA: Final = "saga.unknown"
MOST_NAMED: Final = 3
"""Names that may be meant."""
MOST_LISTED: Final = 20


class StartCheck:
    """definitions: of this process. elsewhere: the names that the owners of all shards run."""

    def __init__(
        self, definitions: Iterable[SagaDefinition[Any, Any]], elsewhere: Callable[[], Awaitable[Collection[str]]]
    ) -> None:
        by_version = sorted(definitions, key=lambda each: each.version)
        self._newest = {definition.name: definition for definition in by_version}
        self._elsewhere = elsewhere

    async def check(self, name: str, request: bytes, *, allow_unknown: bool) -> None:
        """request: the body of the start, as it will be read. Raises ApiError."""
        definition = self._newest.get(name)
        if definition is not None:
            _read(definition, request)
        elif not allow_unknown:
            known = {*self._newest, *await self._elsewhere()}
            if name not in known:
                raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, UNKNOWN_SAGA, _unknown(name, known))


def _read(definition: SagaDefinition[Any, Any], request: bytes) -> None:
    try:
        definition.read_input(request)
    except MessageInvalid as error:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, error.message) from error


def _unknown(name: str, known: Collection[str]) -> str:
    meant = " or ".join(map(repr, get_close_matches(name, sorted(known), n=MOST_NAMED)))
    has = ", ".join([*sorted(known)[:MOST_LISTED], *(["…"] if len(known) > MOST_LISTED else [])]) or "none"
    return (
        f"no coordinator here runs a saga {name[:60]!r}{f'; did you mean {meant}?' if meant else '.'} They run: {has}. "
        "If its definition is yet to be deployed, start it with ?unknown=allow, or --allow-unknown"
    )
