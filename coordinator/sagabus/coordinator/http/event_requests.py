"""Events over the API: published as requests on the saga's topic, and answered with what the saga makes of them.

    202 published, with what becomes of it     409 the saga has ended: the topic would make it a dead letter
    422 for a person (`?name=near`): the saga's code cannot read it, as far as this coordinator runs that code

What becomes of it is told from the saga as it stands before the event, and decides nothing: the saga's owner takes it
in a moment later.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from sagabus.contracts import codec
from sagabus.contracts.envelope import Message
from sagabus.coordinator.core.saga.admission import CLOSED
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http import query
from sagabus.coordinator.http.answers import answer
from sagabus.coordinator.http.event_names import EventNames
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.http.saga_requests import SagaRequests, body_of
from sagabus.coordinator.http.views import EventAccepted
from sagabus.coordinator.http.waits import awaited_events, stands_still
from sagabus.coordinator.shard.delivery import EARLY_TOO_MANY
from sagabus.coordinator.shard.early_requests import EARLY_LIMIT, EARLY_MICROSECONDS
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.rows import SagaRow
from sagabus.messaging.postgres.database import DatabaseUnreachable

_MINUTES: Final = EARLY_MICROSECONDS // 60_000_000


class EventBody(BaseModel):
    """event_id: sent twice with the same one, the event counts once."""

    name: str
    data: JsonValue = None
    event_id: str | None = None


class EventRequests:
    """Of one namespace. names: what events the code of this process's sagas names."""

    def __init__(self, requests: SagaRequests, reads: OperatorReads, names: EventNames) -> None:
        self._requests = requests
        self._reads = reads
        self._names = names

    async def take(self, request: Request) -> Response:
        body = codec.decode(EventBody, await body_of(request), what="body")
        id, near = query.saga_id(request), query.takes_near_name(request)
        try:
            saga, awaited = await self._seen(id)
            if near:
                body.name = self._whole_name(body.name, saga, awaited)
            message = self._made(body, id)
            words, waits_for = await self._prospect(id, body, saga, awaited)
            if near and (saga is None or not saga.is_closed):
                self._names.check_data(body.name, message.value, saga=None if saga is None else saga.definition)
        except DatabaseUnreachable as error:  # an event is taken all the same: sagas go on when it is back
            message = self._made(body, id)
            words, waits_for = f"what becomes of it is not known: {error}", None
        message_id = await self._requests.publish(message)
        view = EventAccepted(id=id, message_id=message_id, name=body.name, words=words, waits_for=waits_for)
        return answer(view, HTTPStatus.ACCEPTED, {"location": f"/api/v1/sagas/{id}"})

    async def _seen(self, id: str) -> tuple[SagaRow | None, dict[str, bool] | None]:
        """The saga, and what `awaited_events` says of it, if it is open and that is known."""
        saga = await self._reads.saga(id)
        if saga is None or saga.is_closed:
            return saga, None
        (recent,) = await self._reads.recent([saga], most=1)
        return saga, awaited_events(recent)

    def _whole_name(self, given: str, saga: SagaRow | None, awaited: dict[str, bool] | None) -> str:
        """Raises ApiError where another name was perhaps meant."""
        if saga is not None and saga.is_closed:
            return given
        return self._names.whole(given, saga=None if saga is None else saga.definition, awaited=awaited or ())

    def _made(self, body: EventBody, id: str) -> Message:
        asked: dict[str, JsonValue] = {"type": "event", "name": body.name, "data": body.data}
        return self._requests.made(asked, id, message_id=body.event_id)

    async def _prospect(
        self, id: str, body: EventBody, saga: SagaRow | None, awaited: dict[str, bool] | None
    ) -> tuple[str, list[str] | None]:
        """What becomes of it in words, and the events that the saga waits for now, if that is known.

        Raises ApiError for a saga that has ended: then nothing was published.
        """
        if saga is None:
            return await self._of_none(id), None
        if saga.is_closed:
            if body.event_id and await self._reads.has_event(saga.key, body.event_id):
                return f"saga {id} has received it before: it counts once", None
            raise _refused(id, CLOSED, f"saga {id} has ended ({saga.status})")
        return _of_open(saga, body.name, awaited)

    async def _of_none(self, id: str) -> str:
        """Nobody has started it, or it is gone."""
        if await self._reads.is_removed(id):
            raise _refused(id, CLOSED, f"saga {id} has ended, and was removed by retention")
        if await self._reads.kept_requests(id) >= EARLY_LIMIT:
            words = f"{EARLY_LIMIT} requests are kept for {id} already, and nobody has started it"
            raise _refused(id, EARLY_TOO_MANY, words)
        return f"no saga {id} is started yet: it is kept for {_MINUTES} min, until one is"


def _of_open(saga: SagaRow, name: str, awaited: dict[str, bool] | None) -> tuple[str, list[str] | None]:
    if saga.status is not SagaStatus.RUNNING:
        return "nothing comes of it: the saga is being undone", []
    if saga.paused:
        return "it is kept until the saga is resumed: it is paused", None
    if stands_still(saga):
        return "it is kept until the saga's code can go on", None
    if awaited is not None and name in awaited:
        wanted = ", if it meets the condition of a wait; else it is kept" if awaited[name] else ""
        return f"the saga's code waits for it{wanted}", [*awaited]
    kept = "it is kept until the saga's code waits for it"
    if awaited is None:
        return kept, None
    return f"{kept}; now it waits for {', '.join(awaited) or 'no event'}", [*awaited]


def _refused(id: str, code: str, why: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, code, f"{id}: event refused: {why}")
