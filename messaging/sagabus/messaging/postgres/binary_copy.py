"""PostgreSQL's binary COPY format, for rows that are made before the transaction begins (S4).

The format is PostgreSQL's documentation of COPY, "Binary Format": a signature, then for each row the number of columns,
and each value as length and bytes, all in network order; -1 is the length of NULL. Rows are made so and not by asyncpg,
because a process that is stopped within COPY holds its shards' rows: nothing should be left to compute there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

from sagabus.messaging.postgres.database import Connection

LENGTH: Final = struct.Struct(">i")
NULL: Final = LENGTH.pack(-1)

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_END: Final = struct.pack(">h", -1)


def text(value: str) -> bytes:
    """A value of type text. It must have no NUL."""
    data = value.encode()
    return LENGTH.pack(len(data)) + data


def cell(value: bytes | None) -> bytes:
    """A value of type bytea, or the bytes of a text."""
    return NULL if value is None else LENGTH.pack(len(value)) + value


def rows(parts: Iterable[bytes]) -> memoryview:
    """All that a COPY reads. parts: of the rows, in their order.

    A view, because asyncpg would take bytes for the name of a file.
    """
    return memoryview(b"".join((_SIGNATURE, *parts, _END)))


async def copy(
    connection: Connection, schema: str, table: str, columns: Iterable[str], source: memoryview,
    *, timeout: float | None = None,
) -> None:  # fmt: skip
    """Write what `rows` has made, by one COPY. timeout: seconds; None for the connection's own."""
    given: Any = source  # documented, unknown to asyncpg-stubs
    await connection.copy_to_table(
        table, schema_name=schema, columns=[*columns], source=given, format="binary", timeout=timeout
    )
