"""S7: a walk after an acquisition leaves out sagas at rest. What PostgreSQL takes for that, a replay confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any, Final

import pytest

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator import SagaContext
from sagabus.coordinator import saga as defined
from sagabus.coordinator.core.saga.concern import concerns_json
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects, TimerKind
from sagabus.coordinator.core.saga.events import events_json
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.shard import unloaded
from sagabus.coordinator.shard.loading import ReplayLimits
from sagabus.coordinator.store import SagaRow, TimerRow, Writes
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.open_page import HARMLESS, ROWS_LOOKED_AT, OpenPage
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.write import Store
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.saga_rows import saga
from tests.coordinator.shard_fixture import ShardFixture, headers_of, ids_of_shard
from tests.coordinator.test_saga_processor import INPUT, SHARD
from tests.core import shapes
from tests.core.kit import Definition, Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Paid, Result, charge, count, paid, reserve, told
from tests.core.world import World
from tests.simulation.store_statements import StoreStatements

WORLDS: Final = 9
"""Of each shape. To hunt, raise it."""

MOST_ACTIONS: Final = 30


@defined("saga")
async def keeping(ctx: SagaContext, order: Order) -> Result:
    """Lets a step go that has not answered in time, as it is; tells of it, and waits."""
    kept = asyncio.create_task(ctx.call(reserve(order=order.order), timeout=60, abandon="keep"))
    done = await asyncio.gather(kept, ctx.call(count(order=order.order)), return_exceptions=True)
    ctx.publish(told(order=order.order))
    await ctx.event(paid)
    await ctx.call(charge(order=order.order))
    return Result(refs=[str(type(one)) for one in done])


@defined("saga", timeout=86_400)
async def patient(ctx: SagaContext, order: Order) -> Result:
    """Step, event, step, sleep, step: at rest in between."""
    refs = [(await ctx.call(reserve(order=order.order))).ref]
    refs.append(str((await ctx.event(paid)).amount))
    refs.append((await ctx.call(charge(order=order.order))).ref)
    await asyncio.sleep(3_600)
    refs.append((await ctx.call(count(order=order.order))).ref)
    return Result(refs=refs)


ALL: Final = (*shapes.ALL, keeping, patient)


class Kept:
    """A saga as tables keep it at some moment, and what a replay of it finds to be done."""

    def __init__(self, drive: Drive, number: int) -> None:
        state, stored, run = drive.state, drive.stored, RunId("r1")
        self.id = id = SagaId(f"O-{number:05}")
        attention = None if not state.concerns else state.attention
        self.row = saga(
            id, run, status=state.status, fingerprint=stored.fingerprint, attention=attention, paused=state.paused,
            concerns=concerns_json(state.concerns) if state.concerns else None, events=events_json(stored.events),
            decided=state.blocked - 1 if state.blocked else None,
        )  # fmt: skip
        self.history = [*drive.rows]
        stored_timers = {key: due for key, due in drive.timers.items() if key.kind not in IN_MEMORY}
        self.timers = [TimerRow(3, id, run, *key, due) for key, due in stored_timers.items()]
        copy = drive.restored()
        self.follows: Effects = copy.drain()
        """From its replay alone."""
        copy.resend_outstanding(now=drive.now)
        self.unanswered = [message.topic for message in copy.drain().messages]
        self.is_blocked = bool(copy.state.blocked)
        copy.evict()


class Undisturbed(World):
    """Nobody stops or ends the saga, and nothing is lost: most of its rows are of the harmless kinds then."""

    def happen(self) -> None:
        timers = [key for key in sorted(self.drive.timers) if key.kind in (TimerKind.RETRY, TimerKind.SLEEP)]
        actions = [self.event, *[self.handle] * bool(self.commands), *[self.answer] * bool(self.replies)]
        actions += [lambda: self._fire(timers[self.choose(len(timers))])] * bool(timers)
        actions[self.choose(len(actions))]()
        self.collect()


def moments(code: Definition, seed: int) -> Iterator[Kept]:
    """Of random lives of sagas: as they stood after each thing that happened."""
    number = 0
    for life in range(WORLDS):
        random = Random(f"{seed}:{life}")
        kind = World if life % 3 == 0 else Undisturbed
        world = kind.of(code, random.randrange, forgetful=life % 2 == 0)
        for _ in range(MOST_ACTIONS):
            if not world.drive.state.is_closed:
                yield Kept(world.drive, number)
                number += 1
            world.happen()
        if not world.drive.state.is_closed:
            world.drive.reload(keep_code=False)
            yield Kept(world.drive, number)
            number += 1


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Database]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield pool
    await pool.stop()
    forget_all()


async def look(pool: Database, code: Definition, kept: Sequence[Kept]) -> OpenPage:
    """They are stored, and the page with all of them is read."""
    timers = [timer for one in kept for timer in one.timers]
    writes = Writes(new_sagas=[one.row for one in kept], timers={timer.ref: timer.due for timer in timers})
    for one in kept:
        writes.history.add(one.row.key, one.history, len(one.history))
    encoded = writes.encoded()
    async with pool.transaction() as connection:
        await Store("sagabus").write(connection, encoded)
        return await Reads("sagabus").open_page(
            connection, 3, after="", most=100_000, fingerprints=["else", code.fingerprint]
        )


@pytest.mark.parametrize("code", ALL, ids=[body._body.__name__ for body in ALL])
async def test_s7_of_what_is_at_rest_nothing_is_sent_again_and_a_replay_finds_nothing_to_do(
    pool: Database, code: Definition
) -> None:
    kept = [*moments(code, 7)]
    page = await look(pool, code, kept)
    assert (page.count, page.last) == (len(kept), kept[-1].id)
    for one in kept:
        if one.id not in page.restless:
            what = [row.kind for row in one.history]
            assert (one.unanswered, one.is_blocked) == ([], False), what
            made = one.follows
            assert (made.rows, made.messages, made.timers_set, made.saga_changed) == ([], [], {}, False), what
    assert page.restless == [one.id for one in kept if not simulated(code, one)], "the simulation takes it so, too"


def simulated(code: Definition, one: Kept) -> bool:
    book = StoreStatements(lambda: 0.0)
    past = [asdict(row) for row in one.history]
    return book.is_at_rest(asdict(one.row), past, [code.fingerprint], has_timer=bool(one.timers))


async def test_s7_who_waits_for_an_event_or_sleeps_is_at_rest_and_whoever_waits_for_an_answer_is_not(
    pool: Database,
) -> None:
    drive = Drive(patient).start()
    kept = [Kept(drive, 0)]
    drive.failed(1)
    kept.append(Kept(drive, 1))
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    kept.append(Kept(drive, 2))  # it waits for the event
    drive.event(paid, Paid(amount=3))
    kept.append(Kept(drive, 3))
    drive.completed(2)
    kept.append(Kept(drive, 4))  # it sleeps
    drive.fire(TimerKind.SLEEP, min(number for kind, number in drive.timers if kind is TimerKind.SLEEP))
    kept.append(Kept(drive, 5))
    page = await look(pool, patient, kept)
    assert page.restless == [kept[number].id for number in (0, 1, 3, 5)]


def _at_rest() -> Kept:
    drive = Drive(patient).start()
    drive.completed(1)
    return Kept(drive, 0)


REASONS: Final[dict[str, dict[str, Any]]] = {
    "other code": {"fingerprint": "saga-v1-py3.0"},
    "being undone": {"status": SagaStatus.COMPENSATING},
    "paused": {"paused": True},
    "undecided": {"decided": 3},
    "flagged": {"attention": "somebody should look"},
    "no words of its events": {"events": b'{"row": 0}'},
    "events of an earlier row": {"events": b'{"row": 2, "awaited": [{"name": "x", "since": 1}], "kept": []}'},
}


@pytest.mark.parametrize("reason", REASONS)
async def test_s7_a_saga_that_may_have_something_to_be_told_is_loaded(pool: Database, reason: str) -> None:
    one = _at_rest()
    one.row = replace(one.row, **REASONS[reason])
    assert (await look(pool, patient, [one])).restless == [one.id]


async def test_l13_a_saga_that_waits_for_nothing_that_is_known_is_loaded(pool: Database) -> None:
    """An older release did not flag it as stuck."""
    one = _at_rest()
    one.row, one.timers = replace(one.row, events=None), []
    assert (await look(pool, patient, [one])).restless == [one.id]


RARE: Final = (
    Kind.UNDO_COMPLETED, Kind.UNDO_REFUSED, Kind.UNDO_FAILED, Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER,
    Kind.SETTLE_FAILED, Kind.CANCEL, Kind.OPERATOR, Kind.BLOCKED, Kind.RESUMED, Kind.CODELESS, Kind.NOTICE, Kind.SETTLE,
    Kind.UNDO, Kind.ROLLBACK, Kind.ENDED, Kind.UNKNOWN,
)  # fmt: skip


def test_each_kind_of_row_is_harmless_or_rare() -> None:
    """Whoever adds one has to think of it here."""
    assert {*HARMLESS} | {*RARE} == {*Kind}


@pytest.mark.parametrize("kind", RARE)
async def test_s7_a_row_of_any_other_kind_has_its_saga_loaded(pool: Database, kind: Kind) -> None:
    """One of a later release too: whatever it may mean."""
    one = _at_rest()
    one.history.append(replace(one.history[-1], seq=len(one.history) + 1, kind=kind))
    one.row = replace(one.row, events=None)
    assert (await look(pool, patient, [one])).restless == [one.id]


async def test_s7_a_long_history_is_not_looked_through(pool: Database) -> None:
    one = _at_rest()
    first = one.history[-1]
    one.row = replace(one.row, events=None)
    one.history += [replace(first, seq=seq, kind=Kind.EVENT) for seq in range(first.seq + 1, ROWS_LOOKED_AT)]
    assert (await look(pool, patient, [one])).restless == []
    await _emptied(pool)
    one.history.append(replace(first, seq=ROWS_LOOKED_AT, kind=Kind.EVENT))
    assert (await look(pool, patient, [one])).restless == [one.id]
    await _emptied(pool)
    one.history += [replace(first, seq=seq, kind=Kind.EVENT) for seq in range(ROWS_LOOKED_AT + 1, 20_000)]
    await look(pool, patient, [one])
    sql = Reads("sagabus")._sql["saga.open_page"]
    async with pool.transaction() as connection:
        await connection.execute("ANALYZE sagabus.history")
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {sql}", 3, "", 9, [patient.fingerprint])
    plan = "\n".join(row[0] for row in rows)
    (read,) = [line for line in plan.splitlines() if "history_pkey" in line]
    assert f"actual rows={ROWS_LOOKED_AT} loops=1" in read.replace(".00", ""), plan


async def _emptied(pool: Database) -> None:
    async with pool.transaction() as connection:
        await connection.execute("TRUNCATE sagabus.saga, sagabus.history, sagabus.timer")


# The walk.


@pytest.fixture
async def fixture(pool: Database) -> ShardFixture:
    return ShardFixture(pool, (order_processing, expense_approval), SHARD, limits=ReplayLimits(samples=0))


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, OpenPage]]:
    """That were read: after which id, and what was found."""
    read: list[tuple[str, OpenPage]] = []
    original = Reads.open_page

    async def open_page(self: Reads, *args: Any, after: str, **options: Any) -> OpenPage:
        page = await original(self, *args, after=after, **options)
        read.append((after, page))
        return page

    monkeypatch.setattr(Reads, "open_page", open_page)
    return read


async def approvals(fixture: ShardFixture, tenure: Tenure, ids: Sequence[str], *, answered: bool = True) -> None:
    """Sagas that wait for an event and for a timer, or for the answer to their first step."""
    sent = await fixture.turn(tenure, *(
        fixture.request(id, type="start", saga="expense_approval", input={
            "expense_id": id, "approver": "a", "manager": "m",
        }) for id in ids
    ))  # fmt: skip
    if answered:
        commands = [message for message in sent if headers_of(message).get("ce_replyto")]
        await fixture.turn(tenure, *(fixture.reply(command, "completed", None) for command in commands))


async def walk(fixture: ShardFixture, tenure: Tenure) -> list[str]:
    """All the way; the ids of those that have been loaded."""
    memory = fixture.processor._memories[tenure]
    while not memory.unloaded.is_done or memory.replays.is_busy:
        fixture.now += 1
        await fixture.turn(tenure)
    return sorted(memory.loaded)


async def test_s7_a_walk_loads_who_waits_for_an_answer_and_nobody_who_is_at_rest(
    fixture: ShardFixture, pages: list[tuple[str, OpenPage]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloaded, "LOOKED_AT", 30)
    monkeypatch.setattr("sagabus.coordinator.shard.replaying.LOOKED_AT", 30)
    monkeypatch.setattr(unloaded, "UNLOADED_PAGE", 4)
    ids = ids_of_shard(SHARD, "EXP-", 200)
    waiting = Random(3).sample(ids, 60)
    tenure = await fixture.take()
    await approvals(fixture, tenure, [id for id in ids if id not in waiting])
    await approvals(fixture, tenure, waiting, answered=False)
    tenure = await fixture.crash()
    assert await walk(fixture, tenure) == sorted(waiting)
    assert sum(page.count for _, page in pages) == len(ids), "each is looked at once"
    assert [after for after, _ in pages] == ["", *(page.last for _, page in pages)][: len(pages)]


async def test_h1_the_first_page_is_loaded_at_rest_or_not(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that does something else than histories say is found there, though its fingerprint does not show it."""
    monkeypatch.setattr(unloaded, "LOOKED_AT", 30)
    monkeypatch.setattr("sagabus.coordinator.shard.replaying.LOOKED_AT", 30)
    fixture.limits = ReplayLimits(samples=1)
    ids = ids_of_shard(SHARD, "EXP-", 70)
    tenure = await fixture.take()
    await approvals(fixture, tenure, ids)
    tenure = await fixture.crash()
    assert await walk(fixture, tenure) == sorted(ids)[:30]


