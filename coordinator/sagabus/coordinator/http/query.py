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
from sagabus.coordinator.store.operators import MAX_PAGE, Filter, Place

MAX_WAIT: Final = 60.0
"""Seconds of one long poll: under the idle limits of common proxies."""

DEFAULT_LIMIT: Final = 50

_PLACE: Final = TypeAdapter(Place)
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")


@dataclass(frozen=True, slots=True)
class ListQuery:
    wanted: Filter
    limit: int
    after: Place | None

    @classmethod
    def read(cls, request: Request) -> ListQuery:
        wanted = Filter(
            statuses=[_status(text) for text in request.query_params.getlist("status")],
            definition=request.query_params.get("saga"),
            attention=_flag(request, "attention"),
        )
        return cls(wanted, limit(request), _place(request))


def saga_id(request: Request) -> str:
    """Raises MessageInvalid."""
    return names.saga_id(request.path_params["id"])


def seconds(request: Request) -> float:
    """`wait`: 0 to MAX_WAIT; longer ones are cut, since the caller asks again anyway."""
    text = request.query_params.get("wait", "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise _wrong("wait", text, f"give seconds, 0 to {MAX_WAIT:g}")
    return min(value, MAX_WAIT)


def limit(request: Request) -> int:
    value = number(request, "limit", DEFAULT_LIMIT)
    if not 1 <= value <= MAX_PAGE:
        raise _wrong("limit", str(value), f"give 1 to {MAX_PAGE}")
    return value


def number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _wrong(name, text, "give a whole number")
    return int(text)


def cursor(place: Place) -> str:
    """Opaque to callers, and harmless: it says where to go on, not what may be seen."""
    return urlsafe_b64encode(to_json(place)).decode().rstrip("=")


def _place(request: Request) -> Place | None:
    text = request.query_params.get("cursor")
    if not text:
        return None
    try:
        return _PLACE.validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)), strict=True)
    except ValueError as error:
        raise _wrong("cursor", text, "give `next` of the page before, as it came") from error


def _status(text: str) -> SagaStatus:
    try:
        return SagaStatus(text)
    except ValueError as error:
        raise _wrong("status", text, f"give one of {', '.join(SagaStatus)}") from error


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in (*_TRUE, *_FALSE):
        raise _wrong(name, text, "give true or false")
    return text in _TRUE


def _wrong(name: str, text: str, cure: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, f"query.{name}", f"{name}={text[:60]}: {cure}")
