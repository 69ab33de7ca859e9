"""Rows of the outbox: in, out again as they were, gone when published."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.envelope import Message
from sagabus.messaging.publishing import outbox
from sagabus.messaging.publishing.relay import Parking
from tests.messaging.shards_fixture import Shards, message, opened


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
        await outbox.delete_published(connection, shards.schema, {0: 1, 1: 2})
    assert [(row["shard"], row["position"]) for row in await shards.rows("outbox", "1, 2")] == [(0, 2), (2, 1), (2, 2)]


async def test_s8_parking_moves_one_sagas_rows_from_a_position_on(shards: Shards) -> None:
    rows = [message(1, saga="A"), message(2, saga="A"), message(3, saga="B"), message(4, saga="A")]
    await shards.write({await shards.take(): []}, *rows)
    async with shards.database.transaction() as connection:
        await outbox.park(connection, shards.schema, 0, [Parking("A", 2, "too large")])
        assert await outbox.parked_sagas(connection, shards.schema, 0) == ["A"]
        assert await outbox.parked_sagas(connection, shards.schema, 1) == []
    assert [row["position"] for row in await shards.rows("outbox", "position")] == [1, 3]
    parked = await shards.rows("outbox_parked", "position")
    assert [(row["position"], row["value"], row["reason"]) for row in parked] == [
        (2, b"2", "too large"),
        (4, b"4", "too large"),
    ]


async def _unpublished(shards: Shards, shard: int, after: int) -> list[tuple[int, Message]]:
    async with shards.database.transaction() as connection:
        return await outbox.unpublished(connection, shards.schema, shard, after)
