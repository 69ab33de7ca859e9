"""What became of a command, as bytes for the inbox and the reply."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, JsonValue
from sqlalchemy.exc import DBAPIError

from sagabus.contracts import codec
from sagabus.contracts.activity import Activity
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.errors import SagabusError
from sagabus.contracts.event import Event
from sagabus.contracts.replies import HANDLER_ERROR, ReplyKind
from sagabus.participants.handlers.refusal import Refused, TryAgain

REPLY_TOO_LARGE: Final = "sagabus.reply_too_large"

LONGEST_MESSAGE: Final = 1000
"""Characters of a foreign exception's text in a reply; the whole of it is in the participant's log."""

_VOID: Final = b"null"

logger = logging.getLogger(__name__)


class ReplyTooLarge(SagabusError):
    """An output that no broker takes by default. What the handler did is undone."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event that a handler gave to `publish`, as it was then."""

    event: Event[BaseModel]
    key: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one attempt. events leave before the reply, and only with `completed`. error: what a handler raised."""

    kind: ReplyKind
    body: bytes
    events: tuple[Published, ...] = ()
    error: BaseException | None = field(default=None, compare=False, repr=False)

    @property
    def expected(self) -> bool:
        """Whether the handler meant it."""
        return isinstance(self.error, Refused | TryAgain)


def completed(activity: Activity[..., Any, Any], output: object, events: tuple[Published, ...]) -> Outcome:
    """Raises TypeError for an output of another type, ReplyTooLarge, pydantic_core.PydanticSerializationError."""
    return Outcome(ReplyKind.COMPLETED, _encoded(activity, output), events)


def failure(kind: ReplyKind, code: str, message: str, details: Mapping[str, JsonValue] | None = None) -> Outcome:
    """A refusal or a failure of ours."""
    return Outcome(kind, _failure(code, message, details or {}, None))


def failed(error: BaseException) -> Outcome:
    """What the saga hears of an exception of a handler. The traceback stays here, for the log."""
    if isinstance(error, Refused):
        return Outcome(ReplyKind.REFUSED, _failure(error.code, error.message, error.details, None), error=error)
    if isinstance(error, TryAgain):
        return Outcome(ReplyKind.FAILED, _failure(error.code, error.message, error.details, error.after), error=error)
    code = REPLY_TOO_LARGE if isinstance(error, ReplyTooLarge) else HANDLER_ERROR
    body = _failure(code, _text(error), {"type": type(error).__name__}, None)
    return Outcome(ReplyKind.FAILED, body, error=error)


def _encoded(activity: Activity[..., Any, Any], output: object) -> bytes:
    if activity.output is None:
        if output is not None:
            raise TypeError(f"{activity.name} has no output, but its handler returned a {type(output).__name__}")
        return _VOID
    if not isinstance(output, activity.output):
        wanted = activity.output.__name__
        raise TypeError(f"the handler of {activity.name} returned a {type(output).__name__}, not a {wanted}")
    body = codec.encode(output)
    if len(body) > MAX_PAYLOAD:
        raise ReplyTooLarge(
            f"the output of {activity.name} has {len(body)} bytes, the limit is {MAX_PAYLOAD}: return a reference to it"
        )
    return body


def _failure(code: str, message: str, details: Mapping[str, JsonValue], again_after: float | None) -> bytes:
    """The body of a `Failure`. Details may hold whatever pydantic can write as JSON; what it cannot is sent as text."""
    whole = {"code": str(code), "message": str(message), "details": details, "again_after": again_after}
    try:
        body = codec.encode_value(whole)
    except ValueError:  # of pydantic_core: it does not know the type
        body = codec.encode_value({**whole, "details": {name: str(value) for name, value in details.items()}})
    if len(body) <= MAX_PAYLOAD:
        return body
    logger.warning("a failure of %d bytes (%s) is sent without its details; limit %d", len(body), code, MAX_PAYLOAD)
    return codec.encode_value({**whole, "message": message[:LONGEST_MESSAGE], "details": {}})


def _text(error: BaseException) -> str:
    """Without the statement and its parameters, which SQLAlchemy adds: they may hold what is nobody's business."""
    text = str(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
