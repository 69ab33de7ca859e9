"""Dead letters: a record that cannot be understood, kept as a row and as a record on the dead-letter topic.

Both are written in the transaction that moves past the record, so that none is dropped and none stops a partition. Key,
value and headers go over byte for byte; what is added is in the headers `x-dlt-*`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sagabus.contracts.envelope import Headers, Message, Record, pack_headers, rfc3339
from sagabus.messaging.database import Connection

COLUMNS: Final = (
    "shard", "reason", "message", "topic", "partition", "offset", "timestamp", "key", "headers", "value",
)  # fmt: skip

Row = tuple[int, str, str, str, int, int, int, bytes | None, bytes, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Where dead letters go, and who speaks: the service's name, for `x-dlt-by`."""

    topic: str
    by: str

    def message(self, record: Record, *, reason: str, message: str, at: int) -> Message:
        """The record for the dead-letter topic. `at` in microseconds since 1970, as of the turn.

        The key is the record's, so letters of one saga stay in order; `saga_id` is the key as far as it is text.
        """
        added = (
            ("reason", reason),
            ("message", message),
            ("topic", record.topic),
            ("partition", str(record.partition)),
            ("offset", str(record.offset)),
            ("timestamp", str(record.timestamp)),
            ("by", self.by),
        )
        letter: Headers = tuple((f"x-dlt-{name}", value.encode(errors="replace")) for name, value in added)
        headers = (*record.headers, *letter, ("x-dlt-at", rfc3339(at)))
        return Message(self.topic, record.key, record.value, headers, text_of(record.key or b""))


def row_of(shard: int, record: Record, *, reason: str, message: str) -> Row:
    """The row of a dead letter, headers packed: made before the transaction begins (S4)."""
    headers = pack_headers(record.headers)
    place = (record.topic, record.partition, record.offset, record.timestamp)
    return (shard, _storable(reason), _storable(message), *place, record.key, headers, record.value)


async def append(connection: Connection, schema: str, rows: Sequence[Row]) -> None:
    """All rows by one COPY."""
    await connection.copy_records_to_table("dead_letter", schema_name=schema, columns=COLUMNS, records=rows)


def text_of(key: bytes) -> str:
    """A record's key as text that PostgreSQL takes; what is not UTF-8, or NUL, becomes U+FFFD."""
    return _storable(key.decode(errors="replace"))


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
