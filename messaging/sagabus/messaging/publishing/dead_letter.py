"""Dead letters: a record that cannot be understood, kept as a row and as a record on the dead-letter topic.

Both are written in the transaction that moves past the record, so that none is dropped and none stops a partition. Key,
value and headers go over byte for byte; what is added is in the headers `x-dlt-*`. `dead_letter_rows` reads the rows.
Of a record that is larger than any that Kafka takes by default, the row keeps the beginning (`kept_part`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sagabus.contracts.envelope import MAX_PAYLOAD, Headers, Message, Record, pack_headers, rfc3339
from sagabus.contracts.words import plain
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.text import storable
from sagabus.messaging.publishing.kept_part import kept, size_of, too_large

COLUMNS: Final = (
    "shard", "reason", "message", "topic", "partition", "offset", "timestamp", "key", "headers", "value",
)  # fmt: skip

LONGEST_KEY: Final = 1_000
"""Bytes of the key of a copy without value: longer than any saga id."""

DeadLetterRow = tuple[int, str, str, str, int, int, int, bytes | None, bytes, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Where dead letters go, and who speaks: the service's name, for `x-dlt-by`."""

    topic: str
    by: str

    def message(self, record: Record, *, reason: str, message: str, at: int) -> Message:
        """The record for the dead-letter topic. `at` in microseconds since 1970, as of the turn.

        The key is the record's, so letters of one saga stay in order. `saga_id` is nobody's: anyone may send a record
        with the key of a saga, and a letter that cannot be published must not park what that saga sends. A record that
        is too large for a copy with more headers is copied without its value and headers; the row has all of it.
        """
        added = (
            ("reason", reason),
            ("message", plain(message)),
            ("topic", record.topic),
            ("partition", str(record.partition)),
            ("offset", str(record.offset)),
            ("timestamp", str(record.timestamp)),
            ("by", self.by),
        )
        letter: Headers = tuple((f"x-dlt-{name}", value.encode(errors="replace")) for name, value in added)
        nobody = f"dead letter {record.topic}:{record.partition}:{record.offset}"
        last = (*letter, ("x-dlt-at", rfc3339(at)))
        size = size_of(record)
        if size <= MAX_PAYLOAD:
            return Message.of(self.topic, record.key, record.value, (*record.headers, *last), nobody)
        omitted = ("x-dlt-omitted", f"value and headers, {size} bytes; {_where(record)}".encode(errors="replace"))
        key = record.key if record.key and len(record.key) <= LONGEST_KEY else None
        return Message.of(self.topic, key, None, (*last, omitted), nobody)


def row_of(shard: int, record: Record, *, reason: str, message: str) -> DeadLetterRow:
    """The row of a dead letter, headers packed: made before the transaction begins (S4)."""
    key, headers, value = kept(record)
    place = (record.topic, record.partition, record.offset, record.timestamp)
    return (shard, storable(reason), storable(plain(message)), *place, key, pack_headers(headers), value)


async def append(connection: Connection, schema: str, rows: Sequence[DeadLetterRow]) -> None:
    """All rows by one COPY."""
    await connection.copy_records_to_table("dead_letter", schema_name=schema, columns=COLUMNS, records=rows)


def text_of(key: bytes) -> str:
    """A record's key as text that PostgreSQL takes; what is not UTF-8, or NUL, becomes U+FFFD."""
    return storable(key.decode(errors="replace"))


def _where(record: Record) -> str:
    if not too_large(record):
        return "the row in dead_letter has them"
    place = f"{record.topic}:{record.partition}:{record.offset}"
    return f"the row in dead_letter has their beginning, and {place} the whole, as long as Kafka keeps it"
