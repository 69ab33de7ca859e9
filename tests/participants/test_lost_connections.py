"""A database that fails over, or a network that falls silent: connections are dropped, and a participant goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.postgres import connecting, silence
from sagabus.messaging.postgres import database as database_module
from sagabus.messaging.postgres import engine as engine_module
from sagabus.participants import ExternalContext
from sagabus.participants.handlers import external
from sagabus.participants.handlers import session as session_module
from sagabus.participants.handlers.session import Sessions
from tests.participants.service_fixture import Effect, ServiceFixture, Take, Taken, batch, charge, opened, takes
from tests.participants.test_external import command, ended
from tests.support.tcp_proxy import TcpProxy

HANG_SECONDS = 30.0


@pytest.fixture
async def silent(shop_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ServiceFixture, TcpProxy]]:
    """The service on an engine of its author's, behind a network that can fall silent; limits of a second."""
    for module in (connecting, engine_module):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 1.0)
    for module in (database_module, session_module):
        monkeypatch.setattr(module, "END_SECONDS", 0.5, raising=False)
    parts = urlsplit(shop_database)
    async with TcpProxy(parts.port or 0) as proxy, opened(shop_database) as fixture:
        url = shop_database.replace(f":{parts.port}", f":{proxy.port}")
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        fixture.sessions = Sessions(async_sessionmaker(engine))
        fixture.processor = fixture.new_side()
        yield fixture, proxy
        await fixture.processor.externals.stop()
        await engine.dispose()


async def works_again(fixture: ServiceFixture) -> None:
    """As Ownership does it: the turn has failed, and the shard is acquired again."""
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("B"))
    assert reply.kind == ReplyKind.COMPLETED


@pytest.mark.parametrize("when", ["between turns", "within a handler"])
async def test_a_turn_ends_on_a_connection_that_falls_silent_and_the_next_one_works(
    silent: tuple[ServiceFixture, TcpProxy], when: str
) -> None:
    fixture, proxy = silent
    takes(fixture)
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.kind == ReplyKind.COMPLETED
    if when == "between turns":
        assert proxy.silence_present() > 0
        async with asyncio.timeout(HANG_SECONDS):
            [reply] = await fixture.turn(tenure, *batch("B"))
        assert reply.kind == ReplyKind.COMPLETED
        return

    @fixture.handles(charge)
    async def handler(command: Take, ctx: Any) -> Taken:
        await ctx.session.execute(text("SELECT 1"))  # the transaction is there
        proxy.silence_present()
        async with ctx.session.begin_nested():  # whose rollback would wait without end
            await ctx.session.execute(text("SELECT 1"))
        raise AssertionError("nothing passes")

    async with asyncio.timeout(HANG_SECONDS):
        with pytest.raises(Exception, match=r"database failed|unreachable|closed|reset|Timeout|^$"):
            await fixture.turn(tenure, command("C"))
        await works_again(fixture)


