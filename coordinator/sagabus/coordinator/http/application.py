"""The addresses of the API and what stands behind each.

GET  /api/v1/sagas                  ?status=…&saga=…&attention=true&limit=…&cursor=…
GET  /api/v1/sagas/{id}             ?run=…&wait=SECONDS
GET  /api/v1/sagas/{id}/history     ?run=…&after=SEQ&limit=…
POST /api/v1/sagas                  {"saga", "id", "input"}
POST /api/v1/sagas/{id}/events      {"name", "data", "event_id"?}
POST /api/v1/sagas/{id}/cancel      {"reason"}
POST /api/v1/sagas/{id}/retry       {"step", "reason", "actor"?}
POST /api/v1/sagas/{id}/skip        {"step", "reason", "actor"?}
POST /api/v1/sagas/{id}/acknowledge {"reason", "actor"?, "step"?}
GET  /livez, /readyz
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, JsonValue, StringConstraints
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sagabus.contracts import codec
from sagabus.contracts.envelope import MAX_PAYLOAD, Headers, Message, source_of
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.requests import raw_message, read_request
from sagabus.coordinator.http import query
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.guard import Guard, refuse_open
from sagabus.coordinator.http.refusals import HANDLERS, ApiError
from sagabus.coordinator.http.views import Accepted, HistoryRowView, HistoryView, SagaPage, SagaSummary, SagaView
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.rows import SagaRow
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.settings import Settings

JSON: Final = "application/json"

T = TypeVar("T")


class StartBody(BaseModel):
    saga: str
    id: str
    input: JsonValue = None


class EventBody(BaseModel):
    """event_id: sent twice with the same one, the event counts once."""

    name: str
    data: JsonValue = None
    event_id: str | None = None


class CancelBody(BaseModel):
    reason: str = ""


class AcknowledgeBody(BaseModel):
    """actor: who, for the history. step: only what is about this step; omitted, all that the saga is flagged for."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
    actor: str = ""
    step: int | None = None


class VerbBody(AcknowledgeBody):
    """An operator's retry or skip of a step."""

    step: int


def application(
    *,
    database: Database,
    settings: Settings,
    publish: Callable[[Message], Awaitable[None]],
    closings: Closings,
    why_not: Callable[[], Awaitable[str]],
    owns: Callable[[str], bool] = lambda _: False,
    accepts: Callable[[], bool] = lambda: True,
) -> Starlette:
    """The API as an ASGI application. Raises SettingsError when it would be open to other machines without a token.

    publish: returns when the request is acknowledged. closings: is told of every saga that closes in this process.
    owns: whether a saga id belongs to a shard of this process, so that `closings` hears of its end. why_not: why this
    process is not ready, empty when it is. accepts: false while there is nothing behind the API yet, or any more.
    """
    refuse_open(settings)
    api = _Api(OperatorReads(database, settings.namespace), settings.namespace, publish, closings, why_not, owns)
    app = Starlette(
        routes=[
            Route("/livez", api.livez, methods=["GET"]),
            Route("/readyz", api.readyz, methods=["GET"]),
            Route("/api/v1/sagas", api.list, methods=["GET"]),
            Route("/api/v1/sagas", api.start, methods=["POST"]),
            Route("/api/v1/sagas/{id}", api.show, methods=["GET"]),
            Route("/api/v1/sagas/{id}/history", api.history, methods=["GET"]),
            Route("/api/v1/sagas/{id}/events", api.event, methods=["POST"]),
            Route("/api/v1/sagas/{id}/cancel", api.cancel, methods=["POST"]),
            Route("/api/v1/sagas/{id}/retry", api.retry, methods=["POST"]),
            Route("/api/v1/sagas/{id}/skip", api.skip, methods=["POST"]),
            Route("/api/v1/sagas/{id}/acknowledge", api.acknowledge, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=settings.token.get_secret_value(), accepts=accepts)],
        exception_handlers=HANDLERS,
    )
    app.state.drain = api.drain
    return app


