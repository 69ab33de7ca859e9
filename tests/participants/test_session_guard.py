"""What a handler cannot do to a transaction and a connection that others use too, whatever it tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from sagabus.contracts.envelope import Record
from sagabus.contracts.replies import ReplyKind
from sagabus.participants import ActivityContext, ExternalContext
from sagabus.participants.handlers.transactional import TransactionEnded
from tests.participants.service_fixture import (
    BOOK,
    Effect,
    Reply,
    Saga,
    ServiceFixture,
    Stock,
    Take,
    Taken,
    batch,
    charge,
    take_item,
)
from tests.participants.test_external import ended


def doing(fixture: ServiceFixture, act: Callable[[AsyncSession], Any]) -> None:
    """A handler that has an effect; for saga A it does this then."""

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()
        if ctx.saga_id == "A":
            await act(ctx.session)
        return Taken(item=command.item, left=0)


def executes(statement: str) -> Callable[[AsyncSession], Any]:
    return lambda session: session.execute(text(statement))


async def _driver(session: AsyncSession) -> Any:
    return (await (await session.connection()).get_raw_connection()).driver_connection


# Statements that would end the transaction.


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("COMMIT", "COMMIT: "), ("rollback", "ROLLBACK: "), ("END", "END: "), ("ABORT", "ABORT: "),
        ("BEGIN", "BEGIN: "), ("START  TRANSACTION", "START TRANSACTION: "), ("SAVEPOINT a", "SAVEPOINT: "),
        ("RELEASE SAVEPOINT sagabus_handler", "RELEASE: "), ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION: "),
        ("ROLLBACK TO SAVEPOINT sagabus_handler", "ROLLBACK: "), ("/* why */ -- not\n ;COMMIT", "COMMIT: "),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION: "),
    ],
)  # fmt: skip
async def test_a_statement_cannot_end_the_transaction(fixture: ServiceFixture, statement: str, said: str) -> None:
    doing(fixture, executes(statement))
    tenure = await fixture.take()
    replies = {reply.message.saga_id: reply for reply in await fixture.turn(tenure, *batch("B", "A", "C"))}
    failed = replies.pop("A")
    assert (failed.kind, failed.failure.details) == (ReplyKind.FAILED, {"type": "SessionMisuse"})
    assert failed.failure.message.startswith(said)
    assert {reply.kind for reply in replies.values()} == {ReplyKind.COMPLETED}
    assert await fixture.effects() == ["B", "C"]


async def test_a_statement_past_the_session_cannot_end_it_either(fixture: ServiceFixture) -> None:
    async def act(session: AsyncSession) -> None:
        await (await session.connection()).exec_driver_sql("COMMIT")

    doing(fixture, act)
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.failure.details == {"type": "SessionMisuse"}
    assert await fixture.effects() == []


@pytest.mark.parametrize(
    "hidden",
    [
        "COMMIT",
        "COMMIT; BEGIN",
        "ROLLBACK",
        "ROLLBACK; BEGIN",
        "RELEASE SAVEPOINT sagabus_handler",
        "COMMIT; SELECT 1/0",
    ],
)
@pytest.mark.parametrize("raises", [False, True])
async def test_p3_a_transaction_that_was_ended_past_everything_is_a_failed_attempt(
    fixture: ServiceFixture, hidden: str, raises: bool
) -> None:
    """On the driver's own connection nothing can be refused; the command must not come again and again."""

    async def act(session: AsyncSession) -> None:
        await (await _driver(session)).execute(hidden)
        if raises:
            raise ValueError("afterwards")

    doing(fixture, act)
    tenure = await fixture.take()
    replies = await _until_taken_in(fixture, tenure, fixture.records(tenure, *batch("A")))
    assert {(reply.message.saga_id, reply.kind) for reply in replies} == {("A", ReplyKind.FAILED)}
    if hidden.endswith("BEGIN"):  # another transaction stands in its place
        assert {reply.failure.details["type"] for reply in replies} == {"SessionMisuse"}
    before = await fixture.effects()
    await fixture.turn(await fixture.take(), *batch("A", "C"))
    assert await fixture.effects() == [*before, "C"]


async def test_p3_a_transaction_that_was_ended_in_a_batch_stops_nobody(fixture: ServiceFixture) -> None:
    async def act(session: AsyncSession) -> None:
        await (await _driver(session)).execute("COMMIT")

    doing(fixture, act)
    tenure = await fixture.take()
    replies = await _until_taken_in(fixture, tenure, fixture.records(tenure, *batch("B", "A", "C")))
    kinds = {reply.message.saga_id: reply.kind for reply in replies}
    assert kinds == {"A": ReplyKind.FAILED, "B": ReplyKind.COMPLETED, "C": ReplyKind.COMPLETED}
    before = await fixture.effects()
    await fixture.turn(await fixture.take(), *batch("A", "B", "C", "D"))
    assert await fixture.effects() == [*before, "D"]


async def _until_taken_in(fixture: ServiceFixture, tenure: Any, records: list[Record]) -> list[Reply]:
    """As Ownership does it: a turn that fails is followed by another tenure, which gets the same records."""
    for _ in range(3):
        try:
            await fixture.processor.turn({tenure: records})
        except TransactionEnded:
            tenure = await fixture.take()
        else:
            return [Reply(message) for message in await fixture.left(tenure)]
    raise AssertionError("its shard stands still")


