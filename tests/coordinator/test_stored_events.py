"""Which events a saga waits for stands in its row, and is right whichever release has written there before."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from tests.coordinator.shard_fixture import ShardFixture
from tests.coordinator.test_saga_processor import ASK, EXPENSE, SHARD

DECIDED = "approvals.decided"


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (expense_approval,), SHARD)
    await pool.stop()


async def waiting(fixture: ShardFixture) -> Tenure:
    """A saga that waits for its event. Rows: started, command, completed."""
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga="expense_approval", input=ASK))
    fixture.now += 5
    await fixture.turn(tenure, fixture.reply(command, "completed", None))
    return tenure


async def stored(fixture: ShardFixture) -> Any:
    events = (await fixture.saga(EXPENSE))["events"]
    return None if events is None else json.loads(events)


async def version(fixture: ShardFixture) -> Any:
    """Of the saga's row: another one once it has been written."""
    return (await fixture.rows("SELECT xmin::text, ctid::text FROM sagabus.saga"))[0]


async def loaded(fixture: ShardFixture, *, at_rest: bool) -> None:
    """Another process takes the shard, and has loaded what nobody has heard of. at_rest: also if it is at rest."""
    tenure = await fixture.crash()
    if at_rest:
        fixture.processor._loading.definitions.fingerprints.clear()
    fixture.now += 30
    for _ in range(3):
        await fixture.turn(tenure)


async def test_the_row_follows_the_saga_and_is_null_while_it_waits_for_no_event(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga="expense_approval", input=ASK))
    assert await stored(fixture) is None
    fixture.now += 5
    await fixture.turn(tenure, fixture.reply(command, "completed", None))
    began = round(fixture.now * 1_000_000)
    assert await stored(fixture) == {"row": 3, "awaited": [{"name": DECIDED, "since": began}], "kept": []}
    fixture.now += 60
    await fixture.turn(tenure, fixture.request(EXPENSE, type="event", name="approvals.decide", data=None))
    assert await stored(fixture) == {
        "row": 4, "awaited": [{"name": DECIDED, "since": began}], "kept": [{"name": "approvals.decide", "number": 1}],
    }  # fmt: skip
    await fixture.turn(tenure, fixture.request(EXPENSE, type="event", name=DECIDED, data={"approved": True, "by": "a"}))
    assert ((await fixture.saga(EXPENSE))["status"], await stored(fixture)) == ("completed", None)


async def test_a_saga_that_is_loaded_again_is_not_written_again(fixture: ShardFixture) -> None:
    await waiting(fixture)
    before = await version(fixture)
    await loaded(fixture, at_rest=True)
    assert len(*fixture.processor._memories.values()) == 1
    assert await version(fixture) == before


@pytest.mark.parametrize("older", ["DEFAULT", "NULL", """'{"row": 2, "awaited": [], "kept": []}'"""])
async def test_what_an_older_release_has_left_is_made_right_when_the_saga_is_loaded(
    fixture: ShardFixture, older: str
) -> None:
    await waiting(fixture)
    right = await stored(fixture)
    await fixture.rows(f"UPDATE sagabus.saga SET events = {older}")
    assert await stored(fixture) != right
    await loaded(fixture, at_rest=older == "NULL")  # of which nobody can tell that it is not so (docs/decisions/0023)
    assert await stored(fixture) == right


async def test_it_is_read_with_the_rows_that_it_holds_for(fixture: ShardFixture) -> None:
    await waiting(fixture)
    reads = OperatorReads(fixture.database, "sagabus")
    saga = await reads.saga(EXPENSE)
    assert saga is not None
    (recent,) = await reads.recent([saga], most=2)
    assert recent.events is not None
    assert recent.events.row == recent.rows[-1].seq
    assert [one.name for one in recent.events.awaited] == [DECIDED]
