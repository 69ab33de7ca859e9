"""Handlers and undos that always raise, and outputs that nobody takes: both sides on a real PostgreSQL.

What would travel over Kafka is handed over by the test, and time passes at once: pauses of minutes cost nothing.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from sagabus.contracts import SagaType
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.participants import ActivityContext
from tests.coordinator.shard_fixture import PARTITIONS, REQUESTS, Given, ShardFixture, of_shard
from tests.participants.service_fixture import Effect, ServiceFixture, Take, Taken, give_back, note, opened, take_item

SHARD = 1
FIRST, SECOND = of_shard(SHARD, "ORD-"), of_shard(SHARD, "ORD-2")
REPLIES = "sagabus.replies.shop"
TIMERS_BETWEEN_UNDOS = 12
"""An undo is tried again within 300 s, and the shard has something to do once in 60 s besides."""
trouble_type = SagaType("trouble", Take, Taken)


@saga(trouble_type)
async def trouble(ctx: SagaContext, order: Take) -> Taken:
    taken = await ctx.call(take_item(item=order.item))
    await ctx.call(note(item=order.item))
    return taken


class Pair:
    """A coordinator's shard and a participant's. calls: how often each handler ran, by saga. raising: whose raise."""

    def __init__(self, pool: Database, shop: ServiceFixture) -> None:
        self.coordinator = ShardFixture(pool, (trouble,), SHARD)
        self.shop = shop
        self.calls: Counter[tuple[str, str]] = Counter()
        self.raising: set[str] = set()
        self.size = 1
        self.tenures: tuple[Tenure, Tenure]
        for activity in (take_item, give_back, note):
            shop.handles(activity)(self._handler(activity.name, gives=activity is take_item))

    def _handler(self, name: str, *, gives: bool) -> Any:
        async def taking(command: Take, ctx: ActivityContext) -> Taken:
            await self._called(name, ctx)
            return Taken(item="x" * self.size if ctx.saga_id == FIRST else "x", left=1)

        async def giving_nothing(command: Take, ctx: ActivityContext) -> None:
            await self._called(name, ctx)

        return taking if gives else giving_nothing

    async def _called(self, name: str, ctx: ActivityContext) -> None:
        self.calls[ctx.saga_id, name] += 1
        ctx.session.add(Effect(what=f"{ctx.saga_id} {name}"))
        if name in self.raising:
            raise RuntimeError(f"{name} never works")

    async def take(self) -> None:
        async with self.coordinator.database.transaction() as connection:
            claim = Claim(cluster="cluster", generation=1, partitions=PARTITIONS)
            tenure = await acquire(connection, "sagabus", SHARD, claim, token=uuid4())
        tenure.locate({topic: Log("log", 0, 0) for topic in (REQUESTS, REPLIES)})
        await self.coordinator.processor.acquired(tenure)
        self.tenures = tenure, await self.shop.take()

    async def exchange(self, *records: Any) -> None:
        """Carry commands and replies to and fro until neither side has anything to say."""
        left = await self.coordinator.turn(self.tenures[0], *records)
        while commands := [one for one in left if one.topic == "shop.commands"]:
            replies = [one.message for one in await self.shop.turn(self.tenures[1], *commands)]
            left = await self.coordinator.turn(self.tenures[0], *map(self._record, replies))

    def _record(self, message: Any) -> Given:
        offset = self.coordinator.ends.get(REPLIES, 0)
        self.coordinator.ends[REPLIES] = offset + 1
        return Given(REPLIES, SHARD, offset, message.key, message.value, message.headers)

    async def pass_time(self, *, times: int = 30) -> None:
        """So many timers fire, one after the other, as far as there are any."""
        for _ in range(times):
            due = self.coordinator.processor.next_due()
            if due is None:
                return
            self.coordinator.now = self.shop.now = max(due, self.coordinator.now)
            await self.exchange()

    def start(self, *sagas: str) -> list[Any]:
        return [self.coordinator.request(id, type="start", saga="trouble", input={"item": "book"}) for id in sagas]

    async def saga(self, id: str) -> Any:
        return await self.coordinator.saga(id)

    def verb(self, verb: str, step: int) -> Any:
        return self.coordinator.request(FIRST, type=verb, step=step, reason="by hand", actor="ann")


@pytest.fixture
async def pair(database: str) -> AsyncIterator[Pair]:
    await migrate(database, "sagabus")
    pool = Database(database)
    async with opened(database) as shop:
        pair = Pair(pool, shop)
        await pair.take()
        yield pair
    await pool.stop()


async def test_a_handler_that_always_raises_uses_up_its_attempts_and_all_is_undone(pair: Pair) -> None:
    pair.raising = {"shop.note"}
    await pair.exchange(*pair.start(FIRST))
    assert (await pair.saga(FIRST))["status"] == "running"
    await pair.pass_time()
    ended = await pair.saga(FIRST)
    error = json.loads(ended["error"])
    assert (ended["status"], ended["attention"]) == ("compensated", None)
    assert (error["code"], error["activity"]) == ("sagabus.retries_exhausted", "shop.note")
    assert error["details"]["last"]["details"]["type"] == "RuntimeError"
    assert pair.calls == {(FIRST, "shop.take"): 1, (FIRST, "shop.note"): 5, (FIRST, "shop.give_back"): 1}
    assert await pair.shop.effects() == [f"{FIRST} shop.take", f"{FIRST} shop.give_back"]


async def test_u6_an_undo_that_always_raises_is_tried_on_until_a_person_skips_it(pair: Pair) -> None:
    pair.raising = {"shop.note", "shop.give_back"}
    await pair.exchange(*pair.start(FIRST))
    await pair.pass_time()
    for _ in itertools.repeat(None, 2):
        calls = pair.calls[FIRST, "shop.give_back"]
        await pair.pass_time(times=TIMERS_BETWEEN_UNDOS)
        stuck = await pair.saga(FIRST)
        assert stuck["status"] == "compensating"
        assert "undo of step 1 (shop.give_back): sagabus.handler_error" in stuck["attention"]
        assert pair.calls[FIRST, "shop.give_back"] > calls
    await pair.exchange(pair.verb("skip", 1))
    ended = await pair.saga(FIRST)
    assert (ended["status"], ended["attention"]) == ("compensated", None)
    rows = await pair.coordinator.rows("SELECT name, payload FROM sagabus.history WHERE kind = 'operator'")
    assert [(row["name"], json.loads(row["payload"])["reason"]) for row in rows] == [("skip", "by hand")]


async def test_u6_an_undo_that_was_mended_is_tried_at_once_when_a_person_says_so(pair: Pair) -> None:
    pair.raising = {"shop.note", "shop.give_back"}
    await pair.exchange(*pair.start(FIRST))
    await pair.pass_time(times=40)
    pair.raising = set()
    await pair.exchange(pair.verb("retry", 1))
    ended = await pair.saga(FIRST)
    assert (ended["status"], ended["attention"]) == ("compensated", None)
    assert await pair.shop.effects() == [f"{FIRST} shop.take", f"{FIRST} shop.give_back"]


async def test_an_output_that_is_too_large_is_a_failure_with_its_size_and_holds_up_nobody(pair: Pair) -> None:
    pair.size = 1_000_000
    await pair.exchange(*pair.start(FIRST, SECOND))
    assert (await pair.saga(SECOND))["status"] == "completed"
    await pair.pass_time()
    ended = await pair.saga(FIRST)
    last = json.loads(ended["error"])["details"]["last"]
    assert ended["status"] == "compensated"
    assert last["code"] == "sagabus.reply_too_large"
    assert "has 1000020 bytes; the limit is 921600" in last["message"]
    assert await pair.shop.effects() == [f"{SECOND} shop.take", f"{SECOND} shop.note"]


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"type": "skip", "step": 2_000_000, "reason": "x"}, "payload.invalid"),
        ({"type": "skip", "step": 1}, "request.incomplete"),
        ({"type": "skip", "reason": "x"}, "request.incomplete"),
        ({"type": "pause"}, "request.incomplete"),
        ({"type": "complete", "step": 1, "reason": "x"}, "request.incomplete"),
    ],
)
async def test_a_verb_that_cannot_be_carried_out_is_a_dead_letter(
    pair: Pair, request_body: dict[str, Any], reason: str
) -> None:
    await pair.exchange(*pair.start(FIRST))
    await pair.coordinator.turn(
        pair.tenures[0],
        pair.coordinator.request(SECOND, type="retry", step=1, reason="x"),
        pair.coordinator.record(REQUESTS, FIRST, request_body),
    )
    letters = await pair.coordinator.rows("SELECT reason FROM sagabus.dead_letter ORDER BY id")
    assert {row["reason"] for row in letters} == {"request.no_saga", reason}


@pytest.mark.parametrize("verb", ["pause", "terminate"])
async def test_a_verb_that_a_closed_saga_refuses_stands_in_its_history_and_is_no_dead_letter(
    pair: Pair, verb: str
) -> None:
    await pair.exchange(*pair.start(FIRST))
    request = pair.coordinator.record(REQUESTS, FIRST, {"type": verb, "reason": "x"})
    await pair.coordinator.turn(pair.tenures[0], request)
    assert await pair.coordinator.rows("SELECT reason FROM sagabus.dead_letter") == []
    refused = await pair.coordinator.rows("SELECT payload FROM sagabus.history WHERE name = 'refused'")
    assert [json.loads(row["payload"])["code"] for row in refused] == ["saga.closed"]
