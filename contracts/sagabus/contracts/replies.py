"""A reply on the wire: from a participant to the topic and partition that its command named."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, Field, JsonValue

from sagabus.contracts import codec, names
from sagabus.contracts.commands import CommandHead
from sagabus.contracts.envelope import Message, common_headers, own_headers

HANDLER_ERROR: Final = "sagabus.handler_error"
HANDLER_PANICKED: Final = "sagabus.handler_panicked"
"""A handler raised what is no Exception, as a library in another language does when it panics: a failed attempt, and
its saga needs operator attention."""
RETRIES_EXHAUSTED: Final = "sagabus.retries_exhausted"
INBOX_EXPIRED: Final = "sagabus.inbox_expired"
ID_REUSED: Final = "sagabus.id_reused"
INPUT_INVALID: Final = "sagabus.input_invalid"
NO_HANDLER: Final = "sagabus.no_handler"
TOMBSTONE: Final = "sagabus.settled_as_never"

_PREFIX: Final = "sagabus.reply."


class ReplyKind(StrEnum):
    """completed: the output follows. refused: a business rejection, final. failed: this attempt failed, another may
    follow. never: settled, it has not happened and never will."""

    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    NEVER = "never"


class Failure(BaseModel):
    """Why not. again_after: seconds; set where one more is asked for and this one is not counted as a failure."""

    code: str
    message: str = ""
    details: Mapping[str, JsonValue] = Field(default_factory=dict)
    again_after: float | None = Field(default=None, allow_inf_nan=False)


REPLY_TYPES: Final = {_PREFIX + kind.value: kind for kind in ReplyKind}
"""By `ce_type`."""


def read_failure(body: bytes | None) -> Failure:
    """Raises MessageInvalid."""
    return codec.decode(Failure, body, what="failure")


def reply_message(
    command: CommandHead, kind: ReplyKind, body: bytes, *, attempt: int, source: bytes, time: int
) -> Message:
    """Copies what the coordinator needs to find the saga again. attempt: that of the stored outcome."""
    headers = (
        *own_headers(
            common_headers(source, command.saga_id),
            id=names.reply_id(command.id, attempt),
            type=_PREFIX + kind,
            time=time,
            cause=command.id,
        ),
        ("ce_attempt", b"%d" % attempt),
        ("ce_run", command.run.encode()),
        *command.trace,
    )
    key = command.saga_id.encode()
    return Message(command.reply_topic, key, body, headers, command.saga_id, command.reply_partition)
