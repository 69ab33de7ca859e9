"""P5: what the inbox forgets, and what happens to a command of which it may have forgotten the outcome."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.postgres import condition
from sagabus.messaging.service.prerequisites import NotReady
from sagabus.messaging.service.window import check_window
from sagabus.messaging.shards import retention
from sagabus.messaging.shards.retention import CLOCKS_APART_SECONDS, LOOK_PAUSE_SECONDS, ROWS, Retention
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.participants import ExternalContext
from sagabus.participants.inbox.tables import create_tables, participant_tables
from tests.messaging.outbox_of_before import outbox_of_before
from tests.participants.service_fixture import (
    BOOK,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    batch,
    charge,
    take_item,
    takes,
)

DAY = 86_400.0
KEPT = Retention(inbox=14 * DAY, dead_letters=30 * DAY, parked=30 * DAY)


@pytest.fixture
def keeping(fixture: ServiceFixture) -> ServiceFixture:
    """A service that keeps its inbox for 14 days."""
    fixture.retention = KEPT
    fixture.processor = fixture.new_side()
    return fixture


def issued(fixture: ServiceFixture) -> int:
    return round(fixture.now * 1_000_000)


async def stored(fixture: ServiceFixture) -> Any:
    (row,) = await fixture.rows("SELECT * FROM sagabus_shop.shard WHERE shard = 0")
    return row["pruned_before"]


async def test_p5_a_copy_of_what_was_forgotten_is_not_carried_out(keeping: ServiceFixture) -> None:
    fixture, calls = keeping, takes(keeping)
    tenure = await fixture.take()
    first = batch("A", issued=issued(fixture))
    await fixture.turn(tenure, *first)
    fixture.now += 14 * DAY + 1
    await fixture.turn(tenure)
    assert await fixture.inbox() == []
    [late] = await fixture.turn(tenure, *first)
    assert (late.kind, late.code) == (ReplyKind.FAILED, "sagabus.inbox_expired")
    [fresh] = await fixture.turn(tenure, *batch("B", issued=issued(fixture)))
    assert fresh.kind is ReplyKind.COMPLETED
    assert calls == ["A/1", "B/1"]


async def test_p5_rows_and_the_word_that_they_are_gone_are_one_transaction(keeping: ServiceFixture) -> None:
    fixture, calls = keeping, takes(keeping)
    tenure = await fixture.take()
    first = batch("A", issued=issued(fixture))
    await fixture.turn(tenure, *first)
    await fixture.rows("ALTER TABLE sagabus_shop.shard ADD CONSTRAINT broken CHECK (pruned_before IS NULL)")
    try:
        fixture.now += 15 * DAY
        await fixture.turn(tenure)
        assert [id for id, _, _ in await fixture.inbox()] == ["A:r1:1"]
        [again] = await fixture.turn(tenure, *first)
    finally:
        await fixture.rows("ALTER TABLE sagabus_shop.shard DROP CONSTRAINT broken")
    assert again.kind is ReplyKind.COMPLETED
    fixture.now += DAY
    await fixture.turn(tenure)
    assert await fixture.inbox() == []
    assert await stored(fixture) == tenure.pruned_before
    tenure = await fixture.take()
    [late] = await fixture.turn(tenure, *first)
    assert late.code == "sagabus.inbox_expired"
    assert calls == ["A/1"]


async def test_p5_the_coordinators_clock_may_be_ahead(keeping: ServiceFixture) -> None:
    """Issued, by its clock, after the moment at which the participant wrote the outcome."""
    fixture, calls = keeping, takes(keeping)
    tenure = await fixture.take()
    first = batch("A", issued=issued(fixture) + round((CLOCKS_APART_SECONDS - 1) * 1_000_000))
    await fixture.turn(tenure, *first)
    fixture.now += 15 * DAY
    await fixture.turn(tenure)
    [late] = await fixture.turn(tenure, *first)
    assert late.code == "sagabus.inbox_expired"
    assert calls == ["A/1"]


async def test_p5_a_service_that_was_away_for_long_refuses_nothing_that_waited(keeping: ServiceFixture) -> None:
    fixture, calls = keeping, takes(keeping)
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A", issued=issued(fixture)))
    fixture.now += CLOCKS_APART_SECONDS + 1
    waiting = batch("B", issued=issued(fixture))
    fixture.now += 20 * DAY
    fixture.processor = fixture.new_side()
    tenure = await fixture.take()
    await fixture.turn(tenure)
    assert await fixture.inbox() == []
    [reply] = await fixture.turn(tenure, *waiting)
    assert reply.kind is ReplyKind.COMPLETED
    assert calls == ["A/1", "B/1"]


async def test_p5_pruning_waits_until_the_topic_has_been_caught_up_with(keeping: ServiceFixture) -> None:
    """Else what was issued just behind the last outcome, and waited, would be refused."""
    fixture, calls = keeping, takes(keeping)
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A", issued=issued(fixture)))
    waiting = fixture.records(tenure, *batch("B", "C", issued=issued(fixture)))
    fixture.now += 20 * DAY
    fixture.processor = fixture.new_side()
    tenure = await fixture.take()
    tenure.reached([("shop.commands", 1)])
    for record in waiting:
        await fixture.processor.turn({tenure: [record]})
    assert calls == ["A/1", "B/1", "C/1"]
    assert [id for id, _, _ in await fixture.inbox()] == ["B:r1:1", "C:r1:1"]


async def test_what_is_started_and_what_is_young_stays(keeping: ServiceFixture) -> None:
    fixture = keeping
    takes(fixture)
    ends = asyncio.Event()

    @fixture.handles(charge, transaction=False)
    async def charging(command: Take, ctx: ExternalContext) -> Taken:
        await ends.wait()
        return Taken(item="book", left=1)

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("OUT").command(charge, BOOK), *batch("OLD"))
    fixture.now += 14 * DAY - 1
    await fixture.turn(tenure, *batch("YOUNG", issued=issued(fixture)))
    assert len(await fixture.inbox()) == 3
    fixture.now += LOOK_PAUSE_SECONDS + 2
    await fixture.turn(tenure)
    assert [(id, state) for id, state, _ in await fixture.inbox()] == [
        ("OUT:r1:1", "started"), ("YOUNG:r1:1", "completed"),
    ]  # fmt: skip
    ends.set()


async def test_a_batch_at_a_time_and_only_ones_own_shard(
    keeping: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = keeping
    monkeypatch.setattr(retention, "MOST_STEPS", 1)
    takes(fixture)
    tenure, other = await fixture.take(0), await fixture.take(1)
    await fixture.rows(
        "INSERT INTO sagabus_shop.inbox (source, id, shard, activity, state, attempt, at) "
        "SELECT 's', n::text, n % 2, 'shop.take', 'completed', 1, to_timestamp($1) FROM generate_series(1, $2::int) n",
        fixture.now, 2 * (ROWS + 10),
    )  # fmt: skip
    fixture.now += 15 * DAY
    await fixture.turn(tenure, *batch("A", issued=issued(fixture)))
    assert await _rows(fixture) == {0: 10 + 1, 1: ROWS + 10}
    await fixture.turn(tenure)
    assert await _rows(fixture) == {0: 1, 1: ROWS + 10}
    assert other.pruned_before is None
    for _ in range(2):
        await fixture.processor.turn({other: ()})
    assert await _rows(fixture) == {0: 1}


async def test_p8_who_has_lost_the_shard_forgets_nothing(keeping: ServiceFixture) -> None:
    fixture = keeping
    takes(fixture)
    old = await fixture.take()
    await fixture.turn(old, *batch("A"))
    first, fixture.processor = fixture.processor, fixture.new_side()
    new = await fixture.take()
    fixture.now += 15 * DAY
    schedule = first._schedule
    assert schedule is not None
    with pytest.raises(Fenced):
        await schedule.after([old])
    assert len(await fixture.inbox()) == 1
    assert (await stored(fixture), new.pruned_before) == (None, None)


async def test_s2_a_relay_that_has_failed_ends_its_own_tenure_and_no_other(keeping: ServiceFixture) -> None:
    fixture = keeping
    takes(fixture)
    failed, other = await fixture.take(0), await fixture.take(1)
    for tenure in (failed, other):
        await fixture.turn(tenure, *batch(f"S{tenure.shard}"))
    fixture.now += 15 * DAY
    failed.ended = True
    schedule = fixture.processor._schedule
    assert schedule is not None
    await schedule.after([failed, other])
    assert await _rows(fixture) == {0: 1}


async def test_off_forgets_nothing(fixture: ServiceFixture) -> None:
    takes(fixture)
    fixture.retention = Retention()
    fixture.processor = fixture.new_side()
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    fixture.now += 10_000 * DAY
    await fixture.turn(tenure)
    assert len(await fixture.inbox()) == 1


async def test_s8_parked_messages_go_after_their_time(keeping: ServiceFixture) -> None:
    fixture = keeping
    takes(fixture)
    await fixture.rows(
        "INSERT INTO sagabus_shop.outbox_parked (shard, position, saga_id, topic, headers, reason, parked_at) "
        "SELECT 0, days, 'A', 't', '', 'too large', clock_timestamp() - days * interval '1 day' "
        "FROM unnest(ARRAY[20, 40]) AS days"
    )
    await fixture.turn(await fixture.take())
    assert [row["position"] for row in await fixture.rows("SELECT position FROM sagabus_shop.outbox_parked")] == [20]


async def test_tables_of_before_are_brought_up_to_date(fixture: ServiceFixture) -> None:
    storage = "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'sagabus_shop'::regnamespace"
    await fixture.rows("DROP INDEX sagabus_shop.inbox_at")
    await fixture.rows("ALTER TABLE sagabus_shop.outbox RESET (autovacuum_vacuum_threshold)")
    await fixture.rows("ALTER TABLE sagabus_shop.inbox RESET (fillfactor)")
    for _ in range(2):
        async with fixture.engine.begin() as connection:
            await create_tables(connection, "shop")
            found = {row.relname: row.reloptions for row in await connection.execute(text(storage))}
    assert "inbox_at" in found
    for table in participant_tables("shop").sorted_tables:
        wanted = table.dialect_options["postgresql"]["with"] or {}
        assert sorted(found[table.name] or ()) == sorted(f"{name}={value}" for name, value in wanted.items())


async def test_an_outbox_of_before_is_named_brought_up_to_date_and_its_rows_are_published(
    fixture: ServiceFixture,
) -> None:
    statements = outbox_of_before("sagabus_shop")
    rows = "INSERT INTO sagabus_shop.outbox (shard, position, saga_id, topic, headers) VALUES (0, 0, 'A', 't', '')"
    for statement in (*statements.split("; "), rows):
        await fixture.rows(statement)
    for missing in (["outbox.record", "outbox_parked.record"], []):
        async with fixture.database.transaction() as plain:
            assert await condition.missing(plain, participant_tables("shop")) == missing
        async with fixture.engine.begin() as connection:
            await create_tables(connection, "shop")
    takes(fixture)
    tenure = await fixture.take()
    await fixture.processor.turn({tenure: fixture.records(tenure, Saga("A").command(take_item, BOOK))})
    (before,) = await fixture.rows("SELECT * FROM sagabus_shop.outbox_plain WHERE position = 0")
    assert (before["topic"], before["headers"]) == ("t", None)
    (reply,) = await fixture.rows("SELECT * FROM sagabus_shop.outbox_plain WHERE position > 0")
    assert (reply["key"], ["ce_type", "sagabus.reply.completed"] in json.loads(reply["headers"])) == (b"A", True)


def test_a_window_that_is_too_short_is_refused_with_both_values_and_a_cure() -> None:
    check_window("shop.commands", 7 * DAY, "retention_inbox", 14 * DAY, loss="…")
    check_window("shop.commands", 7 * DAY, "retention_inbox", None, loss="…")
    check_window("shop.commands", None, "retention_inbox", 14 * DAY, loss="it is only said in the log")
    with pytest.raises(NotReady) as refusal:
        check_window("shop.commands", 30 * DAY, "retention_inbox", 14 * DAY, loss="those are refused")
    for word in ("shop.commands", "30d", "SAGABUS_RETENTION_INBOX=14d", "SAGABUS_RETENTION_INBOX=60d"):
        assert word in str(refusal.value)


async def _rows(fixture: ServiceFixture) -> dict[int, int]:
    return {row[0]: row[1] for row in await fixture.rows("SELECT shard, count(*) FROM sagabus_shop.inbox GROUP BY 1")}
