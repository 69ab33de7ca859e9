"""Handlers with transaction=False: begun on record, run outside, answered by a later turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from sagabus.contracts.envelope import Message
from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ActivityContext, ExternalContext, Refused, TryAgain
from sagabus.participants.handlers import external as external_module
from sagabus.participants.handlers.context import HandlerEnded, NotOurs
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
    header,
    noted,
    opened,
    takes,
)
from tests.support.conditions import until


class Gateway:
    """Somebody outside: remembers who called, and answers when the test says so."""

    def __init__(self, fixture: ServiceFixture) -> None:
        self.calls: list[str] = []
        self.cancelled = 0
        self.errors: list[Exception] = []
        self.contexts: list[ExternalContext[Any]] = []
        self.open = asyncio.Event()
        fixture.handles(charge, transaction=False)(self.charge)

    async def charge(self, command: Take, ctx: ExternalContext[Any]) -> Taken:
        self.calls.append(f"{ctx.idempotency_key}/{ctx.attempt}")
        self.contexts.append(ctx)
        ctx.publish(noted(item=command.item, text="charged"))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.errors:
            raise self.errors.pop(0)
        return Taken(item=command.item, left=command.count)

    async def called(self, times: int = 1) -> None:
        await until(lambda: len(self.calls) >= times, what=f"{times} calls of the gateway")


@pytest.fixture
def gateway(fixture: ServiceFixture) -> Gateway:
    return Gateway(fixture)


def command(saga: str = "A", **options: Any) -> Message:
    return Saga(saga).command(charge, BOOK, **options)


async def ended(fixture: ServiceFixture, tenure: Tenure) -> list[Reply]:
    """Wait for handlers to end, and have a turn write it."""
    await until(lambda: fixture.processor.externals.ended([tenure]), what="a handler has ended")
    return await fixture.turn(tenure)


async def test_it_is_on_record_before_it_runs(fixture: ServiceFixture) -> None:
    seen: list[Any] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        seen.append(await fixture.inbox())
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    assert await fixture.turn(tenure, command()) == []
    assert tenure.offsets == {"shop.commands": 1}
    await ended(fixture, tenure)
    assert seen == [[("A:r1:1", "started", 1)]]


async def test_its_outcome_is_written_by_a_later_turn(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await gateway.called()
    assert fixture.processor.externals.ended([tenure]) == []
    gateway.open.set()
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.attempt, reply.body) == (ReplyKind.COMPLETED, 1, b'{"item":"book","left":1}')
    assert await fixture.inbox() == [("A:r1:1", "completed", 1)]
    assert fixture.processor.externals.ended([tenure]) == []
    [row] = await fixture.rows("SELECT command, headers, reply_kind FROM sagabus_shop.inbox")
    assert tuple(row) == (None, None, "completed")


async def test_its_events_leave_before_its_reply(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    gateway.open.set()
    await fixture.turn(tenure, command())
    await until(lambda: fixture.processor.externals.ended([tenure]))
    await fixture.processor.turn({tenure: ()})
    assert [header(m, "ce_id") for m in await fixture.left(tenure)] == ["A:r1:1:event:1", "A:r1:1:1:reply"]


async def test_its_end_wakes_the_owner(fixture: ServiceFixture, gateway: Gateway) -> None:
    woken = asyncio.Event()
    tenure = await fixture.take()
    tenure.when_requested = woken.set
    await fixture.turn(tenure, command())
    gateway.open.set()
    async with asyncio.timeout(30):
        await woken.wait()
    assert tenure.turn_requested


async def test_p1_a_copy_waits_for_the_handler(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    assert await fixture.turn(tenure, command(), command()) == []
    await gateway.called()
    assert await fixture.turn(tenure, command()) == []
    gateway.open.set()
    [reply] = await ended(fixture, tenure)
    [copy] = await fixture.turn(tenure, command())
    assert (reply.kind, copy.body) == (ReplyKind.COMPLETED, reply.body)
    assert gateway.calls == ["A:r1:1/1"]


async def test_p1_the_outcome_counts_for_the_attempt_that_came_meanwhile(
    fixture: ServiceFixture, gateway: Gateway
) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await gateway.called()
    await fixture.turn(tenure, command(attempt=2))
    assert await fixture.inbox() == [("A:r1:1", "started", 1)]
    gateway.errors.append(ValueError("broken"))
    gateway.open.set()
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.attempt) == (ReplyKind.FAILED, 2)
    assert await fixture.inbox() == [("A:r1:1", "failed", 2)]
    await fixture.turn(tenure, command(attempt=3))
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.attempt) == (ReplyKind.COMPLETED, 3)
    assert gateway.calls == ["A:r1:1/1", "A:r1:1/3"]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Refused("card_declined", "no"), ReplyKind.REFUSED, "card_declined"),
        (TryAgain("busy", after=3), ReplyKind.FAILED, "try_again"),
        (OSError("connection refused"), ReplyKind.FAILED, "sagabus.handler_error"),
        (TimeoutError("no answer"), ReplyKind.FAILED, "sagabus.handler_error"),
        (asyncio.CancelledError(), ReplyKind.FAILED, "sagabus.handler_error"),
    ],
)
async def test_what_it_raises_is_its_outcome(
    fixture: ServiceFixture, gateway: Gateway, error: Any, kind: ReplyKind, code: str
) -> None:
    tenure = await fixture.take()
    gateway.errors.append(error)
    gateway.open.set()
    await fixture.turn(tenure, command())
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.code) == (kind, code)
    assert [m for m in await fixture.left(tenure) if m.topic == "shop.events"] == []


async def test_input_that_does_not_validate_is_refused(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, body=b"{}"))
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.code, gateway.calls) == (ReplyKind.REFUSED, "sagabus.input_invalid", [])


async def test_p1_a_settle_waits_and_brings_the_output(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await gateway.called()
    assert await fixture.turn(tenure, Saga("A").settle(), Saga("A").settle()) == []
    gateway.open.set()
    step, settled = await ended(fixture, tenure)
    assert (step.answers, step.kind) == ("do", ReplyKind.COMPLETED)
    assert (settled.answers, settled.kind, settled.body) == ("settle", ReplyKind.COMPLETED, step.body)


async def test_p1_a_settle_that_waits_turns_a_failure_into_never(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    gateway.errors.append(ValueError("broken"))
    assert await fixture.turn(tenure, command(), Saga("A").settle()) == []
    gateway.open.set()
    [settled] = await ended(fixture, tenure)
    assert (settled.answers, settled.kind) == ("settle", ReplyKind.NEVER)
    assert await fixture.inbox() == [("A:r1:1", "tombstone", 1)]
    [late] = await fixture.turn(tenure, command(attempt=2))
    assert (late.kind, late.code) == (ReplyKind.REFUSED, "sagabus.settled_as_never")
    assert len(gateway.calls) == 1


async def test_p1_after_a_crash_it_runs_once_more_with_the_same_key(fixture: ServiceFixture, gateway: Gateway) -> None:
    old = await fixture.take()
    await fixture.turn(old, command(attempt=2))
    await gateway.called()
    async with opened(fixture.url, fresh=False) as heir:
        heir.logs = fixture.logs
        after = Gateway(heir)
        after.open.set()
        tenure = await heir.take()
        [reply] = await ended(heir, tenure)
        assert (reply.kind, reply.attempt) == (ReplyKind.COMPLETED, 2)
        assert after.calls == gateway.calls == ["A:r1:1/2"]
        assert await heir.inbox() == [("A:r1:1", "completed", 2)]
    gateway.open.set()
    await until(lambda: fixture.processor.externals.ended([old]))
    with pytest.raises(Fenced):
        await fixture.turn(old)
    assert await fixture.inbox() == [("A:r1:1", "completed", 2)]


async def test_p1_a_settle_after_a_crash_answers_from_the_second_run(fixture: ServiceFixture, gateway: Gateway) -> None:
    await fixture.turn(await fixture.take(), command())
    await gateway.called()
    async with opened(fixture.url, fresh=False) as heir:
        heir.logs = fixture.logs
        after = Gateway(heir)
        after.errors.append(ValueError("broken"))
        tenure = await heir.take()
        assert await heir.turn(tenure, Saga("A").settle()) == []
        after.open.set()
        [settled] = await ended(heir, tenure)
        assert settled.kind == ReplyKind.NEVER


async def test_a_lost_tenure_cancels_its_handlers_and_no_others(fixture: ServiceFixture, gateway: Gateway) -> None:
    one, two = await fixture.take(0), await fixture.take(1)
    await fixture.turn(one, command("A"))
    await fixture.turn(two, command("B"))
    await gateway.called(2)
    fixture.processor.lost(one)
    await until(lambda: gateway.cancelled == 1)
    gateway.open.set()
    [reply] = await ended(fixture, two)
    assert header(reply.message, "ce_subject") == "B"
    assert await fixture.inbox() == [("A:r1:1", "started", 1), ("B:r1:1", "completed", 1)]
    again = await fixture.take(0)
    [reply] = await ended(fixture, again)
    assert header(reply.message, "ce_subject") == "A"


async def test_an_outcome_that_could_not_be_written_is_written_by_the_next_turn(
    fixture: ServiceFixture, gateway: Gateway
) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    gateway.open.set()
    await until(lambda: fixture.processor.externals.ended([tenure]))
    await fixture.rows("ALTER TABLE sagabus_shop.outbox RENAME TO away")
    with pytest.raises(Exception, match="outbox"):
        await fixture.turn(tenure)
    await fixture.rows("ALTER TABLE sagabus_shop.away RENAME TO outbox")
    assert await fixture.inbox() == [("A:r1:1", "started", 1)]
    [reply] = await ended(fixture, tenure)
    assert reply.kind == ReplyKind.COMPLETED


async def test_so_many_run_at_once_and_no_more(
    fixture: ServiceFixture, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixture.processor.externals, "_slots", asyncio.Semaphore(3))
    tenure = await fixture.take()
    await fixture.turn(tenure, *[command(f"S{n}") for n in range(8)])
    await gateway.called(3)
    await fixture.turn(tenure)
    assert len(gateway.calls) == 3
    gateway.open.set()
    await gateway.called(8)


# transactions of their own


async def test_what_it_stores_is_committed_by_itself(fixture: ServiceFixture) -> None:
    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            session.add(Effect(what="kept"))
        try:
            async with ctx.transaction() as session:
                session.add(Effect(what="lost"))
                raise KeyError
        except KeyError:
            raise Refused("no", "no") from None

    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    [reply] = await ended(fixture, tenure)
    assert (reply.code, await fixture.effects()) == ("no", ["kept"])


async def test_s4_a_stopped_process_keeps_its_command_for_a_minute_at_most(fixture: ServiceFixture) -> None:
    """Its transaction holds the inbox row, which the next owner's handler wants."""
    limits = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            limits.append(await session.scalar(text("SHOW idle_in_transaction_session_timeout")))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await ended(fixture, tenure)
    assert limits == ["1min"]


