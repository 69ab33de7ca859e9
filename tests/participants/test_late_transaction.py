"""Batches that need no transaction, or only late: what becomes of them is what becomes of them in one (P7, S1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg
import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from sagabus.contracts.envelope import Message
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.messaging.shards.single_statement import MOST_ROWS
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ActivityContext, Refused, TryAgain
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox import small_batch
from tests.participants.service_fixture import (
    BOOK,
    Effect,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    charge,
    give_back,
    note,
    opened,
    take_item,
)
from tests.support.postgres import PostgresServer

IN_TRANSACTION = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
)


def answers(fixture: ServiceFixture, during: Callable[[str], Any] | None = None) -> list[str]:
    """A handler for `charge` that asks for no transaction; its calls. during: awaited meanwhile, with the saga."""
    calls: list[str] = []

    @fixture.handles(charge)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(f"{ctx.saga_id}/{ctx.attempt}")
        if during is not None:
            await during(ctx.saga_id)
        return Taken(item=command.item, left=0)

    return calls


def charges(*sagas: str, **options: Any) -> list[Message]:
    return [Saga(saga).command(charge, BOOK, **options) for saga in sagas]


async def test_no_transaction_is_open_while_handlers_run_that_ask_for_none(fixture: ServiceFixture) -> None:
    seen: list[int] = []

    async def look(_: str) -> None:
        seen.append(len(await fixture.rows(IN_TRANSACTION)))

    answers(fixture, look)
    replies = await fixture.turn(await fixture.take(), *charges("A", "B"))
    assert (seen, [reply.kind for reply in replies]) == ([0, 0], [ReplyKind.COMPLETED] * 2)
    assert await fixture.inbox() == [("A:r1:1", "completed", 1), ("B:r1:1", "completed", 1)]


async def test_where_no_statement_may_stand_alone_a_batch_has_one_transaction(
    shop_database: str, fixture: ServiceFixture
) -> None:
    seen: list[int] = []

    async def look(_: str) -> None:
        seen.append(len(await fixture.rows(IN_TRANSACTION)))

    answers(fixture, look)
    engine = create_async_engine(sqlalchemy_url(shop_database), poolclass=NullPool)
    fixture.sessions = Sessions(async_sessionmaker(engine))
    fixture.processor = fixture.new_side()
    replies = await fixture.turn(await fixture.take(), *charges("A", "B"))
    assert (seen, [reply.kind for reply in replies]) == ([1, 1], [ReplyKind.COMPLETED] * 2)
    await engine.dispose()


@pytest.mark.parametrize("way", ["session", "connection", "pending"])
async def test_p7_who_asks_for_the_transaction_late_commits_with_all_before_it(
    fixture: ServiceFixture, way: str
) -> None:
    """Also one whose session only writes when it is flushed behind the handler."""
    tenure = await fixture.take()
    seen: list[list[tuple[str, str, int]]] = []

    @fixture.handles(charge)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        if ctx.saga_id == "B":
            if way == "session":
                await ctx.session.execute(text("INSERT INTO effect (what) VALUES ('B')"))
            elif way == "connection":
                await ctx.connection.execute("INSERT INTO effect (what) VALUES ('B')")
            else:
                ctx.session.add(Effect(what="B"))
        if ctx.saga_id == "C":
            seen.append(await fixture.inbox())
        return Taken(item=command.item, left=0)

    replies = await fixture.turn(tenure, *charges("A", "B", "C"))
    assert [reply.message.key for reply in replies] == [b"A", b"B", b"C"]
    assert (seen, await fixture.effects()) == ([[]], ["B"])
    assert [id for id, _, _ in await fixture.inbox()] == ["A:r1:1", "B:r1:1", "C:r1:1"]


async def test_p7_who_fails_after_asking_late_leaves_nothing_and_the_others_stay(fixture: ServiceFixture) -> None:
    @fixture.handles(charge)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        if ctx.saga_id in "BC":
            await ctx.connection.execute("INSERT INTO effect (what) VALUES ($1)", ctx.saga_id)
        if ctx.saga_id == "B":
            raise Refused("no", "not today")
        return Taken(item=command.item, left=0)

    replies = await fixture.turn(await fixture.take(), *charges("A", "B", "C"))
    kinds = [ReplyKind.COMPLETED, ReplyKind.REFUSED, ReplyKind.COMPLETED]
    assert ([reply.kind for reply in replies], await fixture.effects()) == (kinds, ["C"])


@pytest.mark.parametrize("late", [False, True], ids=["never", "late"])
@pytest.mark.parametrize("attempt", [1, 2], ids=["a new row", "a row that changes"])
async def test_p7_what_another_process_has_carried_out_meanwhile_is_neither_overwritten_nor_done_twice(
    fixture: ServiceFixture, late: bool, attempt: int
) -> None:
    """The same command in two partitions: the other shard's owner is faster."""
    calls: list[str] = []
    heard: list[str] = []
    if attempt == 2:
        await fixture.rows(
            "INSERT INTO sagabus_shop.inbox (source, id, shard, activity, state, attempt, input_hash, reply, at) "
            "VALUES ('/sagabus/sagabus', 'A:r1:1', 7, 'shop.charge', 'failed', 1, $1, 'null', now())",
            received_digest(),
        )
    async with opened(fixture.url, fresh=False) as other:
        theirs = await other.take(1)

        @other.handles(charge)
        async def first(command: Take, ctx: ActivityContext) -> Taken:
            await ctx.connection.execute("INSERT INTO effect (what) VALUES ('there')")
            return Taken(item=command.item, left=7)

        @fixture.handles(charge)
        async def second(command: Take, ctx: ActivityContext) -> Taken:
            calls.append(ctx.saga_id)
            if ctx.saga_id == "A":
                await other.turn(theirs, *charges("A", attempt=attempt))
                try:
                    if late:
                        await ctx.connection.execute("INSERT INTO effect (what) VALUES ('here')")
                except DatabaseFailed:  # it cannot be swallowed
                    heard.append(ctx.saga_id)
            return Taken(item=command.item, left=0)

        replies = await fixture.turn(await fixture.take(0), *charges("B", "A", attempt=attempt))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2
    assert [reply.body for reply in replies] == [b'{"item":"book","left":0}', b'{"item":"book","left":7}']
    assert (calls, await fixture.effects()) == (["B", "A", "B"], ["there"])
    assert heard == (["A"] if late else []), "before a statement of its own is sent"
    assert await fixture.inbox() == [("A:r1:1", "completed", attempt), ("B:r1:1", "completed", attempt)]


