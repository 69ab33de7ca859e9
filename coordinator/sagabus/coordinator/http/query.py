"""What stands in the address of a request. Every fault is an answer with the cure, none is guessed away."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request

from sagabus.contracts import names
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.store.operators import MAX_PAGE, Filter, ListCursor
from sagabus.coordinator.store.wire import LATEST

MAX_WAIT: Final = 60.0
"""Seconds of one long poll: under the idle limits of common proxies."""

DEFAULT_LIMIT: Final = 50

_PLACE: Final = TypeAdapter(ListCursor)
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")


@dataclass(frozen=True, slots=True)
class ListQuery:
    wanted: Filter
    limit: int
    after: ListCursor | None

    @classmethod
    def read(cls, request: Request) -> ListQuery:
        wanted = Filter(
            statuses=[_status(text) for text in request.query_params.getlist("status")],
            definition=text(request, "saga"),
            attention=_flag(request, "attention"),
        )
        return cls(wanted, limit(request), _place(request))


def saga_id(request: Request) -> str:
    """Raises MessageInvalid."""
    return names.saga_id(request.path_params["id"])


def text(request: Request, name: str) -> str | None:
    """None if it is not given. PostgreSQL's text holds no NUL."""
    given = request.query_params.get(name)
    if given is not None and "\0" in given:
        raise _wrong(name, given.replace("\0", "\\0"), "give text without NUL")
    return given


def run(request: Request) -> str | None:
    """Of a saga that has several; None for the open one, else the newest."""
    return text(request, "run")


def seconds(request: Request) -> float:
    """`wait`: 0 to MAX_WAIT; longer ones are cut, since the caller asks again anyway."""
    given = request.query_params.get("wait", "0")
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise _wrong("wait", given, f"give seconds, 0 to {MAX_WAIT:g}")
    return min(value, MAX_WAIT)


def limit(request: Request) -> int:
    value = number(request, "limit", DEFAULT_LIMIT)
    if not 1 <= value <= MAX_PAGE:
        raise _wrong("limit", str(value), f"give 1 to {MAX_PAGE}")
    return value


def number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise _wrong(name, given, "give a whole number")
    return int(given)


def cursor(place: ListCursor) -> str:
    """Opaque to callers, and harmless: it says where to go on, not what may be seen."""
    return urlsafe_b64encode(to_json(place)).decode().rstrip("=")


def _place(request: Request) -> ListCursor | None:
    given = request.query_params.get("cursor")
    if not given:
        return None
    try:
        place = _PLACE.validate_json(urlsafe_b64decode(given + "=" * (-len(given) % 4)), strict=True)
        if not 0 <= place.started_at <= LATEST or "\0" in place.id + place.run:
            raise ValueError("no saga can stand there")
    except ValueError as error:
        raise _wrong("cursor", given, "give `next` of the page before, as it came") from error
    return place


def _status(text: str) -> SagaStatus:
    try:
        return SagaStatus(text)
    except ValueError as error:
        raise _wrong("status", text, f"give one of {', '.join(SagaStatus)}") from error


def _flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "false").lower()
    if given not in (*_TRUE, *_FALSE):
        raise _wrong(name, given, "give true or false")
    return given in _TRUE


def _wrong(name: str, text: str, cure: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, f"query.{name}", f"{name}={text[:60]}: {cure}")
