"""The session of a transactional handler."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from sagabus.contracts.replies import ReplyKind
from sagabus.participants import ActivityContext, Refused
from tests.participants.service_fixture import (
    Effect,
    Saga,
    ServiceFixture,
    Stock,
    Take,
    Taken,
    batch,
    noted,
    take_item,
)


@pytest.mark.parametrize("method", ["commit", "rollback", "close", "reset", "invalidate", "begin"])
@pytest.mark.parametrize("sync", [False, True])
async def test_a_session_cannot_end_the_transaction(fixture: ServiceFixture, method: str, sync: bool) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        if ctx.saga_id == "A":
            if sync:
                await ctx.session.run_sync(lambda session: getattr(session, method)())
            else:
                await getattr(ctx.session, method)()
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.FAILED, ReplyKind.COMPLETED]
    assert replies[0].failure.details == {"type": "SessionMisuse"}
    assert "begin_nested" in replies[0].failure.message
    assert await fixture.effects() == ["B"]


async def test_a_part_of_a_handler_can_be_undone_by_itself(fixture: ServiceFixture) -> None:
    raised: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=f"{ctx.saga_id} before"))
        async with ctx.session.begin_nested():
            ctx.session.add(Effect(what=f"{ctx.saga_id} within"))
        try:
            async with ctx.session.begin_nested():
                ctx.session.add_all([Effect(what="undone"), Stock(item="book", left=1)])
        except IntegrityError as error:
            raised.append(str(error.orig))
        ctx.session.add(Effect(what=f"{ctx.saga_id} after"))
        return Taken(item=command.item, left=(await ctx.session.scalars(select(Stock.left))).one())

    tenure = await fixture.take()
    for sagas in (["A", "B"], ["C"]):
        replies = await fixture.turn(tenure, *batch(*sagas))
        assert {reply.kind for reply in replies} == {ReplyKind.COMPLETED}
    assert len(raised) == 3
    assert all("stock_pkey" in said for said in raised)
    assert await fixture.effects() == [f"{saga} {when}" for saga in "ABC" for when in ("before", "within", "after")]


async def test_a_context_is_over_when_its_handler_has_returned(fixture: ServiceFixture) -> None:
    kept: list[ActivityContext[Any]] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        kept.append(ctx)
        if ctx.saga_id == "A":
            await ctx.session.execute(select(Stock))
        else:
            kept[0].session.add(Effect(what="late"))
            await kept[0].session.flush()
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED, ReplyKind.FAILED]
    with pytest.raises(Exception, match="after the handler has returned"):
        kept[-1].publish(noted(item="x", text="y"))
    assert await fixture.effects() == []


async def test_handlers_of_a_batch_see_each_others_effects(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        left = await ctx.session.scalar(
            update(Stock).where(Stock.item == command.item, Stock.left >= command.count)
            .values(left=Stock.left - command.count).returning(Stock.left)
        )  # fmt: skip
        if left is None:
            raise Refused("out_of_stock", "no more")
        return Taken(item=command.item, left=left)

    tenure = await fixture.take()
    commands = [Saga(f"S{n}").command(take_item, Take(item="book", count=4)) for n in range(4)]
    replies = await fixture.turn(tenure, *commands)
    assert [r.kind for r in replies] == [ReplyKind.COMPLETED] * 2 + [ReplyKind.REFUSED] * 2
    assert [row["left"] for row in await fixture.rows('SELECT "left" FROM stock')] == [2]
