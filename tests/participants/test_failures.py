"""What a failing handler is worth: an answer, unless the database is to blame (P3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text, update

from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.postgres import engine as engine_module
from sagabus.messaging.postgres.database import DatabaseUnreachable
from sagabus.participants import ActivityContext, ExternalContext, Refused, TryAgain
from sagabus.participants.handlers import transactional
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.handlers.late_transaction import LateTransaction
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.handlers.transactional import TransactionEnded
from tests.participants.service_fixture import (
    BOOK,
    WAITING,
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
    note,
    opened,
    take_item,
    takes,
)
from tests.participants.test_external import ended
from tests.support.conditions import until


@pytest.fixture
async def rival(fixture: ServiceFixture) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Another session of the same database. Its locks go with the test."""
    connection = await asyncpg.connect(fixture.url)
    yield connection
    await connection.close()


async def test_a_refusal_bears_code_message_and_details(fixture: ServiceFixture) -> None:
    takes(fixture, refuse={"A"})
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.failure.model_dump() == {
        "code": "out_of_stock", "message": "no more", "details": {"item": "book"}, "again_after": None,
    }  # fmt: skip
    assert await fixture.effects() == []


async def test_a_code_that_the_contract_does_not_declare_is_told_once(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        raise Refused("out_of_stok" if ctx.saga_id != "C" else "out_of_stock", "no more")

    tenure = await fixture.take()
    for saga_id in "ABC":
        await fixture.turn(tenure, *batch(saga_id))
    [warned] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned.startswith(
        "shop.take was refused with the code out_of_stok, which its contract does not declare: out_of_stock. "
    )


@pytest.mark.parametrize(("after", "said"), [(None, 0.0), (5, 5.0), (timedelta(minutes=1), 60.0)])
async def test_try_again_says_when(fixture: ServiceFixture, after: Any, said: float) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        raise TryAgain("busy", after=after, queue=7)

    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.kind == ReplyKind.FAILED
    assert (reply.code, reply.failure.again_after, reply.failure.details) == ("try_again", said, {"queue": 7})


async def test_an_exception_is_told_without_its_traceback_and_logged_with_it(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    takes(fixture, fail={"A"})
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.failure.model_dump() == {
        "code": "sagabus.handler_error", "message": "broken", "details": {"type": "ValueError"}, "again_after": None,
    }  # fmt: skip
    logged = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 1
    assert logged[0].exc_info is not None
    assert logged[0].__dict__["saga_id"] == "A"


async def logged(fixture: ServiceFixture, caplog: pytest.LogCaptureFixture, *attempts: int) -> list[tuple[str, bool]]:
    """What each of these attempts of a `take` of saga A has left at level error, and whether with a traceback."""
    tenure = await fixture.take()
    for attempt in attempts:
        await fixture.turn(tenure, *batch("A", attempt=attempt))
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    return [(record.getMessage(), record.exc_info is not None) for record in errors]


async def test_the_same_exception_of_a_later_attempt_is_one_line(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    takes(fixture, fail={"A"})
    first, second, third = await logged(fixture, caplog, 1, 2, 3)
    assert first == ("shop.take of saga A, attempt 1 failed", True)
    assert second == ("shop.take of saga A, attempt 2 failed as before: ValueError: broken", False)
    assert third == ("shop.take of saga A, attempt 3 failed as before: ValueError: broken", False)


async def test_another_exception_of_a_later_attempt_has_its_traceback(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        if ctx.attempt == 2:
            raise KeyError("other")
        raise ValueError("broken")

    assert [whole for _, whole in await logged(fixture, caplog, 1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize(
    ("output", "what"),
    [({"secret": "s3cret"}, "a dict"), (None, "nothing (None)"), (Take(item="s3cret"), "a Take")],
    ids=["dict", "nothing", "another model"],
)
async def test_p3_an_output_of_another_type_is_a_failed_attempt_and_said_once_in_plain_words(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture, output: Any, what: str
) -> None:
    """No traceback: it would show the kit's own code. Never the value."""

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Any:
        return output

    first, second = await logged(fixture, caplog, 1, 2)
    returned = f"its handler returned {what}, its contract says a Taken"
    assert first[0].startswith(
        f"shop.take of saga A, attempt 1 failed: {returned}. A retry fails alike until the handler's code is changed: "
    )
    assert f"handler, {__file__}:" in first[0]
    assert second[0] == f"shop.take of saga A, attempt 2 failed as before: WrongOutput: {returned}"
    assert (first[1], second[1]) == (False, False)
    assert "s3cret" not in caplog.text


async def test_an_output_where_the_contract_has_none_is_said_so(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    @fixture.handles(note)
    async def handler(command: Take, ctx: ActivityContext) -> Any:
        return {}

    [reply] = await fixture.turn(await fixture.take(), Saga("A").command(note, BOOK))
    assert reply.failure.message == "its handler returned a dict, its contract says nothing (None)"


async def test_details_that_json_does_not_know_go_as_text(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        raise Refused("no", "no", thing=object)  # type: ignore[arg-type]

    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert (reply.kind, reply.failure.details) == (ReplyKind.REFUSED, {"thing": "<class 'object'>"})


async def test_input_that_does_not_validate_is_refused_for_good(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    for body in (b'{"item": 1}', b"{", b"", b'{"item": "a' + b"x" * 1_000_000 + b'"}'):
        command = Saga("A").command(take_item, body=body, step=len(body))
        [reply] = await fixture.turn(tenure, command)
        [again] = await fixture.turn(tenure, command)
        assert (reply.kind, reply.code, again.body) == (ReplyKind.REFUSED, "sagabus.input_invalid", reply.body)
    assert calls == []


async def test_a_reply_that_is_too_large_undoes_its_handler(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        return Taken(item="x" * (1_000_000 if ctx.saga_id == "A" else 1), left=0)

    tenure = await fixture.take()
    large, small = await fixture.turn(tenure, *batch("A", "B"))
    assert (large.kind, large.code, small.kind) == (ReplyKind.FAILED, "sagabus.reply_too_large", ReplyKind.COMPLETED)
    assert await fixture.effects() == ["B"]


async def test_an_output_of_another_type_is_the_handlers_error(fixture: ServiceFixture) -> None:
    @fixture.handles(note)
    async def handler(command: Take, ctx: ActivityContext) -> Any:
        ctx.session.add(Effect(what="wrong"))
        return 7

    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, Saga("A").command(note, BOOK))
    assert (reply.code, reply.failure.details) == ("sagabus.handler_error", {"type": "WrongOutput"})
    assert await fixture.effects() == []


async def test_a_cancelled_error_of_the_handlers_own_making_is_a_failure(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        raise asyncio.CancelledError

    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.code == "sagabus.handler_error"


async def test_p3_a_constraint_violation_is_an_answer(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        await ctx.session.execute(update(Stock).values(left=Stock.left - command.count))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    commands = [Saga(f"S{n}").command(take_item, Take(item="book", count=n)) for n in (4, 99, 5)]
    replies = await fixture.turn(tenure, *commands)
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED, ReplyKind.FAILED, ReplyKind.COMPLETED]
    assert replies[1].failure.details == {"type": "IntegrityError"}
    assert "enough" in replies[1].failure.message
    assert "UPDATE stock" not in replies[1].failure.message
    assert [row["left"] for row in await fixture.rows('SELECT "left" FROM stock')] == [1]


@pytest.mark.parametrize(
    "statement", ["SELECT 1/0", "SELECT * FROM nowhere", "SELEC", "INSERT INTO stock VALUES ('x', 12345678901234)"]
)
async def test_p3_what_a_statement_does_wrong_each_time_is_an_answer(fixture: ServiceFixture, statement: str) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.execute(text(statement if ctx.saga_id == "A" else "SELECT 1"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.FAILED, ReplyKind.COMPLETED]
    assert await fixture.effects() == ["B"]


async def _b_alone_fails(fixture: ServiceFixture) -> None:
    """In one batch with A and C."""
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B", "C"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED, ReplyKind.FAILED, ReplyKind.COMPLETED]
    assert await fixture.effects() == ["A", "C"]


async def test_p3_a_failing_flush_undoes_its_own_handler_only(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        if ctx.saga_id == "B":
            ctx.session.add(Stock(item="book", left=1))  # there already; found out at the flush after the handler
        return Taken(item=command.item, left=0)

    await _b_alone_fails(fixture)


@pytest.mark.parametrize("sagas", ["ABC", "ACB"])
async def test_p3_an_error_that_a_handler_swallows_is_its_failure(fixture: ServiceFixture, sagas: str) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()
        if ctx.saga_id == "B":
            with suppress(Exception):
                await ctx.session.execute(text("SELECT 1/0"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch(*sagas))
    assert [reply.message.key for reply in replies if reply.kind == ReplyKind.FAILED] == [b"B"]
    assert await fixture.effects() == ["A", "C"]


async def test_p3_a_deferred_constraint_fails_who_broke_it(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id, stock=f"new-{ctx.saga_id}"))
        await ctx.session.flush()
        if ctx.saga_id != "B":
            await ctx.session.execute(text("INSERT INTO stock VALUES (:item, 1)"), {"item": f"new-{ctx.saga_id}"})
        return Taken(item=command.item, left=0)

    await _b_alone_fails(fixture)


@pytest.mark.parametrize("sagas", ["ABC", "B"])
async def test_p3_a_lost_connection_is_no_reply(fixture: ServiceFixture, sagas: str) -> None:
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        ctx.session.add(Effect(what=ctx.saga_id))
        if calls.count("B") == 1 and ctx.saga_id == "B":
            await ctx.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch(*sagas))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * len(sagas)
    assert "".join(calls) == sagas[: sagas.index("B") + 1] + sagas
    assert await fixture.effects() == list(sagas)


async def test_p3_a_handler_that_swallows_a_lost_connection_writes_nowhere_else(fixture: ServiceFixture) -> None:
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        if len(calls) == 1:
            with suppress(Exception):
                await ctx.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        with suppress(Exception):
            ctx.session.add(Effect(what=f"{ctx.saga_id}{len(calls)}"))
            await ctx.session.flush()
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2
    assert await fixture.effects() == ["A2", "B3"]


async def test_p3_a_connection_that_is_lost_beside_handlers_that_leave_it_alone_is_no_reply(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    opened: list[LateTransaction] = []
    init = transactional.Handling.__init__

    def noted(self: transactional.Handling, sessions: Sessions, late: LateTransaction, **options: Any) -> None:
        opened.append(late)
        init(self, sessions, late, **options)

    monkeypatch.setattr(transactional.Handling, "__init__", noted)

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        await ctx.connection.fetch("SELECT 1") if ctx.saga_id == "0" else None
        if len(calls) == 2:
            lost = opened[0].transaction
            assert lost is not None
            lost.driver.terminate()
        return Taken(item=command.item, left=0)

    replies = await fixture.turn(await fixture.take(), *batch("0", "A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 3
    assert calls == ["0", "A", "B", "0", "A", "B"], "each alone, on another connection"


async def test_p3_a_deadlock_is_no_reply(fixture: ServiceFixture) -> None:
    await fixture.rows("INSERT INTO stock VALUES ('a', 1), ('b', 1)")
    rival = await asyncpg.connect(fixture.url)
    await rival.execute("SET deadlock_timeout = '30s'; BEGIN; UPDATE stock SET \"left\" = 2 WHERE item = 'b'")
    waiting: list[asyncio.Task[Any]] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        await ctx.session.execute(update(Stock).where(Stock.item == "a").values(left=Stock.left + 1))
        if not waiting:
            waiting.append(asyncio.create_task(rival.execute("UPDATE stock SET \"left\" = 9 WHERE item = 'a'; COMMIT")))
            await until(lambda: fixture.rows(WAITING), what="the rival waits for our lock")
        await ctx.session.execute(update(Stock).where(Stock.item == "b").values(left=Stock.left + 1))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    await waiting[0]
    await rival.close()
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2
    rows = await fixture.rows("SELECT item, \"left\" FROM stock WHERE item <> 'book' ORDER BY item")
    assert [tuple(row) for row in rows] == [("a", 11), ("b", 4)]


async def test_p3_what_a_handler_says_when_it_runs_alone_is_not_the_databases_failure_before(
    fixture: ServiceFixture,
) -> None:
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        if calls[-1] == "B" and calls.count("B") == 1:
            await ctx.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$"))
        if ctx.saga_id == "B":
            raise Refused("out_of_stock", "no more")
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED, ReplyKind.REFUSED]


async def test_p3_trouble_that_stays_fails_the_turn_and_says_nothing(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()
        if ctx.saga_id == "B":
            await ctx.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    with pytest.raises(DatabaseFailed):
        await fixture.turn(tenure, *batch("A", "B", "C"))
    assert [header(message, "ce_causationid") for message in await fixture.left(tenure)] == ["A:r1:1"]
    assert (await fixture.effects(), await fixture.inbox()) == (["A"], [("A:r1:1", "completed", 1)])
    assert tenure.offsets == {"shop.commands": 1}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pg_stat_activity (pid) VALUES (1)",  # 55000: a view that takes no rows
        "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'XX000'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '58P01'; END $$",
    ],
    ids=["55000", "XX000", "58P01"],
)
async def test_p3_what_a_statement_alone_meets_on_a_connection_that_goes_on_is_its_handlers(
    fixture: ServiceFixture, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        if ctx.saga_id == "A":
            await ctx.session.execute(text(statement))
            await ctx.session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 20.0})
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B"))
    assert [reply.kind for reply in replies] == [ReplyKind.FAILED, ReplyKind.COMPLETED]
    assert (replies[0].code, await fixture.effects()) == ("sagabus.handler_error", ["B"])
    [told] = [message for message in caplog.messages if "carried out again" in message]
    assert "SELECT" not in told.upper().replace("PG_STAT", "")


async def test_p3_a_statement_without_an_answer_is_its_handlers_the_second_time(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_module, "COMMAND_SECONDS", 0.5)
    await fixture.engine.dispose()

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        if ctx.saga_id == "A":
            await ctx.session.execute(text("SELECT pg_sleep(20)"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    records = fixture.records(tenure, *batch("A", "B"))
    with pytest.raises(DatabaseFailed, match="the database failed a handler: TimeoutError"):
        await fixture.processor.turn({tenure: records})
    assert any(message.endswith(": the database failed a handler: TimeoutError") for message in caplog.messages)
    tenure = await fixture.take()
    with pytest.raises(TransactionEnded, match=r"got no answer \(saga A, command A:r1:1\)"):
        await fixture.processor.turn({tenure: records})
    assert await fixture.inbox() == [("A:r1:1", "failed", 1)]
    tenure = await fixture.take()
    await fixture.processor.turn({tenure: records})
    assert await fixture.inbox() == [("A:r1:1", "failed", 1), ("B:r1:1", "completed", 1)]
    assert await fixture.effects() == ["B"]


async def test_p3_a_handler_around_which_three_turns_fail_has_failed(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it blocks the loop: another process takes the shard meanwhile, and ends this one's session."""
    monkeypatch.setattr(transactional, "HELD_SECONDS", 0.0)
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        if ctx.saga_id == "A":
            pid = await ctx.session.scalar(text("SELECT pg_backend_pid()"))
            await fixture.rows("SELECT pg_terminate_backend($1)", pid)
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    records = fixture.records(tenure, *batch("A"))
    for _ in range(3):
        with pytest.raises(Exception, match=r"closed|terminating|failed"):
            await fixture.processor.turn({tenure: records})
        tenure = await fixture.take()
    before = len(calls)
    await fixture.processor.turn({tenure: records})
    [reply] = [Reply(message) for message in await fixture.left(tenure)]
    assert (reply.code, len(calls)) == ("sagabus.handler_error", before)
    assert "blocks the event loop" in reply.failure.message
    with pytest.raises(Exception, match=r"closed|terminating|failed"):  # another attempt is another one
        await fixture.turn(tenure, *batch("A", attempt=2))


@pytest.mark.parametrize(
    "statement",
    [
        "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53400'; END $$",
        "SELECT 1 FROM stock WHERE item = 'book' FOR UPDATE NOWAIT",  # 55P03: another session has the row
        "SELECT set_config('statement_timeout', '50', true), pg_sleep(0)",  # of the next statement: 57014
    ],
    ids=["53400", "55P03", "57014"],
)
async def test_p3_a_lack_of_resources_and_a_wait_in_vain_are_the_worlds_three_times(
    fixture: ServiceFixture, rival: asyncpg.Connection[asyncpg.Record], statement: str
) -> None:
    """Each fails the turn at once: what it waits for may be held by a process whose shards go on once it is over."""
    await rival.execute("BEGIN; UPDATE stock SET \"left\" = 2 WHERE item = 'book'")

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        await ctx.session.execute(text(statement))
        await ctx.session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 20.0})
        raise AssertionError

    tenure = await fixture.take()
    for attempt in (1, 2):
        records = fixture.records(tenure, *batch("A", attempt=attempt))
        for _ in range(3):
            with pytest.raises(DatabaseFailed):
                await fixture.processor.turn({tenure: records})
            assert await fixture.inbox() == ([] if attempt == 1 else [("A:r1:1", "failed", 1)])
            tenure = await fixture.take()
        await fixture.processor.turn({tenure: records})
        assert await fixture.inbox() == [("A:r1:1", "failed", attempt)]


async def test_p3_what_an_external_handlers_statement_meets_each_time_is_its_own(fixture: ServiceFixture) -> None:
    @fixture.handles(charge, transaction=False)
    async def handler(command: Take, ctx: ExternalContext[Any]) -> Taken:
        async with ctx.transaction() as session:
            await session.execute(text("INSERT INTO pg_stat_activity (pid) VALUES (1)"))
        raise AssertionError

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, BOOK))
    [reply] = await ended(fixture, tenure)
    assert (reply.kind, reply.code) == (ReplyKind.FAILED, "sagabus.handler_error")


async def test_p3_trouble_wrapped_in_another_exception_is_no_reply_either(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        try:
            await ctx.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40P01'; END $$"))
        except Exception as error:
            raise RuntimeError("something with the database") from error
        raise AssertionError

    tenure = await fixture.take()
    with pytest.raises(DatabaseFailed):
        await fixture.turn(tenure, *batch("A"))
    assert await fixture.left(tenure) == []


async def test_without_a_database_nothing_is_begun(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    async with opened("postgresql://nobody@127.0.0.1:9/nowhere", fresh=False) as elsewhere:
        with pytest.raises(DatabaseUnreachable):
            await elsewhere.processor.turn({tenure: fixture.records(tenure, *batch("A"))})
    assert calls == []
