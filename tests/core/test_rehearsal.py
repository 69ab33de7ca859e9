"""A history is replayed with code that is not deployed yet: what the product would say of it, and at which line."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagabus.coordinator import SagaContext
from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.core.saga.recorded import Head, Recorded
from sagabus.coordinator.core.saga.rehearsal import rehearse
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.definition import saga
from tests.core import shapes
from tests.core.kit import Definition, Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Result, count, keyless, paid, reserve, told
from tests.core.world import World

MOST_ACTIONS = 20


def history_of(drive: Drive) -> Recorded:
    stored = drive.stored
    head = Head(
        saga=drive.name, version=1, id=drive.id, run="r1", fingerprint=stored.fingerprint,
        status=SagaStatus(stored.status), started_at=drive.rows[0].at,
    )  # fmt: skip
    return recorded.read(recorded.lines(Recorded(head, drive.rows)))


def line_of(code: Definition, text: str) -> str:
    """`file:line` of the first line of its function that holds this text."""
    body: Callable[..., Any] = code._body
    lines, first = inspect.getsourcelines(body)
    at = next(number for number, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(body)}:{first + at}"


@saga("saga")
async def first(ctx: SagaContext, order: Order) -> Result:
    done = await ctx.call(count(order=order.order))
    ctx.publish(told(order=order.order))
    await ctx.event(paid)
    return Result(refs=[done.ref, ctx.now().isoformat()])


@saga("saga")
async def another_step(ctx: SagaContext, order: Order) -> Result:
    done = await ctx.call(
        reserve(order=order.order),
    )
    await ctx.event(paid)
    return Result(refs=[done.ref])


@saga("saga")
async def another_fact(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(count(order=order.order))
    ctx.publish(keyless(order=order.order))
    await ctx.event(paid)
    return Result(refs=[])


@saga("saga")
async def silent(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(count(order=order.order))
    await _paid(ctx)
    return Result(refs=[])


async def _paid(ctx: SagaContext) -> None:
    await ctx.event(paid)


@saga("saga")
async def short(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(count(order=order.order))
    return Result(refs=[])


@saga("saga")
async def early(ctx: SagaContext, order: Order) -> Result:
    call = ctx.call(count(order=order.order))
    ctx.publish(told(order=order.order))
    await call
    await ctx.event(paid)
    return Result(refs=[])


@pytest.fixture
def waiting() -> Recorded:
    """At its event."""
    drive = Drive(first).start()
    drive.completed(1)
    return history_of(drive)


def test_a_saga_that_has_closed_follows() -> None:
    drive = Drive(first).start()
    drive.completed(1)
    drive.event(paid, {"amount": 1})
    assert drive.status == SagaStatus.COMPLETED
    assert rehearse(history_of(drive), first) is None


def test_code_that_is_the_same_follows(waiting: Recorded) -> None:
    assert rehearse(waiting, first) is None
    assert rehearse(Recorded(waiting.head, waiting.rows[:2]), first) is None


@pytest.mark.parametrize(
    ("code", "row", "expected", "found", "at"),
    [
        (another_step, 2, "command stock.count (number 1) at row 2", "command stock.reserve (number 1)", "ctx.call("),
        (another_fact, 4, "publish stock.told (number 1) at row 4", "publish bank.keyless (number 1)", "ctx.publish"),
        (short, 4, "publish stock.told (number 1) at row 4", "ended completed", "@saga"),
    ],
)
def test_the_first_difference_is_told_with_its_row_and_line(
    waiting: Recorded, code: Definition, row: int, expected: str, found: str, at: str
) -> None:
    stopped = rehearse(waiting, code)
    assert stopped is not None
    assert (stopped.kind, stopped.row, stopped.expected, stopped.found) == ("diverged", row, expected, found)
    assert stopped.said.startswith(f"history has {expected}, the code now makes {found}; its code has changed (")
    assert stopped.place == line_of(code, at)


def test_what_comes_too_early_is_told(waiting: Recorded) -> None:
    stopped = rehearse(waiting, early)
    assert stopped is not None
    said = "history has publish stock.told (number 1) at row 4, the code now makes it before step.completed stock"
    assert stopped.said.startswith(said)
    assert (stopped.row, stopped.place) == (4, line_of(early, "ctx.publish"))


def test_a_change_that_is_made_too_early_is_told(waiting: Recorded) -> None:
    @saga("saga")
    async def patched(ctx: SagaContext, order: Order) -> Result:
        if ctx.patched("count-first"):
            await ctx.call(count(order=order.order))
        await ctx.event(paid)
        return Result(refs=[])

    @saga("saga")
    async def moved(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(count(order=order.order))
        ctx.patched("count-first")
        await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(patched).start()
    drive.completed(1)
    assert rehearse(waiting, patched) is not None
    history = history_of(drive)
    assert rehearse(history, patched) is None
    stopped = rehearse(history, moved)
    assert stopped is not None
    assert (stopped.row, stopped.expected) == (2, "patched count-first at row 2")
    assert stopped.place == line_of(moved, "ctx.call")


def test_where_the_code_stands_is_told_if_it_does_nothing(waiting: Recorded) -> None:
    stopped = rehearse(waiting, silent)
    assert stopped is not None
    assert (stopped.row, stopped.expected, stopped.found) == (4, "publish stock.told (number 1) at row 4", "nothing")
    lines, number = inspect.getsourcelines(_paid)
    assert stopped.place.endswith(f"test_rehearsal.py:{number + 1}")
    assert "ctx.event" in lines[1]


def test_steps_that_have_changed_places_are_told(waiting: Recorded) -> None:
    def code(orders: list[str]) -> Definition:
        @saga("saga")
        async def each(ctx: SagaContext, order: Order) -> Result:
            await asyncio.gather(*(ctx.call(reserve(order=one)) for one in orders))
            return Result(refs=[])

        return each

    stopped = rehearse(history_of(Drive(code(["a", "b"])).start()), code(["b", "a"]))
    assert stopped is not None
    assert (stopped.row, stopped.expected, stopped.found) == (
        2, "command stock.reserve (number 1) at row 2", "command stock.reserve (number 2) at row 3",
    )  # fmt: skip
    assert stopped.place.startswith(__file__)


def test_a_history_with_less_than_the_code_makes_is_told(waiting: Recorded) -> None:
    cut = Recorded(waiting.head, waiting.rows[:3])
    stopped = rehearse(cut, first)
    assert stopped is not None
    assert (stopped.row, stopped.expected, stopped.found) == (4, "nothing more", "publish stock.told (number 1)")
    assert stopped.place == line_of(first, "ctx.publish")


def test_code_that_does_not_come_to_rest_is_told(waiting: Recorded) -> None:
    @saga("saga")
    async def spinning(ctx: SagaContext, order: Order) -> Result:
        while True:  # noqa: ASYNC110 - it does not come to rest
            await asyncio.sleep(0)

    stopped = rehearse(waiting, spinning)
    assert stopped is not None
    assert (stopped.kind, stopped.row, stopped.expected, stopped.found) == ("spun", 0, "", "")
    assert stopped.place.startswith(__file__)


def test_what_was_kept_while_it_was_blocked_is_decided_upon() -> None:
    """The code follows what was decided, and stops at what came after that."""
    drive = Drive(first).start()
    drive.completed(1)
    drive.reload(another_step)
    drive.event(paid, {"amount": 1})
    blocked = history_of(drive)
    assert rehearse(blocked, first) is None

    @saga("saga")
    async def spins_then(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(count(order=order.order))
        ctx.publish(told(order=order.order))
        await ctx.event(paid)
        while True:  # noqa: ASYNC110 - it does not come to rest
            await asyncio.sleep(0)

    stopped = rehearse(blocked, spins_then)
    assert stopped is not None
    assert (stopped.kind, stopped.place) == ("spun", spins_then.written_at)


def test_a_saga_that_goes_on_from_its_rows_follows_whatever_the_code_is() -> None:
    drive = Drive(first).start()
    drive.completed(1)
    drive.reload(another_step)
    drive.cancel("its code is gone")
    assert rehearse(history_of(drive), another_step) is None


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(data=st.data(), actions=st.integers(0, MOST_ACTIONS))
@settings(max_examples=5)
def test_every_history_is_followed_by_the_code_that_made_it(
    code: Definition, data: st.DataObject, actions: int
) -> None:
    try:
        world = World.of(code, lambda n: data.draw(st.integers(0, n - 1)), forgetful=False)
        for _ in range(actions):
            world.happen()
        assert rehearse(history_of(world.drive), code) is None
    finally:
        forget_all()