# A part of a handler.


async def test_a_savepoint_keeps_what_succeeds_and_undoes_what_fails(fixture: ServiceFixture) -> None:
    raised: list[BaseException] = []

    async def act(session: AsyncSession) -> None:
        async with session.begin_nested():
            session.add(Effect(what="kept"))
        try:
            async with session.begin_nested():
                session.add(Effect(what="undone"))
                session.add(Stock(item="book", left=1))  # there already
        except IntegrityError as error:
            raised.append(error)
        await session.run_sync(lambda sync: sync.begin_nested().commit())
        async with await (await session.connection()).begin_nested():
            session.add(Effect(what="of the connection"))
            await session.flush()

    doing(fixture, act)
    tenure = await fixture.take()
    for sagas, runs in (("BA", 1), ("A", 2)):
        replies = await fixture.turn(tenure, *batch(*sagas, attempt=runs, issued=1_790_000_000_000_000 + runs))
        assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * len(sagas)
    assert len(raised) == 1
    assert await fixture.effects() == ["B", "A", "kept", "of the connection"]


@pytest.mark.parametrize(
    "act",
    [
        lambda session: session.execute(select(Effect)),
        lambda session: session.scalars(select(Effect)),
        lambda session: session.stream(select(Effect)),
        lambda session: session.get(Stock, "book"),
        lambda session: session.get_one(Stock, "book"),
        lambda session: session.merge(Stock(item="book", left=5)),
        lambda session: session.connection(),
        lambda session: session.flush(),
        lambda session: session.begin_nested().start(),
        lambda session: session.run_sync(lambda sync: [sync.query(Effect).all(), sync.expunge_all()]),
        lambda session: session.run_sync(lambda sync: sync.bulk_save_objects([Effect(what="bulk")])),
        lambda session: session.run_sync(lambda sync: sync.bulk_insert_mappings(Effect, [{"what": "bulk"}])),
        lambda session: session.execute(text("SET CONSTRAINTS ALL DEFERRED")),
        lambda session: session.execute(text("SET LOCAL work_mem = '8MB'")),
        lambda session: session.execute(select(func.set_config("app.tenant", "t", True))),
    ],
    ids=[
        "execute", "scalars", "stream", "get", "get_one", "merge", "connection", "flush", "begin_nested", "query",
        "bulk_save", "bulk_insert", "SET CONSTRAINTS", "SET LOCAL", "set_config",
    ],
)  # fmt: skip
async def test_what_ends_nothing_is_allowed(fixture: ServiceFixture, act: Callable[[AsyncSession], Any]) -> None:
    doing(fixture, act)
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2


# What outlasts the transaction.


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SET search_path TO nowhere", "SET SEARCH_PATH: "), ("set session role none", "SET SESSION: "),
        ("SET TIME ZONE 'UTC'", "SET TIME: "), ("RESET ALL", "RESET: "), ("DISCARD ALL", "DISCARD: "),
    ],
)  # fmt: skip
async def test_a_setting_that_outlasts_the_transaction_is_refused(
    fixture: ServiceFixture, statement: str, said: str
) -> None:
    doing(fixture, executes(statement))
    tenure = await fixture.take()
    failed, other = await fixture.turn(tenure, *batch("A", "B"))
    assert (failed.failure.details, other.kind) == ({"type": "SessionMisuse"}, ReplyKind.COMPLETED)
    assert failed.failure.message.startswith(said)
    assert "SET LOCAL" in failed.failure.message
    assert await fixture.effects() == ["B"]


@pytest.mark.parametrize(
    "statement",
    [
        select(func.set_config("search_path", "nowhere", False)),
        text("SELECT set_config('search_path', 'nowhere', false)"),
    ],
    ids=["function", "text"],
)
async def test_a_connection_that_was_changed_all_the_same_is_replaced(fixture: ServiceFixture, statement: Any) -> None:
    doing(fixture, lambda session: session.execute(statement))
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    [reply] = await fixture.turn(tenure, *batch("B"))
    assert reply.kind == ReplyKind.COMPLETED
    assert await fixture.effects() == ["A", "B"]


async def test_a_lock_of_the_session_goes_with_its_connection(fixture: ServiceFixture) -> None:
    doing(fixture, lambda session: session.execute(select(func.pg_advisory_lock(7))))
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    await fixture.turn(tenure, *batch("B"))
    assert await fixture.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7") == []


async def test_what_an_external_handler_sets_is_met_by_nobody_else(fixture: ServiceFixture) -> None:
    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            session.add(Effect(what=ctx.saga_id))
            await session.flush()
            if ctx.saga_id == "A":
                await session.execute(text("SET search_path TO nowhere"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    for saga in ("A", "B"):
        await fixture.turn(tenure, Saga(saga).command(charge, BOOK))
        [reply] = await ended(fixture, tenure)
        assert reply.kind == ReplyKind.COMPLETED
    assert await fixture.effects() == ["A", "B"]
