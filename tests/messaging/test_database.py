"""Transactions over a pool of our own and over somebody else's engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.database import Database, DatabaseUnreachable
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer


class Broken(Exception):
    """What a test breaks a transaction off with."""


@pytest.fixture
async def pooled(database: str) -> AsyncIterator[Database]:
    pooled = Database(database)
    async with pooled.transaction() as connection:
        await connection.execute("CREATE TABLE kept (n int)")
    yield pooled
    await pooled.stop()


@pytest.fixture(params=["READ COMMITTED", "AUTOCOMMIT", "SERIALIZABLE"])
async def engine(request: pytest.FixtureRequest, database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database.replace("://", "+asyncpg://"), isolation_level=request.param)
    yield engine
    await engine.dispose()


async def test_a_transaction_is_committed_on_leaving_and_rolled_back_by_an_exception(pooled: Database) -> None:
    async with pooled.transaction() as connection:
        await connection.execute("INSERT INTO kept VALUES (1)")
    with suppress(Broken):
        async with pooled.transaction() as connection:
            await connection.execute("INSERT INTO kept VALUES (2)")
            raise Broken
    assert await _kept(pooled) == [1]


async def test_over_an_engine_the_drivers_statements_are_part_of_the_transaction(
    pooled: Database, engine: AsyncEngine
) -> None:
    """SQLAlchemy begins with the first statement that it sees; the fence and COPY go past it."""
    over = Database.of_engine(engine)
    with suppress(Broken):
        async with over.transaction() as connection:
            assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
            await connection.copy_records_to_table("kept", records=[(1,)])
            raise Broken
    assert await _kept(pooled) == []
    async with over.transaction() as connection:
        await connection.copy_records_to_table("kept", records=[(2,)])
    assert await _kept(pooled) == [2]


async def test_a_session_and_the_driver_share_the_transaction(pooled: Database, engine: AsyncEngine) -> None:
    over = Database.of_engine(engine)
    with suppress(Broken):
        async with over.session_transaction() as connection:
            driver = await over.driver(connection)
            async with AsyncSession(bind=connection, join_transaction_mode="create_savepoint") as session:
                await session.execute(text("INSERT INTO kept VALUES (1)"))
                await session.commit()
            assert await driver.fetchval("SELECT n FROM kept") == 1
            raise Broken
    assert await _kept(pooled) == []


def test_an_engine_with_another_driver_is_refused() -> None:
    class Psycopg:
        class dialect:  # noqa: N801
            driver = "psycopg"

    with pytest.raises(SagabusError, match=r"postgresql\+asyncpg"):
        Database.of_engine(Psycopg())  # type: ignore[arg-type]


async def test_a_database_that_is_away_is_unreachable_and_comes_back() -> None:
    with PostgresServer() as server:
        pooled = Database(server.url())
        engine = create_async_engine(server.url().replace("://", "+asyncpg://"))
        over = Database.of_engine(engine)
        for each in (pooled, over):
            async with each.transaction():
                pass
        server.stop_immediately()
        for each in (pooled, over):
            with pytest.raises(DatabaseUnreachable, match="out of reach"):
                await each.wait_until_reachable(patience=0.3)
        server.start()
        for each in (pooled, over):
            await each.wait_until_reachable(patience=30)
        await pooled.stop()
        await engine.dispose()


async def test_nothing_listens_there() -> None:
    with pytest.raises(DatabaseUnreachable, match="out of reach"):
        await Database(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres").start()


async def test_a_missing_database_is_waited_for(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not exist"):
        await Database(postgres.url("not_there_yet")).start()


async def test_locks_statements_and_pauses_are_bounded(pooled: Database) -> None:
    async with pooled.transaction() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW statement_timeout") == "30s"


async def _kept(database: Database) -> list[int]:
    async with database.transaction() as connection:
        return [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]
