"""A turn's transaction: all of it or nothing, and few statements however many records."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from sagabus.contracts.envelope import MAX_PAYLOAD, pack_headers, unpack_headers
from sagabus.messaging.publishing.parked_rows import ParkedRows
from sagabus.messaging.publishing.relay import Parking
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.messaging.shards.turn import PUBLISHED_ROWS_KEPT
from tests.messaging.shards_fixture import Given, Recorder, Shards, message, opened, plain


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
    assert [(row["position"], plain(row).value) for row in await shards.rows("outbox")] == [(1, b"1")]


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
    assert [(row["position"], plain(row).value) for row in await shards.rows("outbox")] == [(1, b"2")]


async def test_messages_that_are_sent_together_are_numbered_as_if_sent_one_by_one(shards: Shards) -> None:
    tenure = await shards.take()
    together, alone = shards.turn({tenure: []}), shards.turn({tenure: []})
    for number in (1, 2, 3):
        alone.send(tenure, message(number))
    together.send(tenure, message(1))
    together.send_all(tenure, [message(2), message(3)])
    together.send_all(tenure, [])
    assert together.sent == alone.sent
    assert [position for _, position, _ in together.sent] == [1, 2, 3]


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


async def test_a_turn_with_records_leaves_published_rows_to_the_beat(shards: Shards) -> None:
    tenure, other = await shards.take(0), await shards.take(1)
    for each in (tenure, other):
        await shards.write({each: []}, message(1), message(2))
        each.relay.position = 2
    await shards.write({tenure: [Given()]}, message(3))
    assert [row["position"] for row in await shards.rows("outbox", "shard, position")] == [1, 2, 3, 1, 2]
    assert (await shards.rows("shard"))[0]["relay_position"] == 2
    await shards.write({tenure: []})
    assert [(row["shard"], row["position"]) for row in await shards.rows("outbox", "1, 2")] == [(0, 3), (1, 1), (1, 2)]
    taken_again = await shards.take(1)
    taken_again.relay.position = 2
    await shards.write({taken_again: []})
    assert [(row["shard"], row["position"]) for row in await shards.rows("outbox")] == [(0, 3)], "of an older tenure"


async def test_a_shard_that_never_rests_keeps_a_thousand_published_rows_at_most(shards: Shards) -> None:
    tenure, portion, most = await shards.take(), 300, 0
    for turn in range(12):
        await shards.write({tenure: [Given(offset=turn)]}, *map(message, range(portion)))
        tenure.relay.position += portion
        most = max(most, len(await shards.rows("outbox")))
    assert PUBLISHED_ROWS_KEPT < most <= PUBLISHED_ROWS_KEPT + 2 * portion
    assert len(await shards.rows("outbox")) == tenure.next_position - 1 - tenure.deleted_to


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


async def test_s8_what_is_parked_is_looked_for_once_a_second_and_not_with_each_turn(shards: Shards) -> None:
    """A saga may stay parked for a month."""
    tenure, _ = await _parked(shards, "A")
    second, begun = 1_000_000, 1_700_000_000_000_000
    looks = []
    for tenth in range(30):
        turn = shards.turn({tenure: []}, at=begun + tenth * second // 10)
        if turn.may_release:
            looks.append(tenth)
            async with shards.database.transaction() as connection:
                await turn.release(connection)
    assert looks == [0, 10, 20]
    assert shards.turn({tenure: []}, at=begun - 9 * second).may_release, "the clock was set back"


async def test_s8_released_rows_are_sent_again_in_order_before_all_else_of_their_saga(shards: Shards) -> None:
    tenure, recorder = await _parked(shards, "A", "B")
    await shards.relay(tenure, recorder)
    await _release(shards, "A")
    turn = shards.turn({tenure: []})
    assert turn.may_release
    async with shards.database.transaction() as connection:
        assert await turn.release(connection) == {tenure: {"A": "cured"}}
    turn.send(tenure, message(9, saga="A"))
    turn.send(tenure, message(8, saga="B"))
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    turn.committed()
    await tenure.relay.below(1)
    assert recorder.values == [1, 3, 9]
    await shards.write({tenure: []})
    assert [(row["saga_id"], plain(row).value) for row in await shards.rows("outbox_parked", "position")] == [
        ("B", b"2"),
        ("B", b"8"),
    ]
    assert await shards.rows("outbox") == []
    await tenure.relay.stop()


async def test_s8_nothing_is_sent_again_before_a_person_has_said_so(shards: Shards) -> None:
    tenure, _ = await _parked(shards, "A")
    turn = shards.turn({tenure: []})
    async with shards.database.transaction() as connection:
        assert await turn.release(connection) == {}
        await turn.write(connection)
    assert len(await shards.rows("outbox_parked")) == 2


async def test_s8_what_is_still_on_its_way_to_the_parked_rows_is_waited_for(shards: Shards) -> None:
    """Else it would come to lie before what was parked earlier."""
    tenure, recorder = await _parked(shards, "A")
    await shards.relay(tenure, recorder)
    await shards.write({tenure: []}, message(9, saga="A"))
    await _release(shards, "A")
    for released in ({}, {tenure: {"A": "cured"}}):
        turn = shards.turn({tenure: []})
        async with shards.database.transaction() as connection:
            assert await turn.release(connection) == released
            await turn.write(connection)
        turn.committed()
    await tenure.relay.below(1)
    assert recorder.values == [1, 3, 9]
    await tenure.relay.stop()


async def test_s1_s8_who_has_lost_the_shard_releases_nothing(shards: Shards) -> None:
    old, _ = await _parked(shards, "A")
    await _release(shards, "A")
    await shards.take()
    turn = shards.turn({old: []})
    async with shards.database.transaction() as connection:
        assert await turn.release(connection) == {old: {"A": "cured"}}
    with pytest.raises(Fenced):
        async with shards.database.transaction() as connection:
            await turn.write(connection)
    assert len(await shards.rows("outbox_parked")) == 2
    assert await shards.rows("outbox") == []


async def _parked(shards: Shards, *sagas: str) -> tuple[Tenure, Recorder]:
    """Messages 1 and 3 of the first saga are parked, 2 of the second, and another process has taken the shard."""
    tenure = await shards.take()
    others = [message(number, saga=saga) for number, saga in enumerate(sagas[1:], 2)]
    await shards.write({tenure: []}, message(1, saga=sagas[0]), *others, message(3, saga=sagas[0]))
    tenure.relay.parkings[:] = [Parking(saga, position, "too large") for position, saga in enumerate(sagas, 1)]
    tenure.relay.position = tenure.next_position - 1
    await shards.write({tenure: []})
    next_one = await shards.take()
    next_one.relay.park(sagas)
    return next_one, Recorder()


async def _release(shards: Shards, saga: str) -> None:
    assert await ParkedRows(shards.database, shards.schema).release([saga], reason="cured") == [saga]


async def test_a_dead_letter_that_is_too_large_for_a_copy_is_copied_without_its_value(shards: Shards) -> None:
    """Else a stranger's record would park what a saga of the same key sends (S8)."""
    tenure = await shards.take()
    record = Given(key=b"ORD-1", value=bytes(MAX_PAYLOAD + 1), headers=(("a", b"1"),))
    turn = shards.turn({tenure: [record]})
    turn.dead_letter(tenure, record, reason="payload.too_large", message="…")
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    (row,) = await shards.rows("dead_letter")
    assert (row["value"], unpack_headers(row["headers"])) == (record.value, record.headers)
    (sent,) = await shards.rows("outbox")
    assert (plain(sent)[:2], sent["saga_id"]) == ((b"ORD-1", None), "dead letter in:0:0")
    assert b"921616 bytes" in dict(plain(sent).headers)["x-dlt-omitted"]


