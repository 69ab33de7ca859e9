"""Starts: each becomes a request on the saga's topic, and is answered with 202.

Events: `event_requests`. Verbs: `verb_requests`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, JsonValue
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from sagabus.contracts import codec
from sagabus.contracts.envelope import MAX_PAYLOAD, Headers, Message, source_of
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.requests import raw_message, read_request
from sagabus.coordinator.http import query
from sagabus.coordinator.http.answers import JSON, answer
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.http.start_check import StartCheck
from sagabus.coordinator.http.views import StartAccepted

BODY_SECONDS: Final = 10.0
"""Until the whole body of a request must be there: the largest one needs 90 kB a second."""


class StartBody(BaseModel):
    """id: the same start again is the same saga. With another input it is refused with 409 `start.other_input`, and
    nothing is published.

    Two starts of one id at once may both be accepted: one becomes the saga, the other a dead letter with that code. So
    does another input whose definition this process does not run, or that comes while PostgreSQL is unreachable.
    """

    saga: str
    id: str
    input: JsonValue = None


class SagaRequests:
    """publish: returns when the request is acknowledged. check: of starts; None: they are not checked here."""

    def __init__(
        self, namespace: str, publish: Callable[[Message], Awaitable[None]], check: StartCheck | None = None
    ) -> None:
        self._namespace = namespace
        self._publish = publish
        self._check = check

    async def start(self, request: Request) -> Response:
        allow_unknown = query.allows_unknown(request)
        body = codec.decode(StartBody, await body_of(request), what="body")
        message = self.made({"type": "start", "saga": body.saga, "input": body.input}, body.id)
        ignored: list[str] = []
        if self._check is not None:
            ignored = await self._check.check(
                body.saga, body.id, body.input, message.value or b"", allow_unknown=allow_unknown
            )
        id = await self.publish(message)
        location = {"location": f"/api/v1/sagas/{message.saga_id}"}
        view = StartAccepted(id=message.saga_id, message_id=id, ignored=ignored)
        return answer(view, HTTPStatus.ACCEPTED, location)

    def made(self, asked: dict[str, JsonValue], saga_id: str, message_id: str | None = None) -> Message:
        """The request as a message. Raises MessageInvalid for what would become a dead letter."""
        message = raw_message(
            asked,
            saga_id=saga_id,
            namespace=self._namespace,
            message_id=message_id or uuid.uuid4().hex,
            source=source_of(self._namespace),
            time=time.time_ns() // 1000,
        )
        codec.decode_value(to_json(asked, inf_nan_mode="constants"))  # refuses 1e999, which would go on as null
        read_request(_AsRecord(message))
        return message

    async def publish(self, message: Message) -> str:
        """Its id, once it is acknowledged."""
        await self._publish(message)
        return id_of(message)


def id_of(message: Message) -> str:
    return next(value for name, value in message.headers if name == "ce_id").decode()


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


async def body_of(request: Request) -> bytes:
    """The body, if it is JSON and within bounds: never more than the bounds is read."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "body.not_json", f"send the body with `content-type: {JSON}`")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return codec.checked(await _within_bounds(request))
    except TimeoutError as error:
        message = f"the body is not there after {BODY_SECONDS:g} s; send it at once"
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "body.late", message) from error


async def _within_bounds(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_PAYLOAD:
            raise MessageInvalid("payload.too_large", f"more than {MAX_PAYLOAD} bytes; store it, and send where it is")
    return bytes(data)
