"""New rows of history as bytes for COPY are the same values that go as arguments where a turn is small."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.store.copy_format import HISTORY_COLUMNS, NewHistory
from sagabus.coordinator.store.rows import SagaKey
from sagabus.messaging.postgres.text import storable

numbers = st.integers(0, 2**31 - 1)
texts = st.sampled_from(["", "inventory", "a\0b", "Ä", "\ud800"]) | st.text(max_size=20)
rows = st.builds(
    Row, numbers, st.integers(0, 4 * 10**15), st.sampled_from(Kind), numbers, st.integers(0, 2**63 - 1), texts, texts,
    st.none() | st.binary(max_size=20),
)  # fmt: skip
keys = st.builds(SagaKey, st.sampled_from(["ORD-1", "ORD-2"]).map(SagaId), st.just(RunId("r")))
groups = st.lists(st.tuples(keys, st.lists(rows, max_size=4), numbers), max_size=4)

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
EPOCH_2000 = 946_684_800_000_000


def read(data: bytes) -> Iterator[list[bytes | None]]:
    """The values of each row. The format is PostgreSQL's: COPY, "Binary Format"."""
    assert data.startswith(SIGNATURE)
    at = len(SIGNATURE)
    while (columns := struct.unpack_from(">h", data, at)[0]) != -1:
        at, row = at + 2, []
        for _ in range(columns):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        yield row
    assert at + 2 == len(data)


def plain(row: tuple[Any, ...]) -> list[bytes | None]:
    return [value_of(name, value) for name, value in zip(HISTORY_COLUMNS, row, strict=True)]


def value_of(name: str, value: Any) -> bytes | None:
    if isinstance(value, str):
        return storable(str(value)).encode()
    if isinstance(value, int):
        wide = name in ("at", "attempt")
        return struct.pack(">q" if wide else ">i", value - EPOCH_2000 if name == "at" else value)
    return None if value is None else bytes(value)


@given(groups)
def test_the_bytes_say_what_the_values_are(given_groups: list[tuple[SagaKey, list[Row], int]]) -> None:
    history = NewHistory(*given_groups)
    encoded = history.encoded()
    expected = [plain(row) for row in history.values()]
    assert [*read(bytes(encoded or b""))] == expected if encoded is not None else not expected
