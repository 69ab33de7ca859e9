"""A command or a reply that was lost before a shard was taken again is asked for again, though nothing brings it up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.names import SagaId
from sagabus.coordinator.shard.unloaded import (
    LEAST_SHARE,
    LOAD_MICROSECONDS,
    LOOK_MICROSECONDS,
    LOOKED_AT,
    LOOKED_AT_WITHOUT_A_PAUSE,
    UNLOADED_PAGE,
    UNLOADED_PAUSE_MICROSECONDS,
    UNLOADED_STEP_MICROSECONDS,
    WALK_SHARE,
    UnloadedSagas,
)
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.open_page import OpenPage
from sagabus.messaging.postgres.database import Database
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import ShardFixture, headers_of, types
from tests.coordinator.test_saga_processor import INPUT, ORDER, SHARD


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing,), SHARD)
    await pool.stop()


async def test_what_was_lost_before_a_take_is_sent_again(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    start = fixture.request(ORDER, type="start", saga="order_processing", input=INPUT)
    _, command = await fixture.turn(tenure, start)

    tenure = await fixture.crash()
    assert await fixture.turn(tenure) == []
    fixture.now += 30
    left: list[str] = []
    for _ in range(3):  # one loads it, a later one finds its resend due
        messages = await fixture.turn(tenure)
        left += types(messages)
        assert all(headers_of(copy)["ce_id"] == headers_of(command)["ce_id"] for copy in messages)
        assert all(headers_of(copy)["ce_attempt"] == "1" for copy in messages)
    assert left == ["inventory.reserve_inventory"]


async def test_the_walk_hears_of_records(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(ORDER, type="start", saga="order_processing", input=INPUT))
    assert fixture.processor._memories[tenure].unloaded._records == 1


async def test_who_gets_no_answer_for_an_hour_is_shown_in_its_row(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(ORDER, type="start", saga="order_processing", input=INPUT))
    fixture.now += 3_590
    assert types(await fixture.turn(tenure)) == ["inventory.reserve_inventory"]
    assert (await fixture.saga(ORDER))["attention"] is None
    fixture.now += 31
    assert types(await fixture.turn(tenure)) == ["inventory.reserve_inventory", "sagabus.saga.attention"]
    row = await fixture.saga(ORDER)
    assert row["status"] == "running"
    assert row["attention"].startswith("step 1 (inventory.reserve_inventory): no answer for 60 min")


def ids(first: int, last: int) -> list[SagaId]:
    return [SagaId(f"ORD-{number:04}") for number in range(first, last)]


def page(first: int, last: int, *restless: SagaId) -> OpenPage:
    return OpenPage(last - first, ids(first, last)[-1] if last > first else "", [*restless])


def walk(*, shards: int = 12) -> UnloadedSagas:
    return UnloadedSagas(acquired=0, shards=shards)


def test_the_walk_goes_page_by_page_to_its_end_and_names_some_at_a_time() -> None:
    unloaded = walk()
    assert not unloaded.is_due(UNLOADED_PAUSE_MICROSECONDS - 1)
    now = UNLOADED_PAUSE_MICROSECONDS
    assert unloaded.is_due(now)
    assert (unloaded.wants_page, unloaded.after) == (True, "")
    unloaded.read(page(0, LOOKED_AT, *ids(0, UNLOADED_PAGE + 1)))
    assert unloaded.step(now, loaded=()) == ids(0, UNLOADED_PAGE)
    assert not unloaded.is_due(now + UNLOADED_STEP_MICROSECONDS - 1)
    assert unloaded.is_due(now + UNLOADED_STEP_MICROSECONDS)
    assert (unloaded.wants_page, unloaded.is_done) == (False, False), "what was read is used up before"
    assert unloaded.step(now, loaded=()) == ids(UNLOADED_PAGE, UNLOADED_PAGE + 1)
    assert (unloaded.wants_page, unloaded.after) == (True, ids(LOOKED_AT - 1, LOOKED_AT)[0])
    unloaded.read(page(LOOKED_AT, LOOKED_AT + 9))
    assert (unloaded.step(now, loaded=()), unloaded.is_done, unloaded.wants_page) == ([], True, False)


def test_a_shard_without_open_sagas_is_done_after_one_look() -> None:
    unloaded = walk()
    unloaded.read(page(0, 0))
    assert (unloaded.step(1, loaded=()), unloaded.is_done, unloaded.after) == ([], True, "")


def test_what_is_in_memory_or_has_closed_is_passed_over() -> None:
    unloaded = walk()
    unloaded.read(page(0, LOOKED_AT, *ids(0, LOOKED_AT)))
    unloaded.heard_of(ids(60, 61)[0])
    unloaded.heard_of(SagaId("never named"))
    assert unloaded.step(1, loaded=ids(0, 59)) == [ids(59, 60)[0], *ids(61, 60 + UNLOADED_PAGE)]


def test_s6_after_a_loss_of_the_bus_the_walk_makes_no_pauses() -> None:
    unloaded = walk()
    unloaded.hurry()
    for number in range(0, 5_000, LOOKED_AT):
        assert unloaded.is_due(1)
        unloaded.read(page(number, number + LOOKED_AT, *ids(number, number + UNLOADED_PAGE)))
        unloaded.step(1, loaded=())


def went(restless: int, *, sagas: int, shards: int, records: int = 0) -> tuple[int, int]:
    """(microseconds of processor time in all shards, microseconds that pass) of a walk over so many sagas in each; of
    each page so many are to be loaded. records: of the cluster, a second."""
    unloaded, now, spent = walk(shards=shards), UNLOADED_PAUSE_MICROSECONDS, 0
    for number in range(0, sagas, LOOKED_AT):
        unloaded.read(page(number, number + LOOKED_AT, *ids(number, number + restless)))
        spent += LOOKED_AT * LOOK_MICROSECONDS + restless * LOAD_MICROSECONDS
        for _ in range(max(1, -(-restless // UNLOADED_PAGE))):
            unloaded.step(now, loaded=())
            unloaded.took(round((unloaded.due - now) * records / shards / 1_000_000))
            now = unloaded.due
        assert unloaded.wants_page
    return spent * shards, now - UNLOADED_PAUSE_MICROSECONDS


@pytest.mark.parametrize("restless", [0, 1, 50, 120, 200])
@pytest.mark.parametrize("shards", [1, 12, 60])
def test_s7_the_walks_of_a_cluster_together_take_their_share_of_a_processor(restless: int, shards: int) -> None:
    spent, passed = went(restless, sagas=80_000, shards=shards)
    at_first = went(restless, sagas=LOOKED_AT_WITHOUT_A_PAUSE, shards=shards)[0]
    assert spent - at_first <= passed * WALK_SHARE * 1.01


@pytest.mark.parametrize("restless", [0, 1, 50, 200])
@pytest.mark.parametrize("shards", [1, 12, 60])
@pytest.mark.parametrize("records", [2_500, 20_000])
def test_s7_a_busy_cluster_walks_slowly(restless: int, shards: int, records: int) -> None:
    spent, passed = went(restless, sagas=80_000, shards=shards, records=records)
    at_first = went(restless, sagas=LOOKED_AT_WITHOUT_A_PAUSE, shards=shards)[0]
    assert spent - at_first <= passed * LEAST_SHARE * 1.01


def test_s7_a_walk_is_the_slower_the_more_records_come() -> None:
    passed = [went(50, sagas=80_000, shards=12, records=records)[1] for records in (0, 500, 1_000, 2_000)]
    assert passed == sorted(passed)
    assert passed[0] * 4 < passed[-1]


@pytest.mark.parametrize("restless", [0, 50])
def test_s7_a_walk_over_a_few_thousand_makes_fifty_sagas_each_fifth_of_a_second(restless: int) -> None:
    _, passed = went(restless, sagas=LOOKED_AT_WITHOUT_A_PAUSE, shards=12)
    assert passed == UNLOADED_STEP_MICROSECONDS * LOOKED_AT_WITHOUT_A_PAUSE // LOOKED_AT
