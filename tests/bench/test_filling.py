"""Copies of a saga's rows: its id is replaced wherever it stands. Judged by a real PostgreSQL."""

from __future__ import annotations

import asyncpg
import pytest

from bench.filling import column_of_copy

PATTERN = "EXP-1000000000"
COPY = "EXP-1000000007"


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("text", PATTERN),
        ("text", f"{PATTERN}/2/{PATTERN}"),
        ("text", "nothing of it"),
        ("bytea", b'{"expense_id":"%b","who":"\xc3\xa9\x00"}' % PATTERN.encode()),
        ("bytea", b"\x00nothing"),
        ("jsonb", f'{{"id": "{PATTERN}"}}'),
        ("integer", 7),
        ("text", None),
    ],
)
async def test_a_copy_has_the_id_of_its_own(database: str, type: str, value: object) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f"CREATE TABLE pattern (kept {type})")
        await connection.execute(f"CREATE TABLE copies AS SELECT '{COPY}'::text AS id, 3 AS shard")
        await connection.execute(f"INSERT INTO pattern VALUES ($1::{type})", value)
        (stored,) = await connection.fetch("SELECT kept FROM pattern")
        column = column_of_copy("kept", type, PATTERN, [stored["kept"]])
        found = await connection.fetchval(f"SELECT {column} FROM pattern, copies")
    finally:
        await connection.close()
    assert found == replaced(value)


def replaced(value: object) -> object:
    match value:
        case str():
            return value.replace(PATTERN, COPY)
        case bytes():
            return value.replace(PATTERN.encode(), COPY.encode())
        case _:
            return value


def test_id_and_shard_are_those_of_the_copy() -> None:
    assert [column_of_copy(name, "text", PATTERN, [PATTERN]) for name in ("id", "shard")] == [
        "copies.id", "copies.shard"
    ]  # fmt: skip
