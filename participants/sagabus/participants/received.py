"""A record of the command topic, read as far as it can be understood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from sagabus.contracts import names
from sagabus.contracts.commands import CommandHead, read_command
from sagabus.contracts.envelope import Headers, Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.messaging.shards.tenure import Tenure

Key = tuple[str, str]
"""Of an inbox row: source and command id."""


class ReceivedCommand(NamedTuple):
    """key: of its inbox row. body: as it came; b"" for a record without a value. digest: of the body, for P6."""

    head: CommandHead
    key: Key
    body: bytes
    digest: bytes


class Received(NamedTuple):
    """A record with its command, or with what is wrong with it."""

    tenure: Tenure
    record: Record
    command: ReceivedCommand | MessageInvalid


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A command as its inbox row keeps it; where it stood in Kafka is not known any more."""

    value: bytes
    headers: Headers
    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None


def received(tenure: Tenure, record: Record) -> Received:
    try:
        given = command(record)
        _check_reply_topic(given.head.reply_topic, record.topic)
        return Received(tenure, record, given)
    except MessageInvalid as fault:
        return Received(tenure, record, fault)


@lru_cache(maxsize=1_024)
def _check_reply_topic(reply_topic: str, topic: str) -> None:
    """Whoever may write commands must not have us write to any topic at all. Raises MessageInvalid."""
    service = topic.removesuffix(".commands")
    if not names.answers_for(service, reply_topic):
        raise MessageInvalid(
            "command.reply_topic",
            f"ce_replyto is {reply_topic!r}: {service} answers on <namespace>.replies.{service} alone",
        )


def command(record: Record) -> ReceivedCommand:
    """Raises MessageInvalid."""
    head = read_command(record)
    body = record.value or b""
    return ReceivedCommand(head, (head.source, head.inbox_id), body, blake2b(body, digest_size=16).digest())
