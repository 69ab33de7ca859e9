"""Plain SQL in a handler: in the transaction of its inbox row, and under the same rules as a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from sagabus.contracts.replies import ReplyKind
from sagabus.participants import ActivityContext, HandlerEnded, PlainConnection, Refused, SessionMisuse
from tests.participants.service_fixture import Effect, ServiceFixture, Take, Taken, batch, take_item

INSERT = "INSERT INTO effect (what) VALUES ($1)"

Act = Callable[[PlainConnection], Awaitable[Any]]


def doing(fixture: ServiceFixture, act: Act) -> None:
    """A handler that has an effect; for saga A it does this then."""

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        assert await ctx.connection.execute(INSERT, ctx.saga_id) == "INSERT 0 1"
        if ctx.saga_id == "A":
            await act(ctx.connection)
        return Taken(item=command.item, left=0)


async def failed(fixture: ServiceFixture, *sagas: str) -> dict[str, str]:
    """Those that failed, and their messages."""
    replies = await fixture.turn(await fixture.take(), *batch(*sagas))
    return {reply.message.saga_id: reply.failure.message for reply in replies if reply.kind is not ReplyKind.COMPLETED}


async def test_p7_what_a_failing_handler_has_written_is_undone_and_nothing_else(fixture: ServiceFixture) -> None:
    async def refuse(connection: PlainConnection) -> None:
        raise Refused("out_of_stock", "no more")

    doing(fixture, refuse)
    assert await failed(fixture, "B", "A", "C") == {"A": "no more"}
    assert await fixture.effects() == ["B", "C"]


async def test_all_ways_to_read_and_write(fixture: ServiceFixture) -> None:
    async def act(connection: PlainConnection) -> None:
        await connection.executemany(INSERT, [["x"], ["y"]])
        rows = await connection.fetch("SELECT what FROM effect ORDER BY what")
        assert [row["what"] for row in rows] == ["A", "x", "y"]
        first = await connection.fetchrow("SELECT what FROM effect WHERE what > $1 ORDER BY what", "A")
        assert first is not None
        assert first["what"] == "x"
        assert await connection.fetchrow("SELECT 1 WHERE false") is None
        assert await connection.fetchval("SELECT count(*) FROM effect") == 3
        assert await connection.execute("DELETE FROM effect WHERE what = 'y'") == "DELETE 1"

    doing(fixture, act)
    assert await failed(fixture, "A") == {}
    assert await fixture.effects() == ["A", "x"]


async def test_a_session_and_the_connection_are_in_one_transaction(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        assert await ctx.connection.fetchval("SELECT count(*) FROM effect") == 0
        await ctx.session.flush()
        assert await ctx.connection.fetchval("SELECT count(*) FROM effect") == 1
        return Taken(item=command.item, left=0)

    assert await failed(fixture, "A") == {}


async def test_a_savepoint_undoes_a_part(fixture: ServiceFixture) -> None:
    async def act(connection: PlainConnection) -> None:
        with suppress(ValueError):
            async with connection.savepoint():
                await connection.execute(INSERT, "lost")
                raise ValueError
        async with connection.savepoint():
            await connection.execute(INSERT, "kept")

    doing(fixture, act)
    assert await failed(fixture, "B", "A", "C") == {}
    assert await fixture.effects() == ["B", "A", "kept", "C"]


@pytest.mark.parametrize(
    "statement", ["COMMIT", "rollback", "/* why */ SAVEPOINT a", "SET search_path TO nowhere", "RESET ALL", "LISTEN x"]
)
@pytest.mark.parametrize("method", ["execute", "fetch", "fetchrow", "fetchval", "executemany"])
async def test_p7_what_would_end_or_outlast_the_transaction_is_refused(
    fixture: ServiceFixture, method: str, statement: str
) -> None:
    async def act(connection: PlainConnection) -> None:
        arguments: list[Any] = [[[]]] if method == "executemany" else []
        with pytest.raises(SessionMisuse):
            await getattr(connection, method)(statement, *arguments)

    doing(fixture, act)
    assert await failed(fixture, "B", "A", "C") == {}
    assert await fixture.effects() == ["B", "A", "C"]


async def test_p7_a_statement_cannot_hide_behind_another_one(fixture: ServiceFixture) -> None:
    doing(fixture, lambda connection: connection.execute("SELECT 1; COMMIT; BEGIN"))
    [(saga, message)] = (await failed(fixture, "B", "A", "C")).items()
    assert (saga, "multiple commands" in message) == ("A", True)
    assert await fixture.effects() == ["B", "C"]


async def test_p3_an_error_that_a_handler_swallows_is_its_failure(fixture: ServiceFixture) -> None:
    async def act(connection: PlainConnection) -> None:
        with suppress(Exception):
            await connection.execute("SELECT 1/0")

    doing(fixture, act)
    assert [*await failed(fixture, "B", "A", "C")] == ["A"]
    assert await fixture.effects() == ["B", "C"]


async def test_a_lock_of_the_session_goes_with_its_connection(fixture: ServiceFixture) -> None:
    doing(fixture, lambda connection: connection.execute("SELECT pg_advisory_lock($1)", 7))
    assert await failed(fixture, "A") == {}
    assert await failed(fixture, "B") == {}
    assert await fixture.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7") == []


async def test_nothing_is_written_after_the_handler_has_returned(fixture: ServiceFixture) -> None:
    kept: list[PlainConnection] = []
    contexts: list[ActivityContext] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        contexts.append(ctx)
        if ctx.saga_id == "A":
            kept.append(ctx.connection)
        else:
            with pytest.raises(HandlerEnded):
                await kept[0].execute(INSERT, "late")
            with pytest.raises(HandlerEnded):
                kept[0].savepoint()
        return Taken(item=command.item, left=0)

    assert await failed(fixture, "A", "B") == {}
    with pytest.raises(HandlerEnded):
        _ = contexts[1].connection
    assert await fixture.effects() == []


async def test_a_task_that_outlives_its_handler_writes_nothing(fixture: ServiceFixture) -> None:
    late: list[asyncio.Task[Any]] = []
    returned = asyncio.Event()

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        connection = ctx.connection

        async def write() -> None:
            await returned.wait()
            await connection.execute(INSERT, "late")

        late.append(asyncio.create_task(write()))
        return Taken(item=command.item, left=0)

    assert await failed(fixture, "A") == {}
    returned.set()
    with pytest.raises(HandlerEnded):
        await late[0]
    assert await fixture.effects() == []
