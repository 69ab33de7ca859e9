"""A turn's transaction: all of it or nothing, and few statements however many records."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from sagabus.contracts.envelope import unpack_headers
from sagabus.messaging.fence import Fenced
from sagabus.messaging.relay import Parking
from sagabus.messaging.tenure import Log
from tests.messaging.ground import Given, Recorder, Shards, message, opened


@pytest.fixture(params=[False, True], ids=["pool", "engine"])
async def shards(request: pytest.FixtureRequest, database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace, over_engine=request.param) as shards:
        yield shards


async def test_a_turn_stores_offsets_positions_and_messages_at_once(shards: Shards) -> None:
    logs = {"in": Log("a", 0, 0), "other": Log("o", 0, 0)}
    tenure = await shards.take(logs=logs)
    await shards.write({tenure: [Given(offset=0), Given(offset=1), Given(topic="other", offset=0)]}, message(1))
    (row,) = await shards.rows("shard")
    topics = row["topics"] if isinstance(row["topics"], dict) else json.loads(row["topics"])  # SQLAlchemy decodes it
    assert topics == {"in": {"id": "a", "next": 2}, "other": {"id": "o", "next": 1}}
    assert (row["turn"], row["next_position"], row["relay_position"]) == (tenure.turn, 2, 0)
    assert tenure.offsets == {"in": 2, "other": 1}
    assert [(row["position"], row["value"]) for row in await shards.rows("outbox")] == [(1, b"1")]


async def test_s1_a_refused_fence_leaves_nothing_behind(shards: Shards) -> None:
    old, other = await shards.take(0), await shards.take(1)
    await shards.take(0)
    before = [dict(row) for row in await shards.rows("shard")]
    turn = shards.turn({old: [Given()], other: [Given(partition=1)]})
    turn.send(other, message(1))
    turn.dead_letter(other, Given(), reason="test", message="…")
    with pytest.raises(Fenced):
        async with shards.database.transaction() as connection:
            await turn.write(connection)
    assert [dict(row) for row in await shards.rows("shard")] == before
    assert await shards.rows("outbox") == []
    assert await shards.rows("dead_letter") == []


async def test_a_turn_that_was_not_committed_moves_no_tenure(shards: Shards) -> None:
    tenure = await shards.take()
    turn = shards.turn({tenure: [Given()]})
    turn.send(tenure, message(1))
    with suppress(TimeoutError):
        async with shards.database.transaction() as connection:
            await turn.write(connection)
            raise TimeoutError("a commit that was not heard of")
    assert (tenure.next_position, tenure.offsets, tenure.relay.depth) == (1, {"in": 0}, 0)
    await shards.write({tenure: [Given()]}, message(2))  # the turn number has not moved either
    assert [(row["position"], row["value"]) for row in await shards.rows("outbox")] == [(1, b"2")]


async def test_committed_hands_the_messages_to_the_relay_and_the_next_turn_deletes_them(shards: Shards) -> None:
    tenure, recorder = await shards.take(), Recorder()
    await shards.relay(tenure, recorder)
    await shards.write({tenure: []}, message(1), message(2))
    await tenure.relay.below(1)
    assert recorder.values == [1, 2]
    assert len(await shards.rows("outbox")) == 2
    await shards.write({tenure: []})
    assert await shards.rows("outbox") == []
    assert (await shards.rows("shard"))[0]["relay_position"] == 2
    await tenure.relay.stop()


async def test_what_is_published_while_a_turn_decides_is_deleted_by_the_one_after(shards: Shards) -> None:
    """Position and parkings have to be of one moment."""
    tenure = await shards.take()
    await shards.write({tenure: []}, message(1))
    turn = shards.turn({tenure: []})
    tenure.relay.position = 1
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    turn.committed()
    assert len(await shards.rows("outbox")) == 1
    await shards.write({tenure: []})
    assert await shards.rows("outbox") == []


async def test_s8_a_turn_moves_what_the_relay_has_parked(shards: Shards) -> None:
    tenure = await shards.take()
    await shards.write({tenure: []}, message(1, saga="A"), message(2, saga="B"), message(3, saga="A"))
    tenure.relay.position, tenure.relay.parkings[:] = 3, [Parking("A", 1, "too large")]
    turn = await shards.write({tenure: []})
    assert turn.parked(tenure) == (Parking("A", 1, "too large"),)
    assert [row["position"] for row in await shards.rows("outbox_parked", "position")] == [1, 3]
    assert await shards.rows("outbox") == []
    assert tenure.relay.parkings == []


async def test_a_dead_letter_is_a_row_and_a_record_byte_for_byte(shards: Shards) -> None:
    tenure = await shards.take()
    record = Given(offset=7, key=b"\xff\x00", value=b"\x00\xff", headers=(("a", b"\xff"), ("a", b"")))
    turn = shards.turn({tenure: [record]})
    turn.dead_letter(tenure, record, reason="body.not_json", message="not JSON: \0 at byte 0")
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    (row,) = await shards.rows("dead_letter")
    assert (row["key"], row["value"], unpack_headers(row["headers"])) == (record.key, record.value, record.headers)
    assert (row["reason"], row["topic"], row["offset"]) == ("body.not_json", "in", 7)
    (sent,) = await shards.rows("outbox")
    assert (sent["topic"], sent["key"], sent["value"]) == ("dead-letters", record.key, record.value)
    assert sent["saga_id"] == "\ufffd\ufffd"
    headers = unpack_headers(sent["headers"])
    assert headers[:2] == record.headers
    assert dict(headers[2:]) == {
        "x-dlt-reason": b"body.not_json",
        "x-dlt-message": b"not JSON: \0 at byte 0",
        "x-dlt-topic": b"in",
        "x-dlt-partition": b"0",
        "x-dlt-offset": b"7",
        "x-dlt-timestamp": b"1700000000000",
        "x-dlt-by": b"test",
        "x-dlt-at": b"2023-11-14T22:13:20.000000Z",
    }


async def test_a_turn_over_twelve_shards_and_a_thousand_records_costs_four_statements(shards: Shards) -> None:
    tenures = [await shards.take(shard) for shard in range(12)]
    for tenure in tenures:
        await shards.write({tenure: []}, message(0))
        tenure.relay.position = 1
    turn = shards.turn({t: [Given(partition=t.shard, offset=n) for n in range(83)] for t in tenures})
    for tenure in tenures:
        for number in range(83):
            turn.send(tenure, message(number))
    turn.dead_letter(tenures[0], Given(), reason="test", message="…")
    async with shards.database.transaction() as connection:
        counting = _Counting(connection)
        await turn.write(counting)  # type: ignore[arg-type]
    assert counting.calls == ["execute", "copy_records_to_table", "copy_records_to_table", "execute"]
    assert len(await shards.rows("outbox")) == 12 * 83 + 1


class _Counting:
    """A connection that notes what it is asked."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.connection, name)
