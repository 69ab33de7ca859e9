"""U8: a blocked saga is ended without its code, with the real store: loaded, acquired by others, its timers gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sagabus.contracts.envelope import Message
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.long_sagas import LIMITS, collects, lengthen
from tests.coordinator.shard_fixture import Given, ShardFixture, of_shard, types
from tests.coordinator.test_saga_processor import ASK, EXPENSE, ORDER, RESERVED, SHARD, start

LONG = of_shard(SHARD, "LONG-")
PAID = {"transaction_id": "TXN-1", "amount": "29.99", "status": "completed"}
CODES: Sequence[SagaDefinition[Any, Any]] = (order_processing, expense_approval)


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, CODES, SHARD)
    await pool.stop()


def cancel(fixture: ShardFixture, id: str) -> Given:
    return fixture.request(id, type="cancel", reason="enough", actor="ann")


def besides_the_answer(left: list[Message]) -> list[Message]:
    """What a turn has sent, but that the cancel was applied, which is told once."""
    answer = ["sagabus.request.applied"]
    rest = [message for message in left if types([message]) != answer]
    assert len(rest) == len(left) - 1
    return rest


async def kinds(fixture: ShardFixture, id: str) -> list[str]:
    rows = await fixture.rows("SELECT id, kind FROM sagabus.history ORDER BY seq")
    return [row["kind"] for row in rows if row["id"] == id]


async def test_u8_a_saga_of_a_mistyped_name_is_cancelled_by_one_request(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(ORDER, type="start", saga="order_procesing", input={}))
    assert "no definition 'order_procesing'" in (await fixture.saga(ORDER))["attention"]
    tenure = await fixture.crash()
    left = besides_the_answer(await fixture.turn(tenure, cancel(fixture, ORDER)))
    assert types(left) == ["sagabus.saga.attention_cleared", "sagabus.saga.cancelled"]
    saga = await fixture.saga(ORDER)
    assert (saga["status"], saga["attention"], saga["decided"]) == ("cancelled", None, None)
    assert json.loads(saga["error"])["codeless"] is True
    assert await kinds(fixture, ORDER) == ["started", "blocked", "cancel", "codeless", "ended"]


async def test_u8_a_cancel_in_the_very_turn_of_such_a_start_ends_it_soon_after(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    started = fixture.request(ORDER, type="start", saga="order_procesing", input={})
    left = besides_the_answer(await fixture.turn(tenure, started, cancel(fixture, ORDER)))
    assert types(left)[-1] == "sagabus.saga.cancelled"
    assert (await fixture.saga(ORDER))["status"] == "cancelled"


@pytest.mark.parametrize("codes", [CODES, (expense_approval,)], ids=["its code is back", "its code is missing"])
async def test_u8_it_is_undone_from_its_rows_by_whoever_owns_its_shard(
    fixture: ShardFixture, codes: Sequence[SagaDefinition[Any, Any]]
) -> None:
    tenure = await fixture.take()
    _, reserve = await fixture.turn(tenure, start(fixture))
    left = await fixture.turn(tenure, fixture.reply(reserve, "completed", RESERVED))
    tenure = await fixture.crash(expense_approval)
    left = besides_the_answer(await fixture.turn(tenure, cancel(fixture, ORDER)))
    assert types(left) == ["sagabus.saga.attention", "sagabus.saga.attention_cleared", "sagabus.settle"]
    tenure = await fixture.crash(*codes)
    left = await fixture.turn(tenure, fixture.reply(left[-1], "completed", PAID))
    assert types(left) == ["sagabus.step.completed", "payment.refund_payment"]
    tenure = await fixture.crash(*codes)
    left = await fixture.turn(tenure, fixture.reply(left[-1], "completed", None))
    assert types(left) == ["sagabus.compensation.completed", "inventory.cancel_reservation"]
    left = await fixture.turn(tenure, fixture.reply(left[-1], "completed", None))
    assert types(left) == ["sagabus.compensation.completed", "sagabus.saga.cancelled"]
    tenure = await fixture.crash(*codes)
    late = await fixture.turn(tenure, fixture.reply(reserve, "completed", {**RESERVED, "reservation_id": "RES-2"}))
    assert types(late) == ["sagabus.saga.attention"], "its history explains as much as that of any other"
    assert "with different outputs" in (await fixture.saga(ORDER))["attention"]


async def test_u8_none_of_its_timers_is_left(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    begun = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga="expense_approval", input=ASK))
    await fixture.turn(tenure, fixture.reply(begun[-1], "completed", None))
    assert len(await fixture.rows("SELECT * FROM sagabus.timer")) == 1
    tenure = await fixture.crash(order_processing)
    await fixture.turn(tenure)
    assert len(await fixture.rows("SELECT * FROM sagabus.timer")) == 1, "it may go on yet"
    await fixture.turn(tenure, cancel(fixture, EXPENSE))
    assert (await fixture.saga(EXPENSE))["status"] == "cancelled"
    assert await fixture.rows("SELECT * FROM sagabus.timer") == []
    fixture.now += 86_401
    assert await fixture.turn(tenure) == []


@pytest.mark.parametrize(
    ("codes", "ends"),
    [
        (CODES, ["cancel", "resumed", "undo.input", "command", "ended", "settle"]),
        ((expense_approval,), ["cancel", "codeless", "undo.input", "ended", "undo"]),
    ],
    ids=["its code is back", "its code is missing"],
)
async def test_u8_what_an_older_release_has_kept_is_carried_out_after_an_acquisition(
    fixture: ShardFixture, codes: Sequence[SagaDefinition[Any, Any]], ends: list[str]
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    async with fixture.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO sagabus.history SELECT id, run, seq + 1, at, 'cancel', 0, 0, '', 'c-1', 'enough', sequence "
            "FROM sagabus.history ORDER BY seq DESC LIMIT 1"
        )
    tenure = await fixture.crash(*codes)
    await fixture.turn(tenure)
    assert (await kinds(fixture, ORDER))[-len(ends) :] == ends


async def test_u8_a_long_history_is_read_back_and_ended_behind_the_turns(fixture: ShardFixture) -> None:
    fixture.limits = LIMITS
    tenure = await fixture.crash(collects)
    await lengthen(fixture, tenure, LONG, range(1, 100))
    tenure = await fixture.crash(order_processing)
    left = besides_the_answer(await fixture.turn(tenure, cancel(fixture, LONG)))
    assert types(left)[-1] == "sagabus.saga.cancelled"
    tenure = await fixture.crash(collects)
    copy = fixture.request(LONG, type="event", name="payment.confirmed", data={"amount": 7}, event_id="7")
    assert await fixture.turn(tenure, copy) == [], "it is known by its id"