async def test_s6_when_records_were_lost_each_open_saga_is_told_so_at_rest_or_not(fixture: ShardFixture) -> None:
    ids = ids_of_shard(SHARD, "EXP-", 30)
    tenure = await fixture.take()
    await approvals(fixture, tenure, ids)
    fixture.processor = fixture.new_side()
    fixture.starts_at = 1_000  # retention was faster than the shard
    await walk(fixture, await fixture.take())
    notices = await fixture.rows("SELECT id FROM sagabus.history WHERE kind = 'notice'")
    assert sorted(row["id"] for row in notices) == sorted(ids)


async def test_s6_a_new_bus_has_nobody_loaded_who_is_at_rest(
    fixture: ShardFixture, pages: list[tuple[str, OpenPage]]
) -> None:
    ids = ids_of_shard(SHARD, "EXP-", 30)
    tenure = await fixture.take()
    await approvals(fixture, tenure, ids)
    fixture.ends.clear()
    tenure = await fixture.crash(ids="another log")
    assert await walk(fixture, tenure) == []
    assert [page.count for _, page in pages] == [len(ids)]
    assert await fixture.rows("SELECT * FROM sagabus.shard_owner WHERE lost_records IS NOT NULL") == []


async def test_h1_a_walk_finds_the_sagas_whose_code_is_another_one_or_is_missing(fixture: ShardFixture) -> None:
    ids = ids_of_shard(SHARD, "EXP-", 30)
    tenure = await fixture.take()
    await approvals(fixture, tenure, ids)
    await fixture.turn(
        tenure, fixture.request("ORD-6", type="start", saga="order_processing", input={**INPUT, "order_id": "ORD-6"})
    )
    tenure = await fixture.crash(order_processing)
    assert await walk(fixture, tenure) == ["ORD-6"]
    flagged = await fixture.rows("SELECT id FROM sagabus.saga WHERE attention IS NOT NULL")
    assert sorted(row["id"] for row in flagged) == sorted(ids)


async def test_what_has_closed_since_its_page_was_read_is_not_loaded(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloaded, "UNLOADED_PAGE", 1)
    ids = ids_of_shard(SHARD, "EXP-", 3)
    tenure = await fixture.take()
    await approvals(fixture, tenure, ids, answered=False)
    tenure = await fixture.crash()
    fixture.now += 10
    await fixture.turn(tenure)
    memory = fixture.processor._memories[tenure]
    last = max(ids)
    assert last not in memory.loaded
    await fixture.turn(tenure, fixture.request(last, type="terminate", reason="enough"))
    assert (await fixture.saga(last))["status"] == "terminated"
    begun: list[SagaRow] = []
    monkeypatch.setattr(memory.replays, "begin", lambda row, *_, **__: begun.append(row))
    fixture.now += 10
    while not memory.unloaded.is_done:
        assert last not in memory.unloaded.step(0, loaded=memory.loaded)
    assert begun == []
