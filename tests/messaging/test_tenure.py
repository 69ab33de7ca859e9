"""Taking shards and writing under a tenure, on a real PostgreSQL with two processes' connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from sagabus.messaging.postgres import connecting
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards import shard_row
from sagabus.messaging.shards import tenure as tenure_module
from sagabus.messaging.shards.shard_row import AcquireRefused, Fenced, PartitionsChanged, check_partitions
from sagabus.messaging.shards.tenure import Log
from tests.messaging.shards_fixture import FIRST, Condition, Given, Shards, message, opened, plain
from tests.support.conditions import until


@pytest.fixture
async def ours(database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace) as shards:
        yield shards


@pytest.fixture
async def theirs(ours: Shards, database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace, create=False) as shards:
        yield shards


async def test_s1_who_was_taken_from_writes_nothing(ours: Shards, theirs: Shards) -> None:
    old = await ours.take()
    await ours.write({old: [Given(offset=0)]})
    new = await theirs.take()
    with pytest.raises(Fenced):
        await ours.write({old: [Given(offset=1)]}, message(1))
    assert await ours.rows("outbox") == []
    await theirs.write({new: [Given(offset=1)]}, message(2))
    assert [plain(row).value for row in await ours.rows("outbox")] == [b"2"]


async def test_s1_one_lost_shard_fences_the_whole_turn(ours: Shards, theirs: Shards) -> None:
    kept, lost = await ours.take(0), await ours.take(1)
    await theirs.take(1)
    with pytest.raises(Fenced):
        await ours.write({kept: [Given(offset=0)], lost: []}, message(1))
    assert await ours.rows("outbox") == []
    assert (await ours.rows("shard"))[0]["turn"] == kept.turn


async def test_s1_an_older_turn_of_the_same_tenure_is_fenced(ours: Shards) -> None:
    tenure = await ours.take()
    first, second = ours.turn({tenure: []}), ours.turn({tenure: []})
    async with ours.database.transaction() as connection:
        await first.write(connection)
    with pytest.raises(Fenced):
        async with ours.database.transaction() as connection:
            await second.write(connection)


async def test_s1_a_restored_database_does_not_revive_a_tenure(ours: Shards, theirs: Shards) -> None:
    """After the restore both have seen the same turn number: only the token tells them apart."""
    before = await _taken_row(ours)
    old = await ours.take()
    await ours.execute("UPDATE {shard} SET token = $1, turn = $2", before["token"], before["turn"])
    new = await theirs.take()
    assert old.turn == new.turn
    with pytest.raises(Fenced):
        await ours.write({old: []})
    await theirs.write({new: []})


async def test_s1_an_ended_tenure_is_fenced_before_anything_is_asked(ours: Shards) -> None:
    tenure = await ours.take()
    tenure.ended = True
    with pytest.raises(Fenced):
        await ours.write({tenure: []})


async def test_s1_the_fence_locks_in_the_order_of_shards(ours: Shards, theirs: Shards) -> None:
    """So two that both believe to own several shards cannot deadlock: who waits for the first one holds no other."""
    tenures = [await ours.take(shard) for shard in reversed(range(6))]
    table = qualified(ours.schema, "shard")
    async with theirs.database.transaction() as connection:
        await connection.execute(f"SELECT 1 FROM {table} WHERE shard = 0 FOR UPDATE")
        fencing = asyncio.create_task(ours.write(dict.fromkeys(tenures, ())))
        await _until_somebody_waits(ours)
        free = await connection.fetch(f"SELECT shard FROM {table} ORDER BY shard FOR UPDATE SKIP LOCKED")
    assert [row["shard"] for row in free] == [*range(6)]
    await fencing


async def test_s3_an_older_generation_does_not_take(ours: Shards, theirs: Shards) -> None:
    tenure = await ours.take(claim=replace(FIRST, generation=7))
    with pytest.raises(AcquireRefused, match="generation 7"):
        await theirs.take(claim=replace(FIRST, generation=6))
    await ours.write({tenure: []})
    await theirs.take(claim=replace(FIRST, generation=7))
    await theirs.take(claim=replace(FIRST, generation=8))


async def test_s3_an_older_generation_takes_what_stands_still(ours: Shards, theirs: Shards) -> None:
    await ours.take(claim=replace(FIRST, generation=7))
    await ours.execute(
        "UPDATE {shard} SET beat_at = clock_timestamp() - $1 * interval '1 second'", shard_row.STANDS_STILL_SECONDS + 1
    )
    await theirs.take(claim=replace(FIRST, generation=1))
    assert (await ours.rows("shard"))[0]["generation"] == 1


async def test_s3_a_beat_keeps_older_generations_out(ours: Shards, theirs: Shards) -> None:
    tenure = await ours.take(claim=replace(FIRST, generation=7))
    await ours.execute("UPDATE {shard} SET beat_at = beat_at - interval '1 hour'")
    await ours.write({tenure: []})
    with pytest.raises(AcquireRefused):
        await theirs.take(claim=replace(FIRST, generation=6))


async def test_s3_generations_of_another_cluster_say_nothing(ours: Shards, theirs: Shards) -> None:
    await ours.take(claim=replace(FIRST, generation=7))
    await theirs.take(claim=replace(FIRST, cluster="a new one", generation=1))


async def test_s4_a_process_stopped_within_copy_does_not_keep_the_shard(ours: Shards, theirs: Shards) -> None:
    old = await ours.take()
    stopped = await _stopped_in_copy(ours, old.shard)
    began = time.monotonic()
    new = await theirs.take(claim=replace(FIRST, generation=2))
    assert time.monotonic() - began < 3
    await theirs.write({new: []})
    await _gone(stopped)
    assert await ours.rows("dead_letter") == []


async def test_s4_a_process_stopped_while_it_acquires_does_not_keep_the_shard(ours: Shards, theirs: Shards) -> None:
    await ours.take()
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
        async with ours.database.transaction() as connection:
            old = await shard_row.acquire(connection, ours.schema, 0, FIRST, token=uuid4())
            new = await theirs.take(0, claim=replace(FIRST, generation=2))
    await theirs.write({new: []})
    with pytest.raises(Fenced):
        await ours.write({old: []})


async def test_s4_a_row_that_is_locked_between_the_wait_and_the_lock_is_told_as_that(
    ours: Shards, theirs: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ours.take()
    row, locks = shard_row._row, 0
    async with theirs.database.transaction() as holder:

        async def locked_by_others_first(connection: Connection, statement: str, shard: int) -> asyncpg.Record:
            nonlocal locks
            locks += "FOR NO KEY UPDATE" in statement
            if locks == 2:
                await holder.execute(f"SELECT FROM {qualified(ours.schema, 'shard')} FOR UPDATE")
                await connection.execute("SET LOCAL lock_timeout = '100ms'")
            return await row(connection, statement, shard)

        monkeypatch.setattr(shard_row, "_row", locked_by_others_first)
        with pytest.raises(AcquireRefused, match="shard 0 was locked by another session just now"):
            await ours.take()


@pytest.mark.parametrize("over_engine", [False, True], ids=["pool", "engine"])
async def test_s4_a_process_stopped_while_it_adds_the_row_does_not_keep_the_shard(
    ours: Shards, database: str, namespace: str, monkeypatch: pytest.MonkeyPatch, over_engine: bool
) -> None:
    """Nobody else sees the row, nor whose it is: the server ends the session, as it is idle for too long."""
    monkeypatch.setattr(connecting, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(connecting, "SESSION", {**connecting.SESSION, "idle_in_transaction_session_timeout": "0.5s"})
    async with opened(database, namespace, create=False, over_engine=over_engine) as stopped:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError):
            async with stopped.database.transaction() as connection:
                await shard_row.acquire(connection, stopped.schema, 0, FIRST, token=uuid4())
                new = await ours.take(claim=replace(FIRST, generation=2))
    await ours.write({new: []})


async def test_s4_a_row_that_stays_being_added_is_told_as_that(ours: Shards, theirs: Shards) -> None:
    async with theirs.database.transaction() as connection:
        await shard_row.acquire(connection, theirs.schema, 0, FIRST, token=uuid4())
        async with ours.database.transaction() as waiting:
            await waiting.execute("SET LOCAL lock_timeout = '100ms'")
            with pytest.raises(AcquireRefused, match="shard 0 is being added by another session"):
                await shard_row.acquire(waiting, ours.schema, 0, FIRST, token=uuid4())


async def test_s4_who_has_no_right_to_the_shard_ends_nobody(ours: Shards, theirs: Shards) -> None:
    old = await ours.take(claim=replace(FIRST, generation=7))
    stopped = await _stopped_in_copy(ours, old.shard)
    with pytest.raises(AcquireRefused, match="generation 7"):
        await theirs.take(claim=replace(FIRST, generation=6))
    assert [row["state"] for row in await _sessions(ours, "COPY%")] == ["active"]
    await _gone(stopped)


async def test_s5_positions_are_never_given_twice(ours: Shards) -> None:
    tenure = await ours.take()
    await ours.write({tenure: []}, message(1), message(2))
    tenure.relay.position = 2
    await ours.write({tenure: []})
    assert await ours.rows("outbox") == []
    again = await ours.take()
    await ours.write({again: []}, message(3))
    assert [row["position"] for row in await ours.rows("outbox")] == [3]
    assert again.relay_position == 2


async def test_s6_an_unknown_topic_is_read_from_its_start(ours: Shards) -> None:
    tenure = await ours.take(logs={"in": Log("a", 3, 9)})
    assert (tenure.offsets, tenure.new_logs, tenure.lost_records) == ({"in": 3}, (), ())


async def test_s6_the_stored_offset_counts(ours: Shards) -> None:
    tenure = await ours.take(logs={"in": Log("a", 0, 9)})
    await ours.write({tenure: [Given(offset=0), Given(offset=1)]})
    again = await ours.take(logs={"in": Log("a", 0, 9)})
    assert (again.offsets, again.new_logs, again.lost_records) == ({"in": 2}, (), ())


@pytest.mark.parametrize("log", [Log("another", 0, 9), Log("a", 0, 1)], ids=["changed id", "offset beyond the end"])
async def test_s6_a_new_log_is_read_from_its_start(ours: Shards, log: Log) -> None:
    tenure = await ours.take(logs={"in": Log("a", 0, 9), "other": Log("o", 0, 0)})
    await ours.write({tenure: [Given(offset=1)]})
    again = await ours.take(logs={"in": log, "other": Log("o", 0, 0)})
    assert (again.offsets, again.new_logs, again.lost_records) == ({"in": 0, "other": 0}, ("in",), ())


async def test_s6_retention_that_overtook_the_shard_is_told(ours: Shards) -> None:
    tenure = await ours.take(logs={"in": Log("a", 0, 9)})
    await ours.write({tenure: [Given(offset=1)]})
    again = await ours.take(logs={"in": Log("a", 5, 9)})
    assert (again.offsets, again.new_logs, again.lost_records) == ({"in": 5}, (), ("in",))


async def test_s6_a_new_log_is_told_until_a_turn_has_stored_it(ours: Shards) -> None:
    """What has to be sent again because of it goes into the same transaction; a crash before it must not lose that."""
    tenure = await ours.take(logs={"in": Log("a", 0, 9)})
    await ours.write({tenure: [Given(offset=1)]})
    for _ in range(2):
        again = await ours.take(logs={"in": Log("b", 0, 4)})
        assert again.new_logs == ("in",)
    await ours.write({again: []})
    assert again.new_logs == ()
    assert (await ours.take(logs={"in": Log("b", 0, 4)})).new_logs == ()


async def test_s6_a_topic_that_is_not_read_for_a_while_keeps_its_place(ours: Shards) -> None:
    tenure = await ours.take(logs={"in": Log("a", 0, 9)})
    await ours.write({tenure: [Given(offset=4)]})
    await ours.write({await ours.take(logs={"other": Log("o", 0, 0)}): []})
    assert (await ours.take(logs={"in": Log("a", 0, 9)})).offsets == {"in": 5}


async def test_s11_another_number_of_partitions_is_refused_with_the_cure(ours: Shards) -> None:
    await ours.take()
    with pytest.raises(PartitionsChanged, match="put the topic back with 4 partitions"):
        await ours.take(claim=replace(FIRST, partitions=5))
    async with ours.database.transaction() as connection:
        await check_partitions(connection, ours.schema, 4)
        with pytest.raises(PartitionsChanged, match="has 5 partitions"):
            await check_partitions(connection, ours.schema, 5)


async def test_s11_next_to_a_shard_of_another_number_none_is_stored(ours: Shards) -> None:
    await ours.take(0)
    more = replace(FIRST, partitions=5, topic="shipping.commands")
    with pytest.raises(PartitionsChanged, match=r"shipping.commands has 5 partitions, .* stored with 4: put the topic"):
        await ours.take(4, claim=more)
    assert [row["shard"] for row in await ours.rows("shard")] == [0]


async def test_s11_a_shard_that_the_topic_does_not_have_any_more_is_no_objection(ours: Shards) -> None:
    """As an earlier release stored one: when the topic has been put back, the service starts again."""
    await ours.take(4, claim=replace(FIRST, partitions=5))
    async with ours.database.transaction() as connection:
        await check_partitions(connection, ours.schema, 4)
        with pytest.raises(PartitionsChanged):
            await check_partitions(connection, ours.schema, 6)
    await ours.take(0)


async def test_h4_caught_up_when_every_topic_was_taken_in_up_to_its_end_at_the_take(ours: Shards) -> None:
    tenure = await ours.take(logs={"in": Log("a", 0, 2), "other": Log("o", 0, 1), "empty": Log("e", 5, 5)})
    await ours.write({tenure: [Given(offset=0), Given(offset=1)]})
    assert not tenure.caught_up
    await ours.write({tenure: [Given(topic="other", offset=0)]})
    assert tenure.caught_up


async def test_a_first_take_begins_at_the_beginning(ours: Shards) -> None:
    tenure = await ours.take()
    assert (tenure.turn, tenure.next_position, tenure.relay_position, tenure.caught_up) == (1, 1, 0, True)


async def _taken_row(shards: Shards) -> asyncpg.Record:
    await shards.take()
    return (await shards.rows("shard"))[0]


async def _until_somebody_waits(shards: Shards) -> None:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def waiting() -> bool:
        async with shards.database.transaction() as connection:
            return bool(await connection.fetchval(statement))

    condition: Condition = waiting
    await until(condition)


async def _sessions(shards: Shards, query: str) -> list[asyncpg.Record]:
    async with shards.database.transaction() as connection:
        return await connection.fetch(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1", query
        )


async def _gone(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is not None


async def _stopped_in_copy(shards: Shards, shard: int) -> asyncio.Task[None]:
    """To PostgreSQL it is all the same why a client sends no more in the middle of a COPY."""
    within = asyncio.Event()

    async def rows() -> AsyncIterator[tuple[int, str, str, str, int, int, int, bytes]]:
        yield (shard, "reason", "message", "topic", 0, 0, 0, b"")
        within.set()
        await asyncio.Event().wait()

    async def stop_within() -> None:
        columns = ["shard", "reason", "message", "topic", "partition", "offset", "timestamp", "headers"]
        async with shards.database.transaction() as connection:
            table = qualified(shards.schema, "shard")
            await connection.execute(f"UPDATE {table} SET turn = turn + 1 WHERE shard = $1", shard)
            await connection.copy_records_to_table(
                "dead_letter", schema_name=shards.schema, columns=columns, records=rows()
            )

    task = asyncio.create_task(stop_within())
    await within.wait()
    return task


async def test_the_row_says_every_place_and_json_is_built_for_what_has_moved_only(
    ours: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a hundred topics moves: a turn is not to pay for the others, and a heartbeat for none."""
    tenure = await ours.take(logs={f'topic {n} "…': Log(f"id-{n}", 0, 9) for n in range(100)})
    expected = {f'topic {n} "…': {"id": f"id-{n}", "next": 0} for n in range(100)}
    assert json.loads(tenure.places_after({})) == expected
    written: list[object] = []

    def dumps(value: object) -> str:
        written.append(value)
        return json.dumps(value)

    monkeypatch.setattr(tenure_module, "json", SimpleNamespace(dumps=dumps))
    moved = 'topic 7 "…'
    expected[moved] = {"id": "id-7", "next": 3}
    assert json.loads(tenure.places_after({moved: 3})) == expected
    tenure.reached([(moved, 3)])
    assert json.loads(tenure.places_after({})) == expected
    assert len(written) <= 4
    assert tenure.places_after({}) is tenure.places_after({})
