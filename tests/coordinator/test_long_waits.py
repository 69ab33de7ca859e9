"""What an open saga waits for whose history is longer than what a list reads of it: as the core knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from sagabus.contracts import RetryPolicy
from sagabus.coordinator import SagaContext
from sagabus.coordinator import saga as defined
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Row
from sagabus.coordinator.http.saga_views import ROWS_IN_LIST, ROWS_OF_ONE
from sagabus.coordinator.http.waits import Wait, WaitKind, Waits, waits_of
from sagabus.coordinator.store import Store, TimerRef, Writes
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.messaging.postgres.database import Database
from tests.coordinator.test_waits import recent, stored, waits
from tests.core.kit import Drive
from tests.core.services import Order, Paid, Result, count, paid, reserve, ship
from tests.core.situations import compensating, given_up, one_step

FOREVER = RetryPolicy(first=2, longest=60, attempts=None)
ATTEMPTS = (1, 10, 60)


@defined("saga")
async def called_late(ctx: SagaContext, order: Order) -> Result:
    """After events as many as a test wishes."""
    while (await ctx.event(paid)).amount:
        pass
    await ctx.call(reserve(order=order.order), retry=FOREVER)
    return Result(refs=[])


@defined("saga")
async def side_by_side(ctx: SagaContext, order: Order) -> Result:
    jobs = [one(order=order.order) for one in (count, reserve, ship) * 2]
    await asyncio.gather(*(ctx.call(job, retry=FOREVER) for job in jobs))
    return Result(refs=[])


@defined("saga")
async def long_way(ctx: SagaContext, order: Order) -> Result:
    for _ in range(61):
        await ctx.call(reserve(order=order.order))
    return Result(refs=[])


@pytest.fixture
async def database_of_sagas(database: str) -> AsyncIterator[Database]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield pool
    await pool.stop()


async def told(pool: Database, drive: Drive, rows: Sequence[Row], *, most: int) -> Waits:
    """From what is stored."""
    row = replace(stored(drive), run=drive.state.run)
    timers: dict[TimerRef, int | None] = {
        TimerRef(row.shard, row.id, row.run, one.kind, one.number): one.due for one in recent(drive).timers
    }
    async with pool.transaction() as connection:
        await connection.execute("TRUNCATE sagabus.saga, sagabus.history, sagabus.timer")
        writes = Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1)), timers=timers)
        await Store("sagabus").write(connection, writes)
    (found,) = await OperatorReads(pool, "sagabus").recent([row], most=most)
    return waits_of(row, found)


async def check(pool: Database, drive: Drive, rows: Sequence[Row] = ()) -> None:
    """rows: instead of those of the drive, which stands where they end."""
    rows = rows or drive.rows
    whole = waits_of(stored(drive), replace(recent(drive), rows=rows))
    for most in (ROWS_IN_LIST, ROWS_OF_ONE):
        found = await told(pool, drive, rows, most=most)
        assert found.is_complete == (most >= len(rows))
        assert list(map(comparable, found.waits)) == list(map(comparable, whole.waits))


def comparable(wait: Wait) -> tuple[object, ...]:
    step = wait.step
    where = None if step is None else (step.number, step.activity, step.service)
    return wait.kind, wait.words, wait.command, wait.attempt, wait.since, wait.due, where


def failing(drive: Drive, attempts: int, *, steps: Sequence[int] = (1,)) -> Drive:
    """Each of these steps has failed so often, and is about to be tried again."""
    for attempt in range(attempts):
        for step in steps:
            if attempt:
                drive.fire(TimerKind.RETRY, step)
            assert drive.failed(step) is None
    return drive


@pytest.mark.parametrize("attempts", [1, 10, 100])
async def test_c4_a_step_that_keeps_failing_is_told_however_often_it_has_failed(
    database_of_sagas: Database, attempts: int
) -> None:
    drive = failing(Drive(one_step(retry=FOREVER)).start(), attempts)
    assert [(wait.kind, wait.attempt) for wait in waits(drive)] == [(WaitKind.RETRY, attempts + 1)]
    await check(database_of_sagas, drive)
    drive.fire(TimerKind.RETRY, 1)
    await check(database_of_sagas, drive)


async def test_c4_a_step_that_has_failed_a_thousand_times_is_told(database_of_sagas: Database) -> None:
    """The rows are those of two failures, repeated."""
    drive = failing(Drive(one_step(retry=FOREVER)).start(), 2)
    failed, fired = drive.rows[2:4]
    rows = drive.rows[:2]
    for attempt in range(1, 1_001):
        rows.append(replace(failed, seq=len(rows) + 1, attempt=attempt, at=rows[-1].at + 1))
        rows.append(replace(fired, seq=len(rows) + 1, at=rows[-1].at + 1))
    await check(database_of_sagas, drive, rows[:-1])
    (wait,) = (await told(database_of_sagas, drive, rows[:-1], most=ROWS_IN_LIST)).waits
    assert (wait.kind, wait.attempt) == (WaitKind.RETRY, 1_001)


@pytest.mark.parametrize("attempts", [1, 10, 20])
async def test_c4_steps_that_keep_failing_side_by_side_are_told(database_of_sagas: Database, attempts: int) -> None:
    drive = failing(Drive(side_by_side).start(), attempts, steps=range(1, 7))
    await check(database_of_sagas, drive)
    drive.fire(TimerKind.RETRY, 4)
    await check(database_of_sagas, drive)


@pytest.mark.parametrize("attempts", ATTEMPTS)
async def test_c4_a_step_that_was_called_late_and_keeps_failing_is_told(
    database_of_sagas: Database, attempts: int
) -> None:
    drive = Drive(called_late).start()
    for amount in range(150, -1, -1):
        drive.event(paid, Paid(amount=amount))
    await check(database_of_sagas, failing(drive, attempts))


@pytest.mark.parametrize("attempts", ATTEMPTS)
async def test_c4_an_undo_that_keeps_failing_is_told(database_of_sagas: Database, attempts: int) -> None:
    drive = compensating()
    await check(database_of_sagas, drive)
    for _ in range(attempts):
        drive.undo_failed(1)
        await check(database_of_sagas, drive)
        if not drive.timers:
            return
        drive.fire(TimerKind.UNDO_RETRY, 1)
        await check(database_of_sagas, drive)


@pytest.mark.parametrize("attempts", ATTEMPTS)
async def test_c4_a_settle_that_keeps_failing_is_told_with_what_it_holds(
    database_of_sagas: Database, attempts: int
) -> None:
    drive = given_up()
    for _ in range(attempts):
        drive.unsettled(1)
        drive.fire(TimerKind.UNDO_RETRY, 1)
    for most in (ROWS_IN_LIST, ROWS_OF_ONE):
        found = await told(database_of_sagas, drive, drive.rows, most=most)
        assert comparable(found.waits[0]) == comparable(waits(drive, most=len(drive.rows))[0])
        assert found.is_complete or len(found.waits) == 1, "what a settle holds is not told of a long history"


async def test_c4_an_undo_whose_step_was_called_long_ago_is_told(database_of_sagas: Database) -> None:
    drive = Drive(long_way).start()
    for step in range(1, 61):
        drive.completed(step)
    drive.refused(61)
    for step in range(60, 3, -1):
        assert drive.undone(step) is None
    await check(database_of_sagas, drive)
