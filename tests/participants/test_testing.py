"""`carried`: what the users of the kit test their participants with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, assert_type

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from sagabus.contracts import ActivityFailed, DeclarationError, MessageInvalid
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.participants import ActivityContext, ExternalContext, Participant, Refused, TryAgain
from sagabus.participants.testing import carried
from tests.participants.service_fixture import (
    Base,
    Effect,
    Stock,
    Take,
    Taken,
    charge,
    give_back,
    note,
    noted,
    shop,
    take_item,
)


@dataclass
class Resources:
    calls: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    closed: bool = False


made: list[Resources] = []


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Resources]:
    resources = Resources()
    made.append(resources)
    yield resources
    resources.closed = True


service = Participant(shop, lifespan=lifespan, tables=Base.metadata)


@service.handles(take_item)
async def take(command: Take, ctx: ActivityContext[Resources]) -> Taken:
    ctx.resources.calls.append(ctx.idempotency_key)
    ctx.publish(noted(item=command.item, text="taken"))
    left = await ctx.session.scalar(
        update(Stock).where(Stock.item == command.item, Stock.left >= command.count)
        .values(left=Stock.left - command.count).returning(Stock.left)
    )  # fmt: skip
    if left is None:
        raise Refused("out_of_stock", "no more", item=command.item)
    if ctx.resources.errors:
        raise ctx.resources.errors.pop(0)
    return Taken(item=command.item, left=left)


@service.handles(give_back)
async def undo(command: Take, ctx: ActivityContext[Resources]) -> None:
    await ctx.session.execute(update(Stock).values(left=Stock.left + command.count))


@service.handles(charge, transaction=False)
async def charged(command: Take, ctx: ExternalContext[Resources]) -> Taken:
    ctx.resources.calls.append(ctx.idempotency_key)
    await asyncio.sleep(0)
    async with ctx.transaction() as session:
        session.add(Effect(what=command.item))
    if ctx.resources.errors:
        raise ctx.resources.errors.pop(0)
    ctx.publish(noted(item=command.item, text="charged"))
    return Taken(item=command.item, left=0)


@pytest.fixture
async def engine(shop_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(sqlalchemy_url(shop_database))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        await connection.exec_driver_sql("INSERT INTO stock VALUES ('book', 10)")
    yield engine
    await engine.dispose()


async def rows(engine: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with engine.begin() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def test_a_command_is_carried_out_for_real(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as it:
        assert_type(await it.handle(take_item(item="book", count=3)), Taken)
        assert await it.handle(take_item(item="book", count=3)) == Taken(item="book", left=4)
        assert it.published == [noted(item="book", text="taken")] * 2
        await it.handle(give_back(item="book", count=2))
        assert await rows(engine, 'SELECT "left" FROM stock') == [(6,)]
        found = await rows(engine, "SELECT activity, state FROM sagabus_shop.inbox ORDER BY at")
        assert found == [("shop.take", "completed"), ("shop.take", "completed"), ("shop.give_back", "completed")]


async def test_without_a_database_there_is_an_embedded_one() -> None:
    async with carried(service) as it:
        with pytest.raises(Refused) as refusal:
            await it.handle(take_item(item="book"))
        assert (refusal.value.code, refusal.value.details) == ("out_of_stock", {"item": "book"})
        assert it.published == []
        assert await it.handle(charge(item="card")) == Taken(item="card", left=0)
        assert it.published == [noted(item="card", text="charged")]


async def test_the_same_id_twice_gives_the_stored_reply(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as it:
        first = await it.handle(take_item(item="book"), command_id="one")
        assert await it.handle(take_item(item="book"), command_id="one") == first
        with pytest.raises(ActivityFailed) as reused:
            await it.handle(take_item(item="pen"), command_id="one")
        assert reused.value.code == "sagabus.id_reused"
        assert made[-1].calls == ["one"]
        assert it.published == [noted(item="book", text="taken")]


@pytest.mark.parametrize("contract", [take_item, charge])
async def test_failures_are_raised_as_the_handler_did(engine: AsyncEngine, contract: Any) -> None:
    refused, again, broken = Refused("no", "not you", by="me"), TryAgain("busy", after=3), KeyError("broken")
    async with carried(service, database=engine) as it:
        made[-1].errors += (refused, again, broken)
        for id, error in {"1": refused, "2": again, "3": broken}.items():
            with pytest.raises(type(error)) as raised:
                await it.handle(contract(item="book"), command_id=id)
            assert raised.value is error
        with pytest.raises(Refused) as stored_refusal:
            await it.handle(contract(item="book"), command_id="1")
        assert (stored_refusal.value.code, stored_refusal.value.details) == ("no", {"by": "me"})
        with pytest.raises(TryAgain) as stored_again:
            await it.handle(contract(item="book"), command_id="2")
        assert (stored_again.value.message, stored_again.value.after) == ("busy", 3)
        with pytest.raises(ActivityFailed) as stored:
            await it.handle(contract(item="book"), command_id="3")
        assert (stored.value.code, stored.value.details) == ("sagabus.handler_error", {"type": "KeyError"})
        assert made[-1].calls == ["1", "2", "3"]
    assert await rows(engine, 'SELECT "left" FROM stock') == [(10,)]


async def test_commands_may_come_at_the_same_time(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as it:
        contracts = [take_item, charge] * 5
        outputs = await asyncio.gather(*(it.handle(contract(item="book")) for contract in contracts))
        assert sorted(output.left for output in outputs) == [0, 0, 0, 0, 0, 5, 6, 7, 8, 9]


async def test_what_no_handler_would_take_is_said_at_once(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as it:
        with pytest.raises(DeclarationError, match=r"no handler for shop\.note"):
            await it.handle(note(item="x"))
        with pytest.raises(MessageInvalid, match="NUL"):
            await it.handle(take_item(item="book"), command_id="a\0b")


async def test_nothing_of_ours_stays(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as it:
        await it.handle(take_item(item="book"))
        assert not made[-1].closed
    assert made[-1].closed
    for table in ("inbox", "outbox", "shard"):
        assert await rows(engine, f"SELECT count(*) FROM sagabus_shop.{table}") == [(0,)]


async def test_the_authors_own_session_class_is_used(engine: AsyncEngine) -> None:
    class OwnSession(AsyncSession):
        async def count(self) -> int:
            return (await self.scalars(select(func.count()).select_from(Stock))).one()

    other = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/nowhere")
    own = Participant(shop, database=async_sessionmaker(other, class_=OwnSession, info={"of": "test"}))

    @own.handles(take_item)
    async def counted(command: Take, ctx: ActivityContext) -> Taken:
        assert isinstance(ctx.session, OwnSession)
        assert ctx.session.info == {"of": "test"}
        return Taken(item=command.item, left=await ctx.session.count())

    @own.handles(charge, transaction=False)
    async def charged(command: Take, ctx: ExternalContext) -> Taken:
        async with ctx.transaction() as session:
            assert isinstance(session, OwnSession)
            return Taken(item=command.item, left=await session.count())

    async with carried(own, database=engine) as it:
        assert await it.handle(take_item(item="book")) == Taken(item="book", left=1)
        assert await it.handle(charge(item="book")) == Taken(item="book", left=1)