async def test_p4_what_was_taken_from_this_process_it_cannot_store(fixture: ServiceFixture, gateway: Gateway) -> None:
    """A process that was stopped and wakes up: its shard has another owner, and the step was settled there."""
    old = await fixture.take()
    await fixture.turn(old, command())
    await gateway.called()
    async with opened(fixture.url, fresh=False) as heir:
        heir.logs = fixture.logs
        other = Gateway(heir)
        tenure = await heir.take()
        with pytest.raises(NotOurs):
            async with gateway.contexts[0].transaction() as session:
                session.add(Effect(what="zombie"))
        other.errors.append(ValueError("broken"))
        other.open.set()
        await heir.turn(tenure, Saga("A").settle())
        [settled] = await ended(heir, tenure)
        assert settled.kind == ReplyKind.NEVER
        with pytest.raises(NotOurs):
            async with other.contexts[0].transaction() as session:
                session.add(Effect(what="too late"))
    assert await fixture.effects() == []


async def test_p3_a_database_that_fails_it_is_no_reply(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_module, "FIRST_PAUSE_SECONDS", 0.01)
    calls: list[str] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        calls.append(ctx.idempotency_key)
        async with ctx.transaction() as session:
            session.add(Effect(what=ctx.saga_id))
            if len(calls) == 1:
                await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, calls) == (ReplyKind.COMPLETED, ["A:r1:1", "A:r1:1"])
    assert await fixture.effects() == ["A"]


