"""What became of a command, as bytes for the inbox and the reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, JsonValue
from pydantic_core import PydanticSerializationError
from sqlalchemy.exc import DBAPIError

from sagabus.contracts import codec, names
from sagabus.contracts.activity import Activity
from sagabus.contracts.codec import TOO_LARGE
from sagabus.contracts.errors import MessageInvalid, SagabusError
from sagabus.contracts.event_type import Event
from sagabus.contracts.refusals import failure_body
from sagabus.contracts.replies import (
    HANDLER_ERROR,
    HANDLER_PANICKED,
    HANDLER_TIMED_OUT,
    REPLY_TOO_LARGE,
    ReplyKind,
    read_failure,
)
from sagabus.contracts.words import plain, words_of
from sagabus.participants.handlers.refusal import Refused, TryAgain
from sagabus.participants.handlers.time_limit import HandlerTimedOut

PARTS_TOLD: Final = 5
"""Members of an exception group whose words are sent."""

LONGEST_MESSAGE: Final = 1000
"""Characters of a foreign exception's text in a reply; the whole of it is in the participant's log."""

_VOID: Final = b"null"

logger = logging.getLogger(__name__)


class OutputUnusable(SagabusError):
    """What a handler has returned is no output of its activity: a mistake in its code. What it did is undone.

    The sentence never holds a value.
    """


class WrongOutput(OutputUnusable, TypeError):
    """It has another type, or cannot be written and read back."""


class ReplyTooLarge(OutputUnusable):
    """No broker takes it by default."""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event that a handler gave to `publish`, as it was then."""

    event: Event[BaseModel]
    key: str | None
    body: bytes


@dataclass(slots=True, unsafe_hash=True)
class HandlerOutcome:
    """Of one attempt. events leave before the reply, and only with `completed`. error: what a handler raised.

    Never changed, and not frozen: making a frozen one takes three times as long.
    """

    kind: ReplyKind
    body: bytes
    events: tuple[PublishedEvent, ...] = ()
    error: BaseException | None = field(default=None, compare=False, repr=False)

    @property
    def expected(self) -> bool:
        """Whether the handler meant it."""
        return isinstance(self.error, Refused | TryAgain)


def completed(activity: Activity[..., Any, Any], output: object, events: tuple[PublishedEvent, ...]) -> HandlerOutcome:
    """Raises OutputUnusable."""
    return HandlerOutcome(ReplyKind.COMPLETED, _encoded(activity, output), events)


def failure(kind: ReplyKind, code: str, message: str, details: Mapping[str, JsonValue] | None = None) -> HandlerOutcome:
    """A refusal or a failure of ours."""
    return HandlerOutcome(kind, _failure(code, message, details or {}, None))


def failed(error: BaseException) -> HandlerOutcome:
    """What the saga hears of an exception of a handler. The traceback stays here, for the log. Raises nothing.

    A group of one exception, as a TaskGroup raises it, is that exception.
    """
    error = _sole(error)
    if isinstance(error, Refused | TryAgain):
        with suppress(Exception):  # a subclass whose __init__ has not called ours, or whose details cannot be written
            return _meant(error)
    code = _code(error)
    return HandlerOutcome(
        ReplyKind.FAILED, _failure(code, told(error), {"type": type(error).__name__}, None), error=error
    )


def _meant(error: Refused | TryAgain) -> HandlerOutcome:
    code = _own_code(error)
    if isinstance(error, Refused):
        return HandlerOutcome(ReplyKind.REFUSED, _failure(code, error.message, error.details, None), error=error)
    return HandlerOutcome(ReplyKind.FAILED, _failure(code, error.message, error.details, error.after), error=error)


def _own_code(error: Refused | TryAgain) -> str:
    """The handler's, as it may be sent: no coordinator takes a code that is no token, or one of ours."""
    given = words_of(error.code)
    code = names.fitting_code(given)
    if code != given:
        shown = plain(given, most=names.LONGEST_CODE)
        logger.warning("%s has the code %r, and is sent as %s: give %s", type(error).__name__, shown, code, names.CODES)
    return code


def _code(error: BaseException) -> str:
    if isinstance(error, ReplyTooLarge):
        return REPLY_TOO_LARGE
    if isinstance(error, HandlerTimedOut):
        return HANDLER_TIMED_OUT
    meant = isinstance(error, Exception | asyncio.CancelledError)
    return HANDLER_ERROR if meant else HANDLER_PANICKED


def _sole(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _encoded(activity: Activity[..., Any, Any], output: object) -> bytes:
    wanted: type[BaseModel] | None = activity.output
    if wanted is None and output is None:
        return _VOID
    if wanted is None or not (type(output) is wanted or isinstance(output, wanted)):  # a model takes long to ask
        raise WrongOutput(f"its handler returned {_kind(output)}, its contract says {_kind_named(wanted)}")
    try:
        return codec.encode_as(wanted, output, what=f"the output of {activity.name}")
    except MessageInvalid as fault:
        if fault.reason != TOO_LARGE:
            raise WrongOutput(fault.message) from fault
        raise ReplyTooLarge(f"the output of {activity.name} has {fault.message}: return a reference to it") from fault
    except PydanticSerializationError as fault:
        raise WrongOutput(f"the output of {activity.name} cannot be written: {fault}") from fault


def _kind(output: object) -> str:
    """Its type, never its value."""
    return "nothing (None)" if output is None else _kind_named(type(output))


def _kind_named(kind: type | None) -> str:
    return "nothing (None)" if kind is None else f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"


def _failure(code: str, message: object, details: Mapping[str, JsonValue], again_after: float | None) -> bytes:
    """The body of a `Failure`, such as the coordinator reads."""
    body = failure_body(code, message, details, again_after=again_after)
    if details and not read_failure(body).details:
        logger.warning("a failure (%s) is sent without its details: they are too large", code)
    return body


def told(error: BaseException) -> str:
    """What it says, or what it is where it says nothing (TimeoutError); both for a KeyError, which says the key alone.

    Without the statement and its parameters, which SQLAlchemy adds: they may hold what is nobody's business.
    """
    return named(error) if isinstance(error, KeyError) else _text(error) or type(error).__name__


def named(error: BaseException) -> str:
    """Its type, and what it says."""
    return f"{type(error).__name__}: {_text(error) or type(error).__name__}"


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        parts = [named(part) for part in error.exceptions[:PARTS_TOLD]]
        return plain("; ".join([words_of(error), *parts]), most=LONGEST_MESSAGE)
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return words_of(said, most=LONGEST_MESSAGE)
