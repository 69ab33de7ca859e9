"""A record in the wrong partition is sent on to the right one, once (S12).

Partition n of every topic belongs to shard n, and a saga's shard is murmur2 of its id. kcat and librdkafka hash keys by
CRC32: their records land anywhere.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts.envelope import Headers, Message, Record
from sagabus.messaging.publishing.dead_letter import text_of
from sagabus.messaging.publishing.kept_part import bytes_of

FORWARDED: Final = "ce_forwarded"

MOST_HEADERS: Final = 64 * 1024
"""Bytes of all headers of a record that is forwarded. With the largest value it still fits into 1 MiB, which is what
brokers take: one that came compressed may have megabytes, and would park what its saga sends (S8)."""


def fits(record: Record) -> bool:
    """Whether its headers leave it small enough to be sent once more."""
    return bytes_of(record.headers) <= MOST_HEADERS


def forwarded(record: Record, to_partition: int, *, saga_id: str | None = None) -> Message | None:
    """The same record for another partition of its topic; None if it was forwarded already: a dead letter.

    Key, value and headers are kept. `ce_forwarded` says where it was found, and is its `ce_id` too where it had none:
    so copies are known as copies. `saga_id`: whose it is, if the key does not say.
    """
    headers = dict(record.headers)
    if FORWARDED in headers:
        return None
    found = f"{record.topic}:{record.partition}:{record.offset}".encode()
    kept: Headers = tuple(record.headers)
    if not headers.get("ce_id"):  # an empty one beside it would be another value of it
        kept = (*(header for header in kept if header[0] != "ce_id"), ("ce_id", found))
    owner = text_of(record.key or b"") if saga_id is None else saga_id
    return Message.of(record.topic, record.key, record.value, (*kept, (FORWARDED, found)), owner, to_partition)
