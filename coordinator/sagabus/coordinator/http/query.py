"""What stands in the address of a request. Every fault is an answer with the cure, none is guessed away."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import AwareDatetime, TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request

from sagabus.contracts import names
from sagabus.contracts.envelope import microseconds
from sagabus.contracts.errors import DeclarationError, MessageInvalid
from sagabus.contracts.headers import LONGEST
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http.refusals import ApiError
from sagabus.coordinator.http.request_answers import ANSWER_SECONDS
from sagabus.coordinator.store.attribute_search import NAME, Wanted
from sagabus.coordinator.store.operators import MAX_PAGE
from sagabus.coordinator.store.saga_list import Filter, ListCursor
from sagabus.coordinator.store.tables import OPEN
from sagabus.coordinator.store.wire import LATEST

MAX_WAIT: Final = 60.0
"""Seconds of one long poll: under the idle limits of common proxies."""

DEFAULT_LIMIT: Final = 50

MOST_WANTED: Final = 8
"""Attributes that a list asks for."""

_PLACE: Final = TypeAdapter(ListCursor)
_TIME: Final = TypeAdapter(AwareDatetime)
_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")


@dataclass(frozen=True, slots=True)
class ListQuery:
    wanted: Filter
    limit: int
    after: ListCursor | None
    service: str | None
    """Only open sagas that wait for this service, or of which that is not known."""

    @property
    def is_of_none(self) -> bool:
        """Closed sagas wait for no service."""
        return self.service is not None and not self.wanted.statuses

    @classmethod
    def read(cls, request: Request) -> ListQuery:
        service = _service(request)
        statuses = [_status(text) for text in request.query_params.getlist("status")]
        wanted = Filter(
            statuses=statuses if service is None else [one for one in statuses or OPEN if one in OPEN],
            definition=text(request, "saga"),
            attention=_flag(request, "attention"),
            concern=_concern(request),
            paused=_flag(request, "paused"),
            id_prefix=_prefix(request),
            started_before=_before(request, "started_before"),
            updated_before=_before(request, "updated_before"),
            error=text(request, "error"),
            attributes=_attributes(request),
        )
        return cls(wanted, limit(request), _place(request), service)


def saga_id(request: Request) -> str:
    """Raises MessageInvalid."""
    return names.saga_id(request.path_params["id"])


def text(request: Request, name: str) -> str | None:
    """None if it is not given. PostgreSQL's text holds no NUL."""
    given = request.query_params.get(name)
    if given is not None and "\0" in given:
        raise _wrong(name, given.replace("\0", "\\0"), "give text without NUL")
    return given


def request_id(request: Request) -> str:
    """In the path. Raises ApiError for what can be none."""
    given: str = request.path_params["request"]
    if "\0" in given or len(given) > LONGEST or not given.isprintable():
        raise _wrong("request", ascii(given), f"give the id of a request: at most {LONGEST} characters")
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


def answer_seconds(request: Request) -> float:
    """`wait` of a verb: 0 for no waiting at all."""
    return seconds(request) if "wait" in request.query_params else ANSWER_SECONDS


def allows_unknown(request: Request) -> bool:
    """`unknown=allow`: a start of a definition that no coordinator runs yet."""
    given = request.query_params.get("unknown", "refuse")
    if given not in ("allow", "refuse"):
        raise _wrong("unknown", given, "give allow or refuse")
    return given == "allow"


def takes_near_name(request: Request) -> bool:
    """`name=near`: the name of an event may be given in part, and one that nothing waits for is refused."""
    given = request.query_params.get("name", "exact")
    if given not in ("near", "exact"):
        raise _wrong("name", given, "give near or exact")
    return given == "near"


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


def _concern(request: Request) -> ConcernKind | None:
    given = request.query_params.get("concern")
    try:
        return None if given is None else ConcernKind(given)
    except ValueError as error:
        raise _wrong("concern", given or "", f"give one of {', '.join(ConcernKind)}") from error


def _prefix(request: Request) -> str:
    given = request.query_params.get("id_prefix", "")
    try:
        return names.saga_id(given) if given else ""
    except MessageInvalid as error:
        raise _wrong("id_prefix", given, "give the beginning of a saga id") from error


def _service(request: Request) -> str | None:
    given = request.query_params.get("service")
    try:
        return None if given is None else names.service_name(given)
    except DeclarationError as error:
        raise _wrong("service", given or "", str(error)) from error


def _before(request: Request, name: str) -> int | None:
    """A time, or an age as of now: microseconds since 1970."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if age := _AGE.fullmatch(given):
        return max(0, time.time_ns() // 1_000 - int(age[1]) * _SECONDS[age[2]] * 1_000_000)
    try:
        at = _TIME.validate_python(given)
        if 0 <= microseconds(at) <= LATEST:
            return microseconds(at)
    except ValueError:
        pass
    raise _wrong(name, given, "give an age with its unit (90s, 30m, 2h, 7d) or a time (2026-01-31T12:00:00Z)")


def _attributes(request: Request) -> tuple[Wanted, ...]:
    given = request.query_params.getlist("where")
    if len(given) > MOST_WANTED:
        raise _wrong("where", f"{len(given)} of them", f"give at most {MOST_WANTED}")
    return tuple(map(_attribute, given))


def _attribute(given: str) -> Wanted:
    name, sign, value = given.partition("=")
    if not sign or not NAME.fullmatch(name) or "\0" in value or not value.isprintable():
        shown = given.replace("\0", "\\0")
        raise _wrong("where", shown, "give the name of an attribute and its value, as in stage=waiting")
    return Wanted(name, value)


def _flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "false").lower()
    if given not in (*_TRUE, *_FALSE):
        raise _wrong(name, given, "give true or false")
    return given in _TRUE


def _wrong(name: str, text: str, cure: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, f"query.{name}", f"{name}={text[:60]}: {cure}")