@pytest.mark.parametrize("part", ["key", "value", "headers"])
async def test_a_row_keeps_the_beginning_of_what_no_broker_takes_uncompressed(shards: Shards, part: str) -> None:
    """33 KB on the wire may be 1 GB: PostgreSQL takes no such value, and the turn of its shard would fail for ever."""
    huge = bytes(2 * 1024 * 1024)
    large = {"key": Given(key=huge), "value": Given(value=huge), "headers": Given(headers=[("a", b"1"), ("b", huge)])}
    record = large[part]
    tenure = await shards.take()
    turn = shards.turn({tenure: [record]})
    turn.dead_letter(tenure, record, reason="payload.too_large", message=repr(huge))
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    (row,) = await shards.rows("dead_letter")
    assert sum(map(len, (row["key"], row["value"], row["headers"], row["message"].encode()))) < 10_000
    *first, (name, words) = unpack_headers(row["headers"])
    assert (first, name) == ([("a", b"1")] if part == "headers" else [], f"x-dlt-cut-{part}")
    whole = pack_headers(record.headers) if part == "headers" else huge
    assert words == f"{len(whole)} bytes, of which the beginning is kept; SHA-256 {sha256(whole).hexdigest()}".encode()
    (sent,) = await shards.rows("outbox")
    omitted = dict(plain(sent).headers)["x-dlt-omitted"].decode()
    assert omitted.endswith("has their beginning, and in:0:0 the whole, as long as Kafka keeps it")


async def test_many_empty_headers_are_not_copied_for_nothing(shards: Shards) -> None:
    tenure = await shards.take()
    record = Given(headers=[("", b"")] * 200_000)
    turn = shards.turn({tenure: [record]})
    turn.dead_letter(tenure, record, reason="headers.missing", message="…")
    async with shards.database.transaction() as connection:
        await turn.write(connection)
    (sent,) = await shards.rows("outbox")
    assert len(sent["record"]) < 1_000
    (row,) = await shards.rows("dead_letter")
    assert len(row["headers"]) < 10_000


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
    assert (sent["topic"], *plain(sent)[:2]) == ("dead-letters", record.key, record.value)
    assert sent["saga_id"] == "dead letter in:0:7"
    headers = plain(sent).headers
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


async def test_a_turn_over_twelve_shards_and_a_thousand_records_costs_three_statements(shards: Shards) -> None:
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
    assert counting.calls == ["execute", "copy_to_table", "copy_records_to_table"]
    turn.committed()
    beat = shards.turn({tenure: [] for tenure in tenures})
    async with shards.database.transaction() as connection:
        counting = _Counting(connection)
        await beat.write(counting)  # type: ignore[arg-type]
    assert counting.calls == ["execute", "execute"]
    assert len(await shards.rows("outbox")) == 12 * 83 + 1


class _Counting:
    """A connection that notes what it is asked."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.connection, name)
