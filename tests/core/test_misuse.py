"""What a saga's author does wrong is said once, in one way, with the cure: attention, or the log, and never an undo."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.program import MAX_CALLS_IN_FLIGHT
from tests.core.cost import Plain
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, charge, reserve
from tests.core.wire import failure


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _resolve() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def _subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _thread() -> None:
    await asyncio.to_thread(threading.get_ident)


async def _signal() -> None:
    asyncio.get_running_loop().add_signal_handler(15, print)


async def _foreign() -> None:
    await asyncio.Task(asyncio.sleep(0))


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize(
    ("work", "cure"),
    [
        (_thread, "in an activity"), (_connect, "in an activity"), (_resolve, "in an activity"),
        (_subprocess, "in an activity"), (_signal, "send it an event"), (_foreign, "use `asyncio.create_task`"),
    ],
)  # fmt: skip
def test_l11_whatever_the_loop_refuses_is_attention_with_the_cure_and_never_an_undo(
    work: Callable[[], Awaitable[None]], cure: str, caught: bool
) -> None:
    @saga("saga")
    async def misusing(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        if caught:
            with suppress(Exception):
                await work()
        else:
            await work()
        return Result(refs=[])

    drive = Drive(misusing).start()
    drive.completed(1)
    assert list(drive.state.concerns) == [Concern(ConcernKind.BLOCKED)]
    assert cure in drive.attention
    assert (drive.status, drive.last.short) == ("running", [])


def calling(number: int) -> Definition:
    @saga("saga")
    async def many(ctx: SagaContext, order: Order) -> Result:
        calls = [ctx.call(reserve(order="1")) for _ in range(number)]
        await asyncio.gather(*calls)
        return Result(refs=[])

    return many


def test_more_calls_in_flight_than_one_saga_may_have_stop_it_before_anything_is_sent() -> None:
    one = Plain(calling(MAX_CALLS_IN_FLIGHT + 1))
    assert [row.kind for row in one.rows] == [Kind.STARTED, Kind.BLOCKED]
    assert list(one.state.concerns) == [Concern(ConcernKind.BLOCKED)]
    assert "10000 calls are in flight, and one saga may have no more" in (one.state.attention or "")
    assert "asyncio.Semaphore(100)" in (one.state.attention or "")
    enough = Plain(calling(MAX_CALLS_IN_FLIGHT))
    assert len(enough.state.steps.open) == MAX_CALLS_IN_FLIGHT
    enough.saga.evict()


def test_calls_that_are_answered_are_in_flight_no_more() -> None:
    @saga("saga")
    async def in_portions(ctx: SagaContext, order: Order) -> Result:
        for _ in range(2):
            await asyncio.gather(*(ctx.call(reserve(order="1")) for _ in range(MAX_CALLS_IN_FLIGHT)))
        return Result(refs=[])

    one = Plain(in_portions)
    one.completed(*range(1, MAX_CALLS_IN_FLIGHT + 1))
    assert len(one.state.steps.open) == MAX_CALLS_IN_FLIGHT
    one.saga.evict()


@pytest.mark.filterwarnings("ignore:the call of step 1")
def test_a_step_whose_call_nobody_awaits_is_told_to_the_log_with_its_line_and_once() -> None:
    @saga("saga")
    async def forgetting(ctx: SagaContext, order: Order) -> Result:
        ctx.call(reserve(order=order.order))  # the mistake
        await ctx.call(charge(order=order.order))
        return Result(refs=[])

    one = Plain(forgetting)
    line = forgetting._body.__code__.co_firstlineno + 2
    place = f"the call of step 1 at {__file__}:{line} was never awaited"
    assert one.logged == [f"{place}: nobody hears whether it fails; write `await ctx.call(…)`"]
    one.give(Kind.STEP_REFUSED, 1, 1, name="stock", payload=failure("no"))
    assert one.logged[1:] == [f"{place}, and it has failed: stock.reserve (step 1, attempt 1): no: no happened"]
    restored = one.restored()
    assert restored.drain().log == [], "it was said then"
    restored.evict()
    one.saga.evict()


def test_what_a_task_raises_that_nobody_awaits_is_told_to_the_log_once() -> None:
    async def work() -> None:
        raise ValueError("nobody hears")

    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        asyncio.create_task(work())  # noqa: RUF006  # the mistake
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    one = Plain(careless)
    assert one.logged == ["SagaTask exception was never retrieved: ValueError: nobody hears"]
    restored = one.restored()
    assert restored.drain().log == [], "it was said then"
    restored.evict()
    one.saga.evict()