async def test_p3_a_connection_that_was_cut_in_its_pool_is_no_reply(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg calls that an error of the interface, like a parameter of the wrong type."""
    monkeypatch.setattr(external_module, "FIRST_PAUSE_SECONDS", 0.01)
    calls: list[str] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        calls.append(ctx.saga_id)
        async with ctx.transaction() as session:
            if len(calls) == 1:
                connection = await session.connection()
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                await driver.close()
            await session.execute(text("SELECT 1"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, calls) == (ReplyKind.COMPLETED, ["A", "A"])


async def test_p3_a_constraint_violation_is_an_answer(fixture: ServiceFixture) -> None:
    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            session.add(Stock(item="book", left=1))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    [reply] = await ended(fixture, tenure)
    assert (reply.code, reply.failure.details) == ("sagabus.handler_error", {"type": "IntegrityError"})


def _stays_in_its_transaction(fixture: ServiceFixture) -> tuple[asyncio.Event, asyncio.Event]:
    """A handler of `charge`: the first event says that its transaction has begun, the second lets it end."""
    inside, leave = asyncio.Event(), asyncio.Event()

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction():
            inside.set()
            await leave.wait()
        return Taken(item=command.item, left=0)

    return inside, leave


async def test_a_settle_is_not_held_up_by_a_transaction_of_the_handlers(fixture: ServiceFixture) -> None:
    inside, leave = _stays_in_its_transaction(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await inside.wait()
    async with asyncio.timeout(4):
        assert await fixture.turn(tenure, Saga("A").settle(), command()) == []
    leave.set()
    assert [reply.kind for reply in await ended(fixture, tenure)] == [ReplyKind.COMPLETED] * 2


async def test_its_context_is_over_when_it_has_returned(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    gateway.open.set()
    await fixture.turn(tenure, command())
    await ended(fixture, tenure)
    with pytest.raises(HandlerEnded):
        gateway.contexts[0].publish(noted(item="x", text="y"))


async def test_a_higher_attempt_is_not_held_up_by_a_transaction_of_the_handlers(fixture: ServiceFixture) -> None:
    """Its transaction holds the inbox row: what waited for it would wait with all commands of the shard."""
    inside, leave = _stays_in_its_transaction(fixture)
    calls = takes(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await inside.wait()
    async with asyncio.timeout(4):
        [reply] = await fixture.turn(tenure, command(attempt=2), *batch("B"))
    assert (reply.kind, calls) == (ReplyKind.COMPLETED, ["B/1"])
    leave.set()
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.attempt) == (ReplyKind.COMPLETED, 2)


async def test_transactions_of_handlers_leave_the_turns_a_connection(fixture: ServiceFixture) -> None:
    """Twenty handlers that fall silent with a transaction open, on a pool of fifteen connections."""
    leave = asyncio.Event()
    inside: list[str] = []

    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction():
            inside.append(ctx.saga_id)
            await leave.wait()
        return Taken(item=command.item, left=0)

    takes(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, *(command(f"S{number}") for number in range(20)))
    await until(lambda: len(inside) == 13, what="all connections that handlers may have are in use")
    async with asyncio.timeout(10):
        replies = await fixture.turn(tenure, *batch("B", "C"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2
    assert len(inside) == 13
    leave.set()
    await until(lambda: len(fixture.processor.externals.ended([tenure])) == 20)
    assert len(await fixture.turn(tenure)) == 20


# another deployment


async def test_what_an_older_deployment_had_begun_a_transactional_handler_carries_out(fixture: ServiceFixture) -> None:
    Gateway(fixture)
    await fixture.turn(await fixture.take(), command("A"), command("B"))
    async with opened(fixture.url, fresh=False) as heir:
        heir.logs = fixture.logs
        tenure = await heir.take()
        [reply] = await heir.turn(tenure, Saga("B").settle())
        assert reply.code == "sagabus.no_handler"

        @heir.handles(charge)
        async def handler(command: Take, ctx: ActivityContext[Any]) -> Taken:
            ctx.session.add(Effect(what=ctx.saga_id))
            return Taken(item=command.item, left=0)

        replies = await heir.turn(tenure, command("A"), Saga("B").settle())
        assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 3
        assert await heir.effects() == ["A", "B"]
        assert {state for _, state, _ in await heir.inbox()} == {"completed"}


async def test_a_kept_command_that_cannot_be_read_any_more_stops_no_shard(
    fixture: ServiceFixture, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    await fixture.turn(await fixture.take(), command("A"), command("B"))
    await fixture.rows("UPDATE sagabus_shop.inbox SET headers = '' WHERE id LIKE 'A:%'")
    async with opened(fixture.url, fresh=False) as heir:
        heir.logs = fixture.logs
        Gateway(heir).open.set()
        [reply] = await ended(heir, await heir.take())
    assert header(reply.message, "ce_subject") == "B"
    assert "A:r1:1 was begun and cannot be read" in caplog.text


async def test_draining_waits_for_what_runs(fixture: ServiceFixture, gateway: Gateway) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, command())
    await gateway.called()
    draining = asyncio.create_task(fixture.processor.externals.drain(30))
    await fixture.turn(tenure)
    assert not draining.done()
    gateway.open.set()
    await draining
    assert [reply.kind for reply in await fixture.turn(tenure)] == [ReplyKind.COMPLETED]
