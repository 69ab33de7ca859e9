"""How a row's values travel between Python and PostgreSQL, where it is not by COPY.

Rows go over column by column, as arrays for `unnest`. Times go as microseconds: a bigint costs 0.1 µs where a datetime
costs asyncpg and us 1.5 to 3 µs, and there and back it is exact (below 2**53 µs, the year 2255; from PostgreSQL 14 on,
where `extract` gives a numeric). JSON goes as the bytes that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sagabus.messaging.postgres.text import storable

LATEST: Final = 253_402_300_799_999_999
"""Microseconds: the end of the year 9999. A timer that is due later is due then; PostgreSQL would refuse it."""


class Wire(NamedTuple):
    """type: of one value on its way to PostgreSQL. write, read: the SQL around it; `{}` is the value or the column.

    safe: makes a value storable, where somebody else may have chosen it.
    """

    type: str
    write: str = "{}"
    read: str = "{}"
    safe: Callable[[Any], Any] | None = None


def _storable_or_none(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _storable_json(data: bytes | None) -> bytes | None:
    """jsonb refuses an escaped NUL."""
    return None if data is None else data.replace(rb"\u0000", rb"\ufffd")


BIGINT: Final = Wire("bigint")
BOOLEAN: Final = Wire("boolean")
BYTES: Final = Wire("bytea")
INTEGER: Final = Wire("integer")
JSON: Final = Wire(
    "bytea", write="convert_from({}, 'UTF8')::jsonb", read="convert_to({}::text, 'UTF8')", safe=_storable_json
)
TEXT: Final = Wire("text")
TIME: Final = Wire(
    "bigint",
    write="timestamptz 'epoch' + {} * interval '1 microsecond'",
    read="(extract(epoch FROM {}) * 1000000)::bigint",
)
WORDS: Final = Wire("text", safe=_storable_or_none)
"""Text that somebody else may have chosen."""

Columns = Mapping[str, Wire]
"""By name, in the order of the fields of the row's dataclass, which may call them otherwise."""


def quoted(names: Iterable[str]) -> str:
    """For a list of columns: some of ours are SQL's words too."""
    return ", ".join(f'"{name}"' for name in names)


def unnest(columns: Columns, *, first: int = 1) -> str:
    """`unnest($1::text[], …) AS new ("id", …)`: a table of the arguments. first: the number of its first one."""
    arrays = ", ".join(f"${n}::{wire.type}[]" for n, wire in enumerate(columns.values(), first))
    return f"unnest({arrays}) AS new ({quoted(columns)})"


def written(columns: Columns) -> str:
    """The expressions that turn `unnest`'s columns into those of the table."""
    return ", ".join(wire.write.format(f'new."{name}"') for name, wire in columns.items())


def assigned(columns: Columns) -> str:
    """The same for `UPDATE … SET`."""
    return ", ".join(f'"{name}" = ' + wire.write.format(f'new."{name}"') for name, wire in columns.items())


def read(columns: Columns, table: str) -> str:
    """The expressions of a SELECT."""
    return ", ".join(wire.read.format(f'{table}."{name}"') + f' AS "{name}"' for name, wire in columns.items())


Arguments = tuple[Sequence[Any], ...]


def arguments(columns: Columns, rows: Iterable[Sequence[Any]]) -> Arguments:
    """For `unnest`: one sequence a column. There must be a row."""
    return tuple(
        column if wire.safe is None else tuple(map(wire.safe, column))
        for wire, column in zip(columns.values(), zip(*rows, strict=True), strict=True)
    )
