"""Attributes of a saga in its row, on the real store: written when they change, and not again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.store.attribute_search import Wanted
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.saga_list import Filter
from sagabus.messaging.postgres.database import Database
from sagabus.shop.approval import Ask, Expense, ask, decided
from tests.coordinator.shard_fixture import ShardFixture
from tests.coordinator.test_saga_processor import ASK, EXPENSE, SHARD

NAME = "labelled"


class Labels(BaseModel):
    zone: str = "a"
    amount: float = 1.0
    who: str | None = None


@saga(NAME, attributes=Labels)
async def labelled(ctx: SagaContext, expense: Expense) -> None:
    await ctx.call(ask.of(Ask(expense_id=expense.expense_id, who=expense.approver)))
    ctx.attribute(who=expense.approver)
    await ctx.event(decided)
    ctx.attribute(who=expense.approver)
    await ctx.event(decided)


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (labelled,), SHARD)
    await pool.stop()


async def stored(fixture: ShardFixture) -> Any:
    return json.loads((await fixture.saga(EXPENSE))["attributes"])


async def version(fixture: ShardFixture) -> Any:
    return (await fixture.rows("SELECT xmin::text, ctid::text FROM sagabus.saga"))[0]


async def test_h9_the_row_follows_the_code_and_is_not_written_again(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga=NAME, input=ASK))
    assert await stored(fixture) == {"zone": "a", "amount": 1.0, "who": None}
    sent = await fixture.turn(tenure, fixture.reply(command, "completed", None))
    assert dict(sent[-1].headers)["ce_type"] == LifecycleType.ATTRIBUTES.encode()
    assert (await stored(fixture))["who"] == ASK["approver"]
    found = await OperatorReads(fixture.database, "sagabus").page(
        Filter(attributes=(Wanted("who", str(ASK["approver"])), Wanted("amount", "1"))), limit=5, after=None
    )
    assert [row.id for row in found.sagas] == [EXPENSE]


async def test_h9_a_saga_that_is_loaded_again_is_not_written_again(fixture: ShardFixture) -> None:
    """PostgreSQL's jsonb has other spaces and another order than what was written."""
    fixture.definitions = (labelled,)
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga=NAME, input=ASK))
    before = await version(fixture)
    tenure = await fixture.crash()
    fixture.now += 30
    for _ in range(3):
        await fixture.turn(tenure)
    assert len(*fixture.processor._memories.values()) == 1
    assert await version(fixture) == before
