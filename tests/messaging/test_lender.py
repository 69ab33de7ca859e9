"""A connection of somebody else's engine that is kept for a moment: on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import NullPool, QueuePool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sagabus.messaging.postgres import borrowed as borrowed_module
from sagabus.messaging.postgres.engine import distrust, replace_when_next_used
from sagabus.messaging.postgres.engine_database import EngineDatabase
from tests.support.conditions import until


@asynccontextmanager
async def lent(url: str, **options: Any) -> AsyncIterator[tuple[AsyncEngine, EngineDatabase]]:
    engine = create_async_engine(url.replace("://", "+asyncpg://"), **options)
    database = EngineDatabase(engine)
    yield engine, database
    await database.stop()
    await engine.dispose()


def out(engine: AsyncEngine) -> int:
    """Connections that the pool has given out."""
    pool = engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


async def backend(database: EngineDatabase) -> int:
    found: int = await database.read(lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
    return found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on nothing may be kept."""
    return lambda: monkeypatch.setattr(borrowed_module, "KEPT_SECONDS", 0.0)


async def test_what_comes_back_is_lent_again_without_the_pool(database: str) -> None:
    async with lent(database) as (engine, over):
        given: list[Any] = []
        event.listen(engine.sync_engine.pool, "checkout", lambda *each: given.append(each))
        assert len({await backend(over) for _ in range(20)}) == 1
        assert (len(given), out(engine)) == (1, 1)


async def test_two_at_once_are_two_connections_and_one_of_them_is_kept(database: str) -> None:
    async with lent(database) as (engine, over):
        one, other = await over.lender.borrow(), await over.lender.borrow()
        assert one.driver is not other.driver
        await over.lender.give_back(one)
        await over.lender.give_back(other)
        assert out(engine) == 1
        assert await over.lender.borrow() is one
        await over.lender.give_back(one)


async def test_it_goes_back_to_its_pool_in_time_though_nobody_asks(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borrowed_module, "KEPT_SECONDS", 0.05)
    async with lent(database) as (engine, over):
        await backend(over)
        await until(lambda: out(engine) == 0)
        await backend(over)  # and again: the timer is for each that is kept
        await until(lambda: out(engine) == 0)


async def test_it_goes_back_in_time_though_it_is_never_idle(database: str, at_once: Callable[[], None]) -> None:
    async with lent(database) as (engine, over):
        at_once()
        await backend(over)
        assert out(engine) == 0


@pytest.mark.parametrize(
    "options", [{"pool_size": 2, "max_overflow": 2}, {"poolclass": NullPool}], ids=["small", "none"]
)
async def test_of_a_small_pool_nothing_is_kept(database: str, options: dict[str, Any]) -> None:
    async with lent(database, **options) as (_, over):
        one = await over.lender.borrow()
        await over.lender.give_back(one)
        again = await over.lender.borrow()
        assert again is not one
        await over.lender.give_back(again)


async def test_who_waits_for_the_whole_pool_gets_it(database: str) -> None:
    """The kept one as well, as soon as its time is over."""
    async with lent(database, pool_size=5, max_overflow=0) as (engine, over):
        await backend(over)
        held = [await engine.connect() for _ in range(5)]
        for connection in held:
            await connection.close()


@pytest.mark.parametrize("how", ["distrusted", "spoilt", "closed"])
async def test_what_is_not_to_be_used_any_more_is_not_lent(database: str, how: str) -> None:
    async with lent(database) as (engine, over):
        one = await over.lender.borrow()
        if how == "spoilt":
            replace_when_next_used(one.info)
        await over.lender.give_back(one)
        if how == "distrusted":
            distrust(engine)
        if how == "closed":
            one.driver.terminate()
            await until(one.driver.is_closed)
        other = await over.lender.borrow()
        assert other.driver is not one.driver
        await over.lender.give_back(other)


async def test_an_engine_that_is_disposed_of_meanwhile_leaves_no_session(database: str) -> None:
    engine = create_async_engine(database.replace("://", "+asyncpg://"))
    over = EngineDatabase(engine)
    one = await over.lender.borrow()
    await over.lender.give_back(one)
    await engine.dispose()
    await until(one.driver.is_closed)
    async with asyncio.timeout(10):  # and it goes on with a new pool, as an engine does
        assert await backend(over) > 0
    await over.stop()
    await engine.dispose()
