"""A reply on the wire: from a participant to the topic and partition that its command named.

The value of a reply `refused` or `failed` says why. Anybody's bytes come in here: what fits is kept as it came, what
does not is kept as a failure that says so. So nothing behind this judges it again, and a history means the same to
all releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, Strict

from sagabus.contracts import codec, names
from sagabus.contracts.commands import CommandHead
from sagabus.contracts.envelope import Message, common_bytes, number_bytes, time_bytes, trace_bytes
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.record_bytes import header, header_start, varint
from sagabus.contracts.words import MAX_WORDS, plain

HANDLER_ERROR: Final = "sagabus.handler_error"
HANDLER_PANICKED: Final = "sagabus.handler_panicked"
"""A handler raised what is no Exception, as a library in another language does when it panics: a failed attempt, and
its saga needs operator attention."""
HANDLER_TIMED_OUT: Final = "sagabus.handler_timed_out"
"""A handler ran for longer than its time limit: a failed attempt."""
INBOX_EXPIRED: Final = "sagabus.inbox_expired"
ID_REUSED: Final = "sagabus.id_reused"
INPUT_INVALID: Final = "sagabus.input_invalid"
NO_HANDLER: Final = "sagabus.no_handler"
REPLY_TOO_LARGE: Final = "sagabus.reply_too_large"
TOMBSTONE: Final = "sagabus.settled_as_never"
RETRIES_EXHAUSTED: Final = "sagabus.retries_exhausted"
"""The coordinator's own: a step has no attempts left."""
FAILURE_UNREADABLE: Final = "sagabus.failure_unreadable"
"""The coordinator's own: what a participant sent as its failure does not fit."""

SHOWN: Final = 200
"""Bytes of a failure that does not fit, which are kept."""

_PREFIX: Final = "sagabus.reply."


class ReplyKind(StrEnum):
    """completed: the output follows. refused: a business rejection, final. failed: this attempt failed, another may
    follow. never: settled, it has not happened and never will."""

    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    NEVER = "never"


OF_PARTICIPANTS: Final[Mapping[str, ReplyKind]] = MappingProxyType({
    HANDLER_ERROR: ReplyKind.FAILED,
    HANDLER_PANICKED: ReplyKind.FAILED,
    HANDLER_TIMED_OUT: ReplyKind.FAILED,
    INPUT_INVALID: ReplyKind.REFUSED,
    NO_HANDLER: ReplyKind.FAILED,
    REPLY_TOO_LARGE: ReplyKind.FAILED,
    ID_REUSED: ReplyKind.FAILED,
    INBOX_EXPIRED: ReplyKind.FAILED,
    TOMBSTONE: ReplyKind.REFUSED,
})  # fmt: skip
"""The codes of ours that a participant may send, each with the one kind of reply that it goes with."""


class Failure(BaseModel):
    """Why not. again_after: seconds; set where one more is asked for and this one is not counted as a failure.

    A message or details of null, as other languages write what is empty, count as left out.
    """

    code: str
    message: Annotated[str, BeforeValidator(lambda given: "" if given is None else given)] = ""
    details: Annotated[Mapping[str, JsonValue], BeforeValidator(lambda given: {} if given is None else given)] = Field(
        default_factory=dict
    )
    again_after: float | None = Field(default=None, allow_inf_nan=False)


class _Sent(Failure):
    """As it has to be on the wire: a number in quotes is none."""

    again_after: Annotated[float, Strict()] | None = Field(default=None, allow_inf_nan=False)


REPLY_TYPES: Final = {_PREFIX + kind.value: kind for kind in ReplyKind}
"""By `ce_type`."""


def read_failure(body: bytes | None) -> Failure:
    """With whatever code: histories and inboxes hold what older releases took. Raises MessageInvalid."""
    return codec.decode(Failure, body, what="failure")


def kept_failure(kind: ReplyKind, body: bytes | None) -> bytes | None:
    """What history keeps of a failure that comes in: the bytes as they came, with a message that has an end.

    In place of one that does not fit: FAILURE_UNREADABLE, what is wrong in words, and the beginning of what came.
    """
    try:
        failure = codec.decode(_Sent, body, what="failure")
        if wrong := _unfit(kind, failure.code):
            raise MessageInvalid("payload.invalid", f"failure: code: {wrong}")
    except MessageInvalid as fault:
        came = (body or b"")[:SHOWN].decode(errors="replace")
        return _encoded(Failure(code=FAILURE_UNREADABLE, message=plain(fault.message), details={"value": came}))
    if len(failure.message) <= MAX_WORDS:
        return body
    return _encoded(failure.model_copy(update={"message": plain(failure.message)}))


def _encoded(failure: Failure) -> bytes:
    return codec.encode_value(failure.model_dump(mode="json"))


def _unfit(kind: ReplyKind, code: str) -> str:
    """What is wrong with a code, in words; empty for one that fits."""
    if not names.is_code(code):
        return f"{plain(code, most=names.LONGEST_CODE)!r} is none; a participant's own has {names.CODES}"
    if names.is_own_code(code) and OF_PARTICIPANTS.get(code) is not kind:
        return f"{code} does not go with {kind.value!r}; a participant's own has {names.CODES}"
    return ""


def reply_message(
    command: CommandHead, kind: ReplyKind, body: bytes, *, attempt: int, source: bytes, time: int
) -> Message:
    """Copies what the coordinator needs to find the saga again. attempt: that of the stored outcome."""
    saga, id, run, trace = command.saga_id.encode(), command.id.encode(), command.run.encode(), command.trace
    form = _form(source, attempt, len(saga), len(id), len(run), len(trace))
    key, subject, correlation, reply, attempted, cause, ran = form
    record = b"".join((
        key, saga, varint(len(body)), body, subject, saga, correlation, saga, reply, id, attempted, _told(kind, time),
        cause, id, ran, run, *trace_bytes(trace),
    ))  # fmt: skip
    return Message(command.reply_topic, command.saga_id, command.reply_partition, record)


# What stands between the values of a command in its reply is the same wherever these values are as long.


@lru_cache(maxsize=4_096)
def _form(source: bytes, attempt: int, saga: int, id: int, run: int, trace: int) -> tuple[bytes, ...]:
    """What stands before the key, the subject, the correlation, the reply's id, its type, its cause and its run.

    saga, id, run: their bytes. trace: how many headers there are of it.
    """
    before, own = common_bytes(source, "")[:-2], names.reply_id("", attempt).encode()
    count = len(before) + _BEHIND_SOURCE + trace
    return (
        varint(saga),
        b"".join((varint(count), *before, header_start("ce_subject", saga))),
        header_start("ce_correlationid", saga),
        header_start("ce_id", id + len(own)),
        own,
        header_start("ce_causationid", id),
        number_bytes("ce_attempt", attempt) + header_start("ce_run", run),
    )


_BEHIND_SOURCE: Final = 8
"""Headers of a reply from `ce_subject` to `ce_run`."""


@lru_cache(maxsize=1_024)
def _told(kind: ReplyKind, time: int) -> bytes:
    """Type and time."""
    return header("ce_type", (_PREFIX + kind).encode()) + time_bytes("ce_time", time)
