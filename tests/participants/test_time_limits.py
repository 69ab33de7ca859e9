"""P9: a handler whose time is over is cancelled, what it did is rolled back, and its attempt has failed."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sagabus.contracts import DeclarationError
from sagabus.contracts.replies import HANDLER_TIMED_OUT, ReplyKind
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ActivityContext, ExternalContext, HandlerTimedOut, Participant, Refused
from sagabus.participants.handlers import time_limit as time_limit_module
from sagabus.participants.testing import carried
from tests.participants.service_fixture import (
    BOOK,
    Effect,
    Reply,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    batch,
    charge,
    noted,
    shop,
    take_item,
)
from tests.support.conditions import until

LIMIT = 0.1
"""Seconds."""

OVER = f"the handler ran for longer than its time limit of {LIMIT:g} s, and was cancelled"


async def for_ever() -> None:
    await asyncio.Event().wait()


class Taker:
    """A handler for `take` that has an effect first. The named sagas then do something that lasts."""

    def __init__(self, fixture: ServiceFixture, *slow: str) -> None:
        self.calls: list[str] = []
        self.slow = slow
        fixture.handles(take_item, time_limit=LIMIT)(self.take)

    async def take(self, command: Take, ctx: ActivityContext) -> Taken:
        self.calls.append(f"{ctx.saga_id}/{ctx.attempt}")
        ctx.publish(noted(item=command.item, text="taken"))
        await self.effect(ctx)
        if ctx.saga_id in self.slow:
            await self.lasts(ctx)
        return Taken(item=command.item, left=1)

    async def effect(self, ctx: ActivityContext) -> None:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()

    async def lasts(self, ctx: ActivityContext) -> None:
        await for_ever()


def said(replies: list[Reply]) -> list[tuple[str, str]]:
    """Of each: its kind, and the code of a failure."""
    return [(reply.kind.value, "" if reply.kind is ReplyKind.COMPLETED else reply.code) for reply in replies]


FAILED = ("failed", HANDLER_TIMED_OUT)


async def test_p9_it_is_a_failed_attempt_and_what_it_did_is_rolled_back(fixture: ServiceFixture) -> None:
    taker = Taker(fixture, "A")
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert (reply.kind, reply.code, reply.failure.message) == (ReplyKind.FAILED, HANDLER_TIMED_OUT, OVER)
    assert reply.failure.details == {"type": "HandlerTimedOut"}
    assert (await fixture.effects(), await fixture.inbox()) == ([], [("A:r1:1", "failed", 1)])
    taker.slow = ()
    assert said(await fixture.turn(tenure, *batch("A", attempt=2))) == [("completed", "")]
    assert (await fixture.effects(), taker.calls) == (["A"], ["A/1", "A/2"])


async def test_p9_the_others_of_its_batch_are_carried_out_and_it_does_not_run_again(fixture: ServiceFixture) -> None:
    taker = Taker(fixture, "B", "D")
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B", "C", "D"))
    assert said(replies) == [("completed", ""), FAILED, ("completed", ""), FAILED]
    assert await fixture.effects() == ["A", "C"]
    assert [call for call in taker.calls if call in ("B/1", "D/1")] == ["B/1", "D/1"]


@pytest.mark.parametrize("way", ["session", "connection"])
async def test_p9_in_the_middle_of_a_statement(fixture: ServiceFixture, way: str) -> None:
    class Querying(Taker):
        async def lasts(self, ctx: ActivityContext) -> None:
            if way == "session":
                await ctx.session.execute(text("SELECT pg_sleep(600)"))
            else:
                await ctx.connection.execute("SELECT pg_sleep(600)")

    Querying(fixture, "A")
    tenure = await fixture.take()
    assert said(await fixture.turn(tenure, *batch("A", "B"))) == [FAILED, ("completed", "")]
    assert await fixture.effects() == ["B"]
    assert said(await fixture.turn(tenure, *batch("C"))) == [("completed", "")], "the tenure goes on"


async def test_p9_with_savepoints_around_each(fixture: ServiceFixture) -> None:
    class Failing(Taker):
        async def lasts(self, ctx: ActivityContext) -> None:
            if ctx.saga_id == "A":
                raise ValueError("this brings savepoints")
            await for_ever()

    taker = Failing(fixture, "A", "B")
    tenure = await fixture.take()
    assert [code for _, code in said(await fixture.turn(tenure, *batch("A", "B", "C")))] == [
        "sagabus.handler_error", HANDLER_TIMED_OUT, "",
    ]  # fmt: skip
    assert await fixture.effects() == ["C"]
    assert taker.calls.count("B/1") == 1


async def test_p9_one_that_has_touched_nothing_fails_without_a_rollback(fixture: ServiceFixture) -> None:
    class Idle(Taker):
        async def effect(self, ctx: ActivityContext) -> None:
            if ctx.saga_id not in self.slow:
                await super().effect(ctx)

    taker = Idle(fixture, "B")
    tenure = await fixture.take()
    assert said(await fixture.turn(tenure, *batch("A", "B", "C"))) == [("completed", ""), FAILED, ("completed", "")]
    assert (await fixture.effects(), taker.calls) == (["A", "C"], ["A/1", "B/1", "C/1"])


class Swallowing(Taker):
    """Catches its cancellation, so many times, and then does what `ends` says."""

    times = 1
    cancelled = 0

    async def lasts(self, ctx: ActivityContext) -> None:
        while self.cancelled < self.times:
            try:
                await for_ever()
            except asyncio.CancelledError:
                self.cancelled += 1
        self.ends()

    def ends(self) -> None:
        """It returns as if nothing had been."""


async def test_p9_a_handler_that_swallows_its_cancellation_has_failed(fixture: ServiceFixture) -> None:
    swallowing = Swallowing(fixture, "A")
    tenure = await fixture.take()
    assert said(await fixture.turn(tenure, *batch("A"))) == [FAILED]
    assert (await fixture.effects(), swallowing.cancelled) == ([], 1)


async def test_p9_a_handler_that_goes_on_is_cancelled_again_and_named(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time_limit_module, "AGAIN_SECONDS", 0.01)
    swallowing = Swallowing(fixture, "A")
    swallowing.times = 3
    tenure = await fixture.take()
    assert said(await fixture.turn(tenure, *batch("A"))) == [FAILED]
    assert (await fixture.effects(), swallowing.cancelled) == ([], 3)
    assert "shop.take of saga A goes on after its time limit; it is cancelled again" in caplog.text
    assert said(await fixture.turn(tenure, *batch("B"))) == [("completed", "")]


async def test_p9_what_it_raises_when_it_is_cancelled_does_not_count(fixture: ServiceFixture) -> None:
    class Refusing(Swallowing):
        def ends(self) -> None:
            raise Refused("out_of_stock", "too late to say so")

    Refusing(fixture, "A")
    tenure = await fixture.take()
    assert said(await fixture.turn(tenure, *batch("A"))) == [FAILED]


async def test_p9_its_own_commit_is_not_part_of_its_time(fixture: ServiceFixture) -> None:
    """Its function has returned in time; the row that it added is written by the kit, and that takes longer."""
    async with fixture.engine.begin() as connection:
        await connection.execute(text(
            f"CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({3 * LIMIT}); RETURN NEW; END $$"
        ))  # fmt: skip
        await connection.execute(
            text("CREATE TRIGGER slow BEFORE INSERT ON effect FOR EACH ROW EXECUTE FUNCTION slowly()")
        )

    class Adding(Taker):
        async def effect(self, ctx: ActivityContext) -> None:
            ctx.session.add(Effect(what=ctx.saga_id))

    try:
        Adding(fixture)
        tenure = await fixture.take()
        assert said(await fixture.turn(tenure, *batch("A"))) == [("completed", "")]
        assert await fixture.effects() == ["A"]
    finally:
        async with fixture.engine.begin() as connection:
            await connection.execute(text("DROP FUNCTION slowly CASCADE"))


async def test_p9_the_end_of_its_process_is_no_end_of_its_time(fixture: ServiceFixture) -> None:
    begun = asyncio.Event()

    @fixture.handles(take_item, time_limit=600)
    async def take(command: Take, ctx: ActivityContext) -> Taken:
        begun.set()
        await for_ever()
        raise AssertionError

    tenure = await fixture.take()
    turn = asyncio.create_task(fixture.turn(tenure, *batch("A")))
    await begun.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert await fixture.inbox() == []


async def test_p9_the_log_names_activity_saga_step_and_limit(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    Taker(fixture, "A")
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(take_item, BOOK, step=7, attempt=2))
    [line] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert line.getMessage().startswith(f"shop.take of saga A, attempt 2, step 7: {OVER}: Taker.take, ")
    assert "in for_ever" in caplog.text, "where it waited"


# External handlers.


async def ended(fixture: ServiceFixture, tenure: Tenure) -> list[Reply]:
    await until(lambda: fixture.processor.externals.ended([tenure]), what="a handler has ended")
    return await fixture.turn(tenure)


async def test_p9_an_external_handler_fails_and_the_next_attempt_has_its_key(fixture: ServiceFixture) -> None:
    keys: list[tuple[str, int]] = []

    @fixture.handles(charge, transaction=False, time_limit=LIMIT)
    async def pay(command: Take, ctx: ExternalContext[Any]) -> Taken:
        keys.append((ctx.idempotency_key, ctx.attempt))
        if ctx.attempt == 1:
            async with ctx.transaction() as session:
                session.add(Effect(what="half"))
                await session.flush()
                await for_ever()
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, BOOK))
    assert await fixture.inbox() == [("A:r1:1", "started", 1)]
    assert said(await ended(fixture, tenure)) == [FAILED]
    assert (await fixture.inbox(), await fixture.effects()) == ([("A:r1:1", "failed", 1)], [])
    await fixture.turn(tenure, Saga("A").command(charge, BOOK, attempt=2))
    assert said(await ended(fixture, tenure)) == [("completed", "")]
    assert keys == [("A:r1:1", 1), ("A:r1:1", 2)]


async def test_p9_an_external_handler_in_the_middle_of_a_statement_of_its_own(fixture: ServiceFixture) -> None:
    @fixture.handles(charge, transaction=False, time_limit=LIMIT)
    async def pay(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            await session.execute(text("SELECT pg_sleep(600)"))
        raise AssertionError

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, BOOK))
    assert said(await ended(fixture, tenure)) == [FAILED]


async def test_p9_an_external_handler_whose_shard_is_lost_is_cancelled_and_fails_nothing(
    fixture: ServiceFixture,
) -> None:
    begun = asyncio.Event()

    @fixture.handles(charge, transaction=False, time_limit=600)
    async def pay(command: Take, ctx: ExternalContext[Any]) -> Taken:
        begun.set()
        await for_ever()
        raise AssertionError

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, BOOK))
    await begun.wait()
    fixture.processor.lost(tenure)
    await fixture.processor.externals.stop()
    assert await fixture.inbox() == [("A:r1:1", "started", 1)]


# As it is declared, and in tests of a participant.


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), timedelta(0), "30"])
@pytest.mark.parametrize("transaction", [True, False])
def test_a_time_limit_that_is_none_is_refused(wrong: Any, transaction: bool) -> None:
    service: Any = Participant(shop)

    async def handler(command: Take, ctx: Any) -> Taken:
        raise NotImplementedError

    with pytest.raises(DeclarationError, match=r"shop\.take: handler .*handler: time_limit="):
        service.handles(take_item, transaction=transaction, time_limit=wrong)(handler)


async def test_a_test_of_a_participant_hears_that_its_time_was_over(fixture: ServiceFixture) -> None:
    service = Participant(shop)

    @service.handles(take_item, time_limit=timedelta(milliseconds=100))
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        await for_ever()
        raise NotImplementedError

    async with carried(service, database=fixture.engine) as made:
        with pytest.raises(HandlerTimedOut) as failed:
            await made.handle(take_item(item="book"))
    assert failed.value.limit == LIMIT
