"""Rows of the outbox: in, out again as they were, gone when published."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.envelope import Message, pack_headers
from sagabus.messaging.postgres.plain_view import plain_view
from sagabus.messaging.publishing import outbox
from sagabus.messaging.publishing.outbox import Published
from sagabus.messaging.publishing.relay import Parking
from tests.messaging.shards_fixture import Shards, message, opened, plain


@pytest.fixture
async def shards(database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace) as shards:
        yield shards


async def test_a_message_comes_out_as_it_went_in(shards: Shards) -> None:
    messages = [
        Message.of("out", b"\xff\x00", b"\x00", (("a", b"1"), ("a", b"2"), ("b", b"\xff")), "ORD-1", 3),
        Message.of("out", None, None, (), "ORD-2"),
    ]
    await shards.write({await shards.take(): []}, *messages)
    assert await _unpublished(shards, 0, 0) == [(1, messages[0]), (2, messages[1])]


async def test_s5_positions_follow_the_order_of_sending_and_go_on_after_another_take(shards: Shards) -> None:
    await shards.write({await shards.take(): []}, message(1), message(2))
    await shards.write({await shards.take(): []}, message(3))
    assert [(position, each.value) for position, each in await _unpublished(shards, 0, 0)] == [
        (1, b"1"),
        (2, b"2"),
        (3, b"3"),
    ]


async def test_only_what_lies_behind_the_relay_is_unpublished(shards: Shards) -> None:
    await shards.write({await shards.take(): []}, message(1), message(2), message(3))
    assert [position for position, _ in await _unpublished(shards, 0, 2)] == [3]
    assert await _unpublished(shards, 1, 0) == []


async def test_published_rows_are_deleted_up_to_each_shards_position(shards: Shards) -> None:
    for shard in (0, 1, 2):
        await shards.write({await shards.take(shard): []}, message(1), message(2))
    async with shards.database.transaction() as connection:
        await outbox.delete_published(connection, shards.schema, [Published(0, 0, 1), Published(1, 0, 2)])
    assert [(row["shard"], row["position"]) for row in await shards.rows("outbox", "1, 2")] == [(0, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("seqscan", ["off", "on"], ids=["in a session of ours", "in one of somebody else's"])
async def test_a_deletion_reads_nothing_of_what_was_deleted_before(shards: Shards, seqscan: str) -> None:
    """All shards' rows lie between each other, and nobody has vacuumed: dead rows are pages that could be read."""
    rows = (
        "INSERT INTO {outbox} (shard, position, saga_id, topic, record) "
        "SELECT shard, position, 'ORD-1', 'out', convert_to(repeat('x', 400), 'UTF8') "
        "FROM generate_series($1::bigint, $1 + 99) AS position, generate_series(0, 11) AS shard"
    )
    await shards.execute("ALTER TABLE {outbox} SET (autovacuum_enabled = off)")
    read: list[int] = []
    for first in range(1, 3_001, 100):
        await shards.execute(rows, first)
        done = [Published(shard, first - 1, first + 99) for shard in range(12)]
        read.append(await _pages_of_deletion(shards, done, seqscan))
    assert await shards.rows("outbox") == []
    assert max(read[10:]) < 2 * min(read[5:10]), read


async def _pages_of_deletion(shards: Shards, done: list[Published], seqscan: str) -> int:
    """Pages that it has looked at, the index's and the table's."""
    sql = outbox._statements(shards.schema)["outbox.delete"]
    async with shards.database.transaction() as connection:
        await connection.execute(f"SET LOCAL enable_seqscan = {seqscan}")
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
        ((plan,),) = await connection.fetch(explained, *map(list, zip(*done, strict=True)))
    top = json.loads(plan)[0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


async def test_s8_parking_moves_one_sagas_rows_from_a_position_on(shards: Shards) -> None:
    rows = [message(1, saga="A"), message(2, saga="A"), message(3, saga="B"), message(4, saga="A")]
    await shards.write({await shards.take(): []}, *rows)
    async with shards.database.transaction() as connection:
        await outbox.park(connection, shards.schema, 0, [Parking("A", 2, "too large")])
        assert await outbox.parked_sagas(connection, shards.schema, 0) == ["A"]
        assert await outbox.parked_sagas(connection, shards.schema, 1) == []
    assert [row["position"] for row in await shards.rows("outbox", "position")] == [1, 3]
    parked = await shards.rows("outbox_parked", "position")
    assert [(row["position"], plain(row).value, row["reason"]) for row in parked] == [
        (2, b"2", "too large"),
        (4, b"4", "too large"),
    ]


async def test_rows_of_a_release_before_are_read_by_their_columns(shards: Shards) -> None:
    """Its rows are there when a new one takes the shard, and a saga may have been parked by it for weeks."""
    of_before = [
        Message.of("out", b"k", b"\x00", (("a", b"1"), ("a", None), ("ü", b"")), "A", 3),
        Message.of("out", None, None, (), "A"),
    ]
    for number, each in enumerate(of_before, 1):
        row = (number, each.saga_id, each.topic, each.partition, each.key, pack_headers(each.headers), each.value)
        columns = "(shard, position, saga_id, topic, partition, key, headers, value)"
        await shards.execute(f"INSERT INTO {{outbox}} {columns} VALUES (0, $1, $2, $3, $4, $5, $6, $7)", *row)
    assert await _unpublished(shards, 0, 0) == [*enumerate(of_before, 1)]
    async with shards.database.transaction() as connection:
        await outbox.park(connection, shards.schema, 0, [Parking("A", 1, "too large")])
    await shards.execute("UPDATE {outbox_parked} SET released_at = clock_timestamp()")
    async with shards.database.transaction() as connection:
        found = await outbox.released(connection, shards.schema, [0])
    assert [row.message for row in found] == of_before


async def test_people_read_the_rows_in_plain_columns(shards: Shards) -> None:
    async with shards.database.transaction() as connection:
        for statement in plain_view(shards.schema):
            await connection.execute(statement)
    long = (("first", b"x" * 70), ("", b"\xff\\"), ("null", None), ("ü", b"y" * 20_000))
    messages = [
        Message.of("out", b"ORD-1", b"v" * 9_000, long, "ORD-1", 3),
        Message.of("out", b"", b"", (), "ORD-1"),
        Message.of("out", None, None, (("a", b"1"), ("a", b"1")), "ORD-2"),
    ]
    await shards.write({await shards.take(): []}, *messages)
    columns = "(shard, position, saga_id, topic, key, headers, value)"
    await shards.execute(f"INSERT INTO {{outbox}} {columns} VALUES (0, 9, 'O', 't', 'k', '', 'v')")
    async with shards.database.transaction() as connection:
        await outbox.park(connection, shards.schema, 0, [Parking("ORD-2", 1, "too large")])
    rows = await shards.rows("outbox_plain", "position")
    assert [(row["position"], row["key"], row["value"], row["parked"]) for row in rows] == [
        (1, b"ORD-1", b"v" * 9_000, False),
        (2, b"", b"", False),
        (3, None, None, True),
        (9, b"k", b"v", False),
    ]
    assert [row["headers"] and json.loads(row["headers"]) for row in rows] == [
        [["first", "x" * 70], ["", r"\377\\"], ["null", None], [r"\303\274", "y" * 20_000]],
        [],
        [["a", "1"], ["a", "1"]],
        None,
    ]


async def _unpublished(shards: Shards, shard: int, after: int) -> list[tuple[int, Message]]:
    async with shards.database.transaction() as connection:
        return await outbox.unpublished(connection, shards.schema, shard, after)
