"""Whether a start can be carried out, as far as this coordinator can tell before it publishes it.

A name that no coordinator of the namespace runs is a slip of the pen far more often than a definition that is yet to be
deployed. An input that does not fit, or an id that another input has used, would become a dead letter that nobody looks
for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, JsonValue, ValidationError

from sagabus.contracts import canonical, codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http.ignored_fields import ignored_fields
from sagabus.coordinator.http.near_names import did_you_mean, near
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.shard.starts import OTHER_INPUT, other_input
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.messaging.postgres.database import DatabaseUnreachable

UNKNOWN_SAGA: Final = "saga.unknown"
MOST_LISTED: Final = 20
MOST_FAULTS: Final = 5
"""Of an input that does not fit."""


class StartCheck:
    """definitions: of this process. reads: tell what the owners of all shards run, and which ids are used."""

    def __init__(self, definitions: Iterable[SagaDefinition[Any, Any]], reads: OperatorReads) -> None:
        by_version = sorted(definitions, key=lambda each: each.version)
        self._newest = {definition.name: definition for definition in by_version}
        self._reads = reads

    async def check(self, name: str, id: str, given: JsonValue, request: bytes, *, allow_unknown: bool) -> list[str]:
        """The fields of the input that are ignored. request: the body of the start, as it will be read, with the input
        that was given. Raises ApiError.

        That an id is used is told only where the definition is of this process: the owner compares what it says.
        """
        definition = self._newest.get(name)
        if definition is not None:
            input = _read(definition, request)
            await self._raise_if_used(id, canonical.digests(request, input))
            return ignored_fields(given, input)
        if not allow_unknown:
            known = {*self._newest, *await self._reads.definitions()}
            if name not in known:
                raise ApiError(
                    HTTPStatus.UNPROCESSABLE_ENTITY, UNKNOWN_SAGA, _unknown(name, known), parameter="unknown=allow"
                )
        return []

    async def _raise_if_used(self, id: str, input_hash: bytes) -> None:
        """By another input. An equal one is the same saga (H2): to ask again is no fault."""
        try:
            before = await self._reads.input_hash(id)
        except DatabaseUnreachable:  # a start is taken all the same: its owner looks when the database is back
            return
        if before is not None and not canonical.same_input(before, input_hash):
            raise ApiError(HTTPStatus.CONFLICT, OTHER_INPUT, other_input(id))


def _read(definition: SagaDefinition[Any, Any], request: bytes) -> BaseModel:
    try:
        read: BaseModel = definition.read_input(request)
    except MessageInvalid as error:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, _faults(definition, error)) from error
    return read


def _faults(definition: SagaDefinition[Any, Any], error: MessageInvalid) -> str:
    """All that can be shown. What history and dead letters keep has the first one, as it always had."""
    if isinstance(cause := error.__cause__, ValidationError):
        return f"start of {definition.name}: {codec.first_faults(cause, most=MOST_FAULTS)}"
    return error.message


def _unknown(name: str, known: Collection[str]) -> str:
    meant = did_you_mean(near(name, known))
    has = ", ".join([*sorted(known)[:MOST_LISTED], *(["…"] if len(known) > MOST_LISTED else [])]) or "none"
    return f"no coordinator here runs a saga {name[:60]!r}{f'; {meant}' if meant else '.'} They run: {has}"
