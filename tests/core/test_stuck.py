"""A saga that waits for what nothing can bring is before an operator, until it moves; any other one is not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.stuck import STUCK
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, charge, paid, reserve


async def on_an_event(ctx: SagaContext) -> None:
    await asyncio.Event().wait()


async def on_a_future(ctx: SagaContext) -> None:
    await asyncio.get_running_loop().create_future()


async def on_a_lock(ctx: SagaContext) -> None:
    lock = asyncio.Lock()

    async def keeps_it() -> None:
        await lock.acquire()

    await asyncio.create_task(keeps_it())
    await lock.acquire()


async def on_a_task(ctx: SagaContext) -> None:
    await asyncio.create_task(on_an_event(ctx))


async def on_a_gather(ctx: SagaContext) -> None:
    await asyncio.gather(ctx.call(charge(order="O-1")), on_an_event(ctx))


async def on_each_other(ctx: SagaContext) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def other(number: int) -> None:
        await tasks[number]

    tasks += [asyncio.create_task(other(1)), asyncio.create_task(other(0))]
    await tasks[0]


async def on_a_queue(ctx: SagaContext) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    await queue.get()


def reserving_and_waiting(wait: Callable[[SagaContext], Awaitable[None]]) -> Definition:
    @saga("saga")
    async def stuck(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        await wait(ctx)
        return Result(refs=[])

    return stuck


@pytest.mark.parametrize(
    ("wait", "where"),
    [
        (on_an_event, "Event.wait in tests.core.test_stuck.on_an_event, line"),
        (on_a_future, "a future in tests.core.test_stuck.on_a_future, line"),
        (on_a_lock, "Lock.acquire in tests.core.test_stuck.on_a_lock, line"),
        (on_a_task, "Event.wait in tests.core.test_stuck.on_an_event, line"),
        (on_a_queue, "Queue.get in tests.core.test_stuck.on_a_queue, line"),
    ],
)
def test_l13_a_saga_that_waits_for_what_nothing_can_bring_needs_an_operator(
    wait: Callable[[SagaContext], Awaitable[None]], where: str
) -> None:
    drive = Drive(reserving_and_waiting(wait)).start()
    assert drive.attention == ""
    drive.completed(1)
    assert list(drive.state.concerns) == [STUCK]
    assert drive.attention.startswith(f"the saga waits for nothing that can come: its code awaits {where}")
    assert drive.last.told == ["step.completed", "saga.attention"]

    drive.reload()
    assert list(drive.state.concerns) == [STUCK]
    assert drive.last.told == []

    drive.cancel()
    assert drive.attention == ""
    assert drive.last.told[0] == "saga.attention_cleared"
    assert drive.status == SagaStatus.COMPENSATING


def test_l13_tasks_that_wait_for_each_other_are_told_of() -> None:
    drive = Drive(reserving_and_waiting(on_each_other)).start()
    drive.completed(1)
    assert "a future in tests.core.test_stuck.on_each_other.<locals>.other, line" in drive.attention


def test_l13_while_a_step_is_under_way_something_may_come() -> None:
    drive = Drive(reserving_and_waiting(on_a_gather)).start()
    drive.completed(1)
    assert drive.attention == ""
    drive.completed(2)
    assert "awaits Event.wait in tests.core.test_stuck.on_an_event, line" in drive.attention


@pytest.mark.parametrize("by", ["cancel", "timeout"])
def test_l13_a_finally_that_waits_so_is_seen_too(by: str) -> None:
    @saga("saga", timeout=60)
    async def stuck(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            await asyncio.Event().wait()
        return Result(refs=[])

    drive = Drive(stuck).start()
    if by == "cancel":
        drive.cancel()
    else:
        drive.fire(TimerKind.SAGA)
    assert list(drive.state.concerns) == [STUCK]
    assert drive.attention.endswith("; it has been cancelled already")


def test_l13_tasks_that_are_left_and_wait_so_are_seen_too() -> None:
    async def stays() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.Event().wait()

    @saga("saga")
    async def leaves(ctx: SagaContext, order: Order) -> Result:
        task = asyncio.create_task(stays())
        await asyncio.sleep(0)
        del task
        return Result(refs=[])

    drive = Drive(leaves).start()
    assert "its code awaits Event.wait in tests.core.test_stuck.test_l13_tasks" in drive.attention
    assert drive.status == SagaStatus.RUNNING


def test_l13_a_timeout_of_the_saga_may_still_come() -> None:
    @saga("saga", timeout=60)
    async def waits(ctx: SagaContext, order: Order) -> Result:
        await asyncio.Event().wait()
        return Result(refs=[])

    drive = Drive(waits).start()
    assert drive.attention == ""
    drive.fire(TimerKind.SAGA)
    assert (drive.attention, drive.status) == ("", SagaStatus.COMPENSATED)


async def sleeps(ctx: SagaContext) -> None:
    await asyncio.sleep(60)


async def sleeps_without_end(ctx: SagaContext) -> None:
    await asyncio.sleep(math.inf)


async def waits_for_an_event(ctx: SagaContext) -> None:
    await ctx.event(paid)


async def waits_with_a_timeout(ctx: SagaContext) -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


async def waits_for_a_task_that_calls(ctx: SagaContext) -> None:
    done = asyncio.Event()

    async def calls() -> None:
        await ctx.call(charge(order="O-1"))
        done.set()

    task = asyncio.create_task(calls())
    await done.wait()
    await task


async def waits_for_a_callback(ctx: SagaContext) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(60, done.set)
    await done.wait()


@pytest.mark.parametrize(
    "wait",
    [
        sleeps, sleeps_without_end, waits_for_an_event, waits_with_a_timeout, waits_for_a_task_that_calls,
        waits_for_a_callback,
    ],
)  # fmt: skip
def test_l13_who_waits_for_what_can_come_is_left_alone(wait: Callable[[SagaContext], Any]) -> None:
    drive = Drive(reserving_and_waiting(wait)).start()
    drive.completed(1)
    assert drive.attention == ""
    drive.reload()
    assert drive.attention == ""
    drive.cancel()
    assert drive.attention == ""


def test_l13_a_saga_that_an_older_release_has_left_stuck_is_told_when_it_is_loaded() -> None:
    drive = Drive(reserving_and_waiting(on_an_event)).start()
    drive.completed(1)
    drive.stored.concerns = b"[]"
    drive.saga.evict()
    drive.saga = drive.restored()
    drive.commit()
    assert list(drive.stored.standing().concerns) == [STUCK]