def received_digest() -> bytes:
    from hashlib import blake2b

    return blake2b(BOOK.model_dump_json().encode(), digest_size=16).digest()


@pytest.mark.parametrize("late", [False, True], ids=["never", "late"])
async def test_s1_a_shard_that_is_lost_under_a_handler_writes_nothing(fixture: ServiceFixture, late: bool) -> None:
    calls: list[str] = []

    @fixture.handles(charge)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        if ctx.saga_id == "A":
            await fixture.take()
            if late:
                with suppress(Exception):  # it cannot be swallowed
                    await ctx.connection.execute("INSERT INTO effect (what) VALUES ('A')")
        return Taken(item=command.item, left=0)

    with pytest.raises(Fenced):
        await fixture.turn(await fixture.take(), *charges("A", "B"))
    assert (await fixture.effects(), await fixture.inbox()) == ([], [])
    assert calls == (["A"] if late else ["A", "B"])
    assert await fixture.rows("SELECT * FROM sagabus_shop.outbox") == []


async def test_s1_the_look_without_a_transaction_is_fenced(fixture: ServiceFixture) -> None:
    calls = answers(fixture)
    old = await fixture.take()
    await fixture.take()
    with pytest.raises(Fenced):
        await fixture.turn(old, *charges("A"))
    assert (calls, await fixture.inbox()) == ([], [])


