"""What a caller hears when it does not work: `{"error": {"code", "message"}}`, the message with the cure.

Errors of ours and of the world become answers here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from sagabus.contracts.errors import MessageInvalid
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.postgres.database import DatabaseUnreachable

_SOON: Final = {"retry-after": "1"}


class ErrorDetail(BaseModel):
    """code: stable. message: for people, with the cure. kept_requests: of a saga that is not there, how many requests
    came for it and are kept until it is started. message_id: of a verb that was refused. parameter: of the address,
    which has it taken all the same. What does not apply is left out."""

    code: str
    message: str
    kept_requests: int | None = None
    message_id: str | None = None
    parameter: str | None = None


class ErrorView(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """The caller can do something about it, or there is no such thing."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        kept_requests: int | None = None,
        message_id: str | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(
            code=code, message=message, kept_requests=kept_requests, message_id=message_id, parameter=parameter
        )


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _refusal(status, ErrorDetail(code=code, message=message), headers)


def _refusal(status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> Response:
    body = ErrorView(error=detail).model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def closed() -> Response:
    """While the process starts or ends."""
    message = "this coordinator is being started or stopped; ask again, or ask another one. /readyz says more"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "coordinator.closed", message, _SOON)


def full() -> Response:
    """Of a connection, before any request."""
    message = "too many requests wait for an answer of this coordinator; ask again, or ask another one"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "coordinator.full", message, _SOON)


async def _api(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refusal(error.status, error.detail)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, MessageInvalid)
    too_large = error.reason == "payload.too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST
    return refusal(status, error.reason, error.message)


async def _no_database(_: Request, error: Exception) -> Response:
    message = f"{error}; sagas go on when it is back, ask again then"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "database.unreachable", message, _SOON)


async def _no_kafka(_: Request, error: Exception) -> Response:
    message = f"{error}; nothing was changed, ask again when it is back"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "kafka.unreachable", message, _SOON)


async def _maybe_published(_: Request, error: Exception) -> Response:
    message = f"{error}; send it again: an equal start, and an event with the same event_id, count once"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "publish.unknown", message, _SOON)


async def _not_published(_: Request, error: Exception) -> Response:
    assert isinstance(error, PublishRefused)
    too_large = error.reason is Reason.TOO_LARGE
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.SERVICE_UNAVAILABLE
    return refusal(status, f"publish.{error.reason}", f"{error}; nothing was changed")


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    cure = "the addresses are under /api/v1/sagas" if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    return refusal(error.status_code, f"http.{code}", cure, error.headers)


async def _ours(_: Request, __: Exception) -> Response:
    """Starlette raises the error again after this, so that it stands in the log."""
    message = "an internal error of the coordinator; its log has the details"
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message)


HANDLERS: Final[Mapping[type[Exception], ExceptionHandler]] = {
    ApiError: _api,
    MessageInvalid: _invalid,
    DatabaseUnreachable: _no_database,
    KafkaUnreachable: _no_kafka,
    PublishFailed: _maybe_published,
    PublishRefused: _not_published,
    HTTPException: _http,
    Exception: _ours,
}