class _Api:
    def __init__(
        self,
        reads: OperatorReads,
        namespace: str,
        publish: Callable[[Message], Awaitable[None]],
        closings: Closings,
        why_not: Callable[[], Awaitable[str]],
        owns: Callable[[str], bool],
    ) -> None:
        self._reads = reads
        self._namespace = namespace
        self._publish = publish
        self._closings = closings
        self._why_not = why_not
        self._owns = owns
        self._draining = False

    def drain(self) -> None:
        """Who waits is answered with what is known now."""
        self._draining = True
        self._closings.wake_all()

    async def livez(self, _: Request) -> Response:
        """The answer comes from the loop in which everything else runs: that is what it proves."""
        return Response(b'{"status":"alive"}', media_type=JSON)

    async def readyz(self, _: Request) -> Response:
        if reason := await self._why_not():
            answer = to_json({"status": "not ready", "reason": reason})
            return Response(answer, HTTPStatus.SERVICE_UNAVAILABLE, media_type=JSON)
        return Response(b'{"status":"ready"}', media_type=JSON)

    async def list(self, request: Request) -> Response:
        asked = query.ListQuery.read(request)
        page = await self._reads.page(asked.wanted, limit=asked.limit, after=asked.after)
        next = None if page.next is None else query.cursor(page.next)
        return _json(SagaPage(sagas=[SagaSummary.of(row) for row in page.sagas], next=next))

    async def show(self, request: Request) -> Response:
        id, run = query.saga_id(request), query.run(request)
        seconds = query.seconds(request)
        if seconds > 0:
            await self._until_closed(request, id, run, seconds)
        saga = await self._reads.show(id, run)
        if saga is None and (asked := query.text(request, "start")):
            await self._raise_if_rejected(id, asked)
        return _json(SagaView.whole(_found(saga, id, run)))

    async def _raise_if_rejected(self, id: str, message_id: str) -> None:
        """Who waits for a saga that will never be learns why."""
        if (why := await self._reads.rejection(id, message_id)) is not None:
            message = f"the request for saga {id} was rejected: {why[0]}: {why[1]}"
            raise ApiError(HTTPStatus.CONFLICT, "start.rejected", message)

    async def _until_closed(self, request: Request, id: str, run: str | None, seconds: float) -> SagaRow | None:
        async def look() -> SagaRow | None:
            return await self._reads.saga(id, run)

        async def given_up() -> bool:
            return self._draining or await request.is_disconnected()

        return await self._closings.wait(id, look, seconds=seconds, owned=lambda: self._owns(id), given_up=given_up)

    async def history(self, request: Request) -> Response:
        id, run = query.saga_id(request), query.run(request)
        after, limit = query.number(request, "after", 0), query.limit(request)
        saga = _found(await self._reads.saga(id, run), id, run)
        rows = await self._reads.history(saga.key, after=after, limit=limit)
        next = rows[-1].seq if len(rows) == limit else None
        shown = [HistoryRowView.of(row) for row in rows]
        return _json(HistoryView(id=saga.id, run=saga.run, rows=shown, next=next))

    async def start(self, request: Request) -> Response:
        body = codec.decode(StartBody, await _body(request), what="body")
        return await self._ask({"type": "start", "saga": body.saga, "input": body.input}, body.id)

    async def event(self, request: Request) -> Response:
        body = codec.decode(EventBody, await _body(request), what="body")
        asked: dict[str, JsonValue] = {"type": "event", "name": body.name, "data": body.data}
        return await self._ask(asked, query.saga_id(request), message_id=body.event_id)

    async def cancel(self, request: Request) -> Response:
        body = codec.decode(CancelBody, await _body(request), what="body")
        return await self._ask({"type": "cancel", "reason": body.reason}, query.saga_id(request))

    async def retry(self, request: Request) -> Response:
        return await self._verb(request, "retry", VerbBody)

    async def skip(self, request: Request) -> Response:
        return await self._verb(request, "skip", VerbBody)

    async def acknowledge(self, request: Request) -> Response:
        return await self._verb(request, "acknowledge", AcknowledgeBody)

    async def _verb(self, request: Request, verb: str, model: type[AcknowledgeBody]) -> Response:
        body = codec.decode(model, await _body(request), what="body")
        return await self._ask({"type": verb, **body.model_dump(mode="json")}, query.saga_id(request))

    async def _ask(self, asked: dict[str, JsonValue], saga_id: str, message_id: str | None = None) -> Response:
        message = raw_message(
            asked,
            saga_id=saga_id,
            namespace=self._namespace,
            message_id=message_id or uuid.uuid4().hex,
            source=source_of(self._namespace),
            time=time.time_ns() // 1000,
        )
        codec.decode_value(to_json(asked, inf_nan_mode="constants"))  # refuses 1e999, which would go on as null
        read_request(_AsRecord(message))  # raises what would make it a dead letter
        await self._publish(message)
        id = next(value for name, value in message.headers if name == "ce_id").decode()
        location = {"location": f"/api/v1/sagas/{message.saga_id}"}
        return _json(Accepted(id=message.saga_id, message_id=id), HTTPStatus.ACCEPTED, location)


@dataclass(frozen=True, slots=True)
class _AsRecord:
    """A request as the coordinator that owns its saga will read it."""

    message: Message
    partition: int = 0
    offset: int = 0
    timestamp: int = 0

    @property
    def topic(self) -> str:
        return self.message.topic

    @property
    def key(self) -> bytes | None:
        return self.message.key

    @property
    def value(self) -> bytes | None:
        return self.message.value

    @property
    def headers(self) -> Headers:
        return self.message.headers


async def _body(request: Request) -> bytes:
    """The body, if it is JSON and within bounds: never more than the bounds is read."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "body.not_json", f"send the body with `content-type: {JSON}`")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_PAYLOAD:
            raise MessageInvalid("payload.too_large", f"more than {MAX_PAYLOAD} bytes; store it, and send where it is")
    return codec.checked(bytes(data))


def _found(thing: T | None, id: str, run: str | None) -> T:
    if thing is None:
        which = id if run is None else f"{id} with run {run}"
        cure = "look at the id; a start that was just published may still be on its way: add ?wait=5"
        raise ApiError(HTTPStatus.NOT_FOUND, "saga.not_found", f"no saga {which}: {cure}")
    return thing


def _json(model: BaseModel, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers, media_type=JSON)
