"""A change of the code under open sagas: each has it or not, once and for all, and a replay agrees (H8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.patches import MAX_PATCHES
from tests.core.kit import Definition, Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Result, charge, check, paid, reserve, ship
from tests.core.test_properties import check as check_promise
from tests.core.world import World


@saga("saga")
async def before(ctx: SagaContext, order: Order) -> Result:
    """The code as it was."""
    refs = [(await ctx.call(reserve(order=order.order))).ref]
    for number in range(2):
        await asyncio.sleep(60)
        refs.append((await ctx.call(charge(order=f"{number}"))).ref)
    return Result(refs=refs)


@saga("saga")
async def after(ctx: SagaContext, order: Order) -> Result:
    """The same with a check before each charge, and a shipment at the end."""
    refs = [(await ctx.call(reserve(order=order.order))).ref]
    for number in range(2):
        await asyncio.sleep(60)
        if ctx.patched("fraud-check"):
            await ctx.call(check(order=order.order))
        refs.append((await ctx.call(charge(order=f"{number}"))).ref)
    if ctx.patched("ship"):
        refs.append((await ctx.call(ship(order=order.order))).ref)
    return Result(refs=refs)


@saga("saga")
async def without_the_call(ctx: SagaContext, order: Order) -> Result:
    """The change is kept, and its mark was taken out."""
    await ctx.call(reserve(order=order.order))
    await asyncio.sleep(60)
    await ctx.call(check(order=order.order))
    return Result(refs=[])


@saga("saga")
async def asking_earlier(ctx: SagaContext, order: Order) -> Result:
    ctx.patched("fraud-check")
    await ctx.call(reserve(order=order.order))
    await asyncio.sleep(60)
    return Result(refs=[])


def commands(drive: Drive) -> list[str]:
    return [row.name for row in drive.rows if row.kind is Kind.COMMAND]


def marks(drive: Drive) -> list[str]:
    return [row.name for row in drive.rows if row.kind is Kind.PATCHED]


def test_h8_a_saga_that_comes_there_first_under_the_new_code_has_the_change_and_a_replay_agrees() -> None:
    drive = Drive(after).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.kinds[-2:] == ["patched", "command 2"]
    drive.reload()
    assert drive.attention == ""
    drive.completed(2)
    drive.completed(3)
    drive.fire(TimerKind.SLEEP, 2)
    assert marks(drive) == ["fraud-check"], "one mark for a place in a loop"
    assert commands(drive) == ["stock.reserve", "bank.check", "bank.charge", "bank.check"]


def test_h8_a_saga_that_came_past_the_place_under_older_code_never_gets_the_change() -> None:
    drive = Drive(before).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(after)
    drive.completed(2)
    drive.fire(TimerKind.SLEEP, 2)
    drive.reload()
    drive.completed(3)
    assert commands(drive) == ["stock.reserve", "bank.charge", "bank.charge", "post.ship"]
    assert marks(drive) == ["ship"], "its history ended before that place"
    drive.reload()
    assert drive.attention == ""


def test_h8_a_saga_whose_history_ends_before_the_place_has_the_change() -> None:
    drive = Drive(before).start()
    drive.completed(1)
    drive.reload(after)
    drive.fire(TimerKind.SLEEP, 1)
    assert commands(drive) == ["stock.reserve", "bank.check"]


def test_h8_what_a_blocked_saga_has_kept_is_decided_under_the_new_code() -> None:
    drive = Drive(before).start()
    drive.reload(keep_code=False)
    drive.completed(1)
    assert drive.kinds == ["started", "command 1", "blocked 3", "step.completed 1"]
    drive.reload(asking_second)
    assert drive.kinds[4:] == ["resumed", "undo.input 1", "patched", "command 2"]
    drive.reload()
    assert drive.attention == ""
    drive.completed(2)
    assert drive.status == "completed"


@saga("saga")
async def asking_second(ctx: SagaContext, order: Order) -> Result:
    first = ctx.patched("first")
    await ctx.call(reserve(order=order.order))
    if not first and ctx.patched("second"):
        await ctx.call(check(order=order.order))
    return Result(refs=[])


def test_h8_a_saga_that_is_ended_without_its_code_needs_no_mark() -> None:
    drive = Drive(after).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(without_the_call)
    drive.cancel()
    assert Kind.CODELESS in [row.kind for row in drive.rows]
    drive.never(2)
    drive.undone(1)
    assert drive.status == "cancelled"
    drive.reload(after)
    assert drive.status == "cancelled"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (without_the_call, "the code now makes command bank.check (number 2)"),
        (before, "the code now makes command bank.charge (number 2)"),
    ],
)  # fmt: skip
def test_h8_a_call_that_was_taken_out_too_early_is_named_with_the_cure(code: Definition, words: str) -> None:
    drive = Drive(after).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(code)
    cure = 'ctx.patched("fraud-check") must be called where its row is; it may be taken out when no open history has'
    assert drive.attention.startswith(f"history has patched fraud-check at row 6, {words}; {cure}")
    assert drive.status == "running"
    drive.reload(after)
    assert drive.attention == ""


def test_h8_a_call_that_does_nothing_any_more_is_named_too() -> None:
    drive = Drive(asking_earlier).start()
    drive.completed(1)
    drive.reload(before)
    assert drive.attention.startswith("history has patched fraud-check at row 2, the code now makes command")
    assert 'ctx.patched("fraud-check") must be called where its row is' in drive.attention


def test_h8_a_change_that_is_asked_for_earlier_than_its_row_is_named_with_the_cure() -> None:
    drive = Drive(after).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(asking_earlier)
    words = "history has command stock.reserve (number 1) at row 2, the code now makes patched fraud-check; "
    assert drive.attention.startswith(f'{words}ctx.patched("fraud-check") is called earlier than where its row is')


def test_h8_the_call_alone_keeps_the_mark_when_the_old_way_is_gone() -> None:
    @saga("saga")
    async def later(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        await asyncio.sleep(60)
        ctx.patched("fraud-check")
        await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(after).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(later)
    assert drive.attention == ""


def test_h8_two_tasks_agree_and_there_is_one_mark() -> None:
    seen: list[bool] = []

    @saga("saga")
    async def asking(ctx: SagaContext, order: Order) -> Result:
        async def ask() -> None:
            seen.append(ctx.patched("change"))
            await ctx.event(paid)
            seen.append(ctx.patched("change"))

        await asyncio.gather(ask(), ask())
        return Result(refs=[])

    drive = Drive(asking).start()
    assert (set(seen), marks(drive)) == ({True}, ["change"])
    drive.event(paid, {"amount": 1})
    assert (set(seen), marks(drive)) == ({True}, ["change"])


def asking_for(name: Callable[[int], object], times: int) -> Definition:
    @saga("saga")
    async def asking(ctx: SagaContext, order: Order) -> Result:
        for number in range(times):
            with suppress(Exception):
                ctx.patched(name(number))  # type: ignore[arg-type]
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    return asking


@pytest.mark.parametrize(
    ("name", "times", "words"),
    [
        (lambda n: f"change-{n}", MAX_PATCHES + 1, "has asked for 100 changes, and one saga may have no more"),
        (lambda _: "Fraud check", 1, "change name 'Fraud check': give a small letter"),
        (lambda _: "", 1, "change name '': give a small letter"),
        (lambda n: n, 1, "takes the name of a change, not a int"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_marked_stops_the_saga_before_anything_is_sent(
    name: Callable[[int], object], times: int, words: str
) -> None:
    drive = Drive(asking_for(name, times)).start()
    assert words in drive.attention
    assert (drive.kinds, drive.status, drive.last.short) == (["started", "blocked 1"], "running", [])


def test_a_saga_may_have_as_many_changes_as_the_limit_says() -> None:
    drive = Drive(asking_for(lambda n: f"change-{n}", MAX_PATCHES)).start()
    assert (len(marks(drive)), drive.attention) == (MAX_PATCHES, "")
    drive.reload()
    assert drive.attention == ""


@given(data=st.data(), forgetful=st.booleans(), old=st.integers(0, 25), new=st.integers(0, 25))
@settings(max_examples=60)
def test_h8_a_change_may_come_at_any_moment_of_a_saga(data: st.DataObject, forgetful: bool, old: int, new: int) -> None:
    """World and Drive replay every prefix of both histories, the one of the old code under the new one too."""
    try:
        world = World.of(before, lambda n: data.draw(st.integers(0, n - 1)), forgetful=forgetful)
        for _ in range(old):
            world.happen()
        world.drive.reload(after)
        world.collect()
        for _ in range(new):
            world.happen()
        world.settle_down()
        check_promise(world)
        check_marks(world.drive)
    finally:
        forget_all()


def check_marks(drive: Drive) -> None:
    """A mark stands once, and right before it counts."""
    assert len(set(marks(drive))) == len(marks(drive))
    for row, then in pairwise(drive.rows):
        if row.kind is Kind.PATCHED and not drive.state.paused:
            assert then.kind is Kind.COMMAND, then
    checks = commands(drive).count("bank.check")
    assert bool(checks) == ("fraud-check" in marks(drive))


def test_a_saga_that_asks_for_no_change_pays_for_none() -> None:
    drive = Drive(before).start()
    assert drive.saga.program is not None
    assert drive.saga.program._patches is None
    copy = drive.restored()
    assert copy.state.journal._patched is None
    copy.evict()