async def test_a_handler_that_no_longer_waits_for_its_transaction_leaves_nothing_half_begun(
    fixture: ServiceFixture,
) -> None:
    """Somebody holds the shard's row for a while."""
    tenure = await fixture.take()
    rival = await asyncpg.connect(fixture.url)
    try:
        await rival.execute("BEGIN")
        await rival.execute("SELECT FROM sagabus_shop.shard WHERE shard = 0 FOR UPDATE")

        @fixture.handles(charge)
        async def handler(command: Take, ctx: ActivityContext) -> Taken:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await ctx.connection.execute("INSERT INTO effect (what) VALUES ('never')")
            await rival.execute("ROLLBACK")
            await ctx.connection.execute("INSERT INTO effect (what) VALUES ('once')")
            return Taken(item=command.item, left=0)

        [reply] = await fixture.turn(tenure, *charges("A"))
        assert (reply.kind, await fixture.effects()) == (ReplyKind.COMPLETED, ["once"])
    finally:
        await rival.close()


async def test_a_row_that_somebody_keeps_fails_the_turn_and_nothing_is_written(
    fixture: ServiceFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a connection of somebody else's, which waits for a lock without end by itself."""
    monkeypatch.setattr(small_batch, "LOCK_TIMEOUT", "50ms")
    small_batch.statement.cache_clear()
    tenure = await fixture.take()
    rival = await asyncpg.connect(fixture.url)

    async def keep(_: str) -> None:
        await rival.execute("BEGIN")
        await rival.execute("SELECT FROM sagabus_shop.shard WHERE shard = 0 FOR UPDATE")

    try:
        answers(fixture, keep)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await fixture.turn(tenure, *charges("A"))
    finally:
        await rival.close()
        small_batch.statement.cache_clear()
    assert await fixture.inbox() == []


@pytest.mark.parametrize("rows", [MOST_ROWS, MOST_ROWS + 1])
async def test_a_batch_of_any_size_is_written(fixture: ServiceFixture, rows: int) -> None:
    answers(fixture)
    tenure = await fixture.take()
    sagas = [f"S{number:03}" for number in range(rows)]
    replies = await fixture.turn(tenure, *charges(*sagas))
    assert [reply.message.saga_id for reply in replies] == sagas
    assert len(await fixture.inbox()) == rows
    assert tenure.offsets["shop.commands"] == rows


ODD = ('"', "\\", '\\"', "{}", ",", "NULL", "'", "ä€\U0001f600", "a b", "x" * 200)


async def test_texts_are_written_as_they_are(fixture: ServiceFixture) -> None:
    """They go as one text: PostgreSQL reads it as an array."""
    wanted = [f"\x01{first}\n{second}" for first in ODD for second in ("", *ODD)]
    rows = await fixture.rows("SELECT unnest($1::text::text[]) AS one", small_batch.text_array(wanted))
    assert [row["one"] for row in rows] == wanted


async def test_a_beat_deletes_what_was_published(fixture: ServiceFixture) -> None:
    answers(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, *charges("A", "B"))
    tenure.relay.position = 1
    await fixture.turn(tenure)
    rows = await fixture.rows("SELECT position FROM sagabus_shop.outbox")
    assert ([row["position"] for row in rows], tenure.deleted_to) == ([2], 1)


# All of it, against the plain way: one transaction, begun before the handlers.


@dataclass
class Deployment:
    """Two shards of one process; now and then one is taken anew, or by another tenure."""

    fixture: ServiceFixture
    tenures: list[Tenure] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)

    async def play(self, seed: int, turns: int) -> None:
        random = Random(seed)
        self._handlers()
        self.tenures = [await self.fixture.take(shard) for shard in (0, 1)]
        for _ in range(turns):
            await self._turn(random)

    async def state(self) -> list[Any]:
        """All that stands in the database."""
        inbox = await self.fixture.rows(
            "SELECT source, id, activity, state, attempt, input_hash, reply, reply_kind, at, shard, command, headers "
            "FROM sagabus_shop.inbox ORDER BY source, id"
        )
        out = await self.fixture.rows("SELECT * FROM sagabus_shop.outbox ORDER BY shard, position")
        letters = await self.fixture.rows("SELECT shard, reason, value FROM sagabus_shop.dead_letter ORDER BY id")
        shards = await self.fixture.rows("SELECT shard, turn, next_position, topics FROM sagabus_shop.shard ORDER BY 1")
        return [*map(tuple, (*inbox, *out, *letters, *shards)), await self.fixture.effects()]

    async def _turn(self, random: Random) -> None:
        what = random.random()
        fixture, shards = self.fixture, [0] if random.random() < 0.6 else [0, 1]
        if what < 0.1:
            self.tenures[0] = await fixture.take(0)
        older = self.tenures[0]
        if what > 0.9:
            await fixture.take(0)
        size = random.choice((0, 1, 1, 2, 5, 20, 90))
        commands = {shard: [self._command(random) for _ in range(size)] for shard in shards}
        work = {self.tenures[shard]: fixture.records(self.tenures[shard], *commands[shard]) for shard in shards}
        try:
            await fixture.processor.turn(work)
        except Fenced:
            assert what > 0.9
            self.said.append("fenced")
            for shard in shards:
                self.tenures[shard] = await fixture.take(shard)
        else:
            assert what <= 0.9 or older not in work
            for tenure in work:
                tenure.relay.position = random.randint(tenure.relay.position, tenure.next_position - 1)

    @staticmethod
    def _command(random: Random) -> Message:
        saga = Saga(f"S{random.randrange(25)}")
        activity, attempt = random.choice((take_item, charge, charge, charge, note)), random.choice((1, 1, 1, 2, 3))
        what = random.random()
        if what < 0.1:
            return saga.settle(attempt=attempt)
        if what < 0.2:
            return saga.undo(give_back, BOOK, attempt=attempt)
        if what < 0.25:
            return saga.command(activity, kind=CommandKind.DO, body=b"no json", attempt=attempt)
        step = random.choice((1, 1, 2))
        return saga.command(activity, Take(item="book", count=random.choice((1, 1, 1, 2))), attempt=attempt, step=step)

    def _handlers(self) -> None:
        async def enter(ctx: ActivityContext, *, plainly: bool) -> None:
            if plainly:
                await ctx.connection.execute("INSERT INTO effect (what) VALUES ($1)", ctx.idempotency_key)
            else:
                ctx.session.add(Effect(what=ctx.idempotency_key))

        def mood(ctx: ActivityContext, what: str) -> int:
            return Random(f"{what} {ctx.idempotency_key} {ctx.attempt}").randrange(12)

        def fail(which: int) -> None:
            if which == 0:
                raise Refused("out_of_stock", "no more")
            if which == 1:
                raise ValueError("broken")
            if which == 2:
                raise TryAgain("later")

        async def writes(command: Take, ctx: ActivityContext) -> Taken:
            fail(mood(ctx, "before"))
            await enter(ctx, plainly=mood(ctx, "how") < 6)
            fail(mood(ctx, "after"))
            return Taken(item=command.item, left=1)

        async def computes(command: Take, ctx: ActivityContext) -> Taken:
            if mood(ctx, "rarely") == 0:
                await enter(ctx, plainly=mood(ctx, "how") < 6)
            fail(mood(ctx, "after"))
            return Taken(item=command.item, left=2)

        async def nothing(command: Take, ctx: ActivityContext) -> None:
            fail(mood(ctx, "after"))

        self.fixture.handles(take_item)(writes)
        self.fixture.handles(charge)(computes)
        self.fixture.handles(note)(nothing)
        self.fixture.handles(give_back)(nothing)


@pytest.mark.parametrize("seed", range(6))
async def test_p7_random_batches_end_as_they_do_in_a_transaction_from_the_beginning(
    postgres: PostgresServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies, undos, settles, failures, handlers that write or do not, fenced turns, shards that are taken anew."""
    ends: list[Any] = []
    for plain in (False, True):
        with postgres.database() as url:
            async with opened(url) as fixture:
                if plain:
                    monkeypatch.setattr(CommandProcessor, "_begins_at_once", lambda *_: True)
                deployment = Deployment(fixture)
                await deployment.play(seed, turns=40)
                ends.append((await deployment.state(), deployment.said))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) > 50