@pytest.mark.parametrize("outside", [False, True], ids=["transactional", "external"])
async def test_a_server_that_is_gone_is_not_waited_for_as_for_a_handlers_slow_statement(
    silent: tuple[ServiceFixture, TcpProxy], outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host takes connections, and answers none."""
    monkeypatch.setattr(external, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(silence, "ASK_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 0.3)
    for module in (connecting, engine_module):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 2 * HANG_SECONDS)
    fixture, proxy = silent
    takes(fixture)
    calls: list[int] = []
    answers, loop = silence._answers, asyncio.get_running_loop()

    def asking(address: tuple[str, int]) -> bool:
        if answered := answers(address):
            return answered
        loop.call_soon_threadsafe(loop.call_later, 0.3, proxy.come_back)
        return False

    monkeypatch.setattr(silence, "_answers", asking)

    async def falls_silent(session: AsyncSession) -> None:
        calls.append(1)
        await session.execute(text("SELECT 1"))  # the transaction is there
        if len(calls) == 1:
            proxy.go_silent()
        await session.execute(text("SELECT 1"))

    @fixture.handles(charge, transaction=not outside)
    async def handler(command: Take, ctx: Any) -> Taken:
        if outside:
            async with ctx.transaction() as session:
                await falls_silent(session)
        else:
            await falls_silent(ctx.session)
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    async with asyncio.timeout(HANG_SECONDS):
        if outside:
            await fixture.turn(tenure, command())
            [reply] = await ended(fixture, tenure)
            assert (reply.kind, len(calls)) == (ReplyKind.COMPLETED, 2)
            return
        with suppress(Exception):  # or it was carried out again alone, which worked
            await fixture.turn(tenure, command())
            return
        await works_again(fixture)


async def test_a_connection_that_falls_silent_just_before_the_begin_is_not_waited_for_as_for_a_statement(
    silent: tuple[ServiceFixture, TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for nothing, and so do the limits that are set with it."""
    monkeypatch.setattr(connecting, "BEGIN_SECONDS", 0.3)
    for module in (connecting, engine_module):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 2 * HANG_SECONDS)
    fixture, proxy = silent
    async with fixture.sessions.transaction():
        pass  # SQLAlchemy's first connection has a transaction of its own
    start = session_module._start
    silenced: list[int] = []

    async def starts(driver: Any) -> None:
        if not silenced:
            silenced.append(proxy.silence_present())
        await start(driver)

    monkeypatch.setattr(session_module, "_start", starts)
    async with asyncio.timeout(HANG_SECONDS), fixture.sessions.transaction() as transaction:
        assert await transaction.driver.fetchval("SELECT 1") == 1
    assert silenced[0] > 0


async def test_a_transaction_of_an_external_handlers_own_is_tried_again_on_another_connection(
    silent: tuple[ServiceFixture, TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "FIRST_PAUSE_SECONDS", 0.0)
    fixture, proxy = silent
    calls: list[int] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        calls.append(1)
        if len(calls) == 1:
            await fixture.sessions.database.stop()  # what turns keep is in the pool again
            proxy.silence_present()
        async with ctx.transaction() as session:
            session.add(Effect(what=ctx.saga_id))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    async with asyncio.timeout(HANG_SECONDS):
        await fixture.turn(tenure, command())
        [reply] = await ended(fixture, tenure)
    assert (reply.kind, await fixture.effects(), len(calls)) == (ReplyKind.COMPLETED, ["A"], 2)


@pytest.mark.parametrize("outside", [False, True], ids=["transactional", "external"])
async def test_a_session_that_has_become_read_only_is_dropped(
    fixture: ServiceFixture, outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a failover: the session goes on, and refuses each write; a new one takes it."""
    monkeypatch.setattr(external, "FIRST_PAUSE_SECONDS", 0.0)
    takes(fixture)

    calls: list[int] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        calls.append(1)
        if len(calls) == 1:
            await _become_read_only(fixture)
        async with ctx.transaction() as session:
            session.add(Effect(what=ctx.saga_id))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure)
    if outside:
        await fixture.turn(tenure, command())
        async with asyncio.timeout(HANG_SECONDS):
            [reply] = await ended(fixture, tenure)
        assert (reply.kind, await fixture.effects(), len(calls)) == (ReplyKind.COMPLETED, ["A"], 2)
        return
    await _become_read_only(fixture)
    with pytest.raises(Exception, match="read-only"):
        await fixture.turn(tenure, *batch("A"))
    await works_again(fixture)


async def _become_read_only(fixture: ServiceFixture) -> None:
    """The one session that the engine has."""
    await fixture.sessions.database.stop()  # what turns keep is in the pool again
    async with fixture.sessions.engine.connect() as connection:
        await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        await connection.commit()


async def test_a_stop_does_not_wait_for_each_connection_that_has_fallen_silent(
    shop_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "END_SECONDS", 0.5)
    parts = urlsplit(shop_database)
    async with TcpProxy(parts.port or 0) as proxy:
        engine = engine_module.make_engine(shop_database.replace(f":{parts.port}", f":{proxy.port}"), connections=3)
        held = [await engine.connect() for _ in range(3)]
        for connection in held:
            await connection.execute(text("SELECT 1"))
            await connection.close()
        assert proxy.silence_present() == 3
        async with asyncio.timeout(HANG_SECONDS):  # each would take COMMAND_SECONDS
            await engine_module.dispose(engine)
        assert engine.sync_engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # of a QueuePool
