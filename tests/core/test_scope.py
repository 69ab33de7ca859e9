"""Undo at will: of what was done in a scope, and of one step, while the saga goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sagabus.contracts.errors import ActivityFailed, ActivityTimedOut, DeclarationError
from sagabus.coordinator import Call, SagaContext, Scope, saga
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import Done, Order, Result, book, charge, check, count, reserve, ship


@saga("saga")
async def with_another_way(ctx: SagaContext, order: Order) -> Result:
    """Three steps in a scope and one before it; where the last one is refused, another way is taken."""
    await ctx.call(charge(order=order.order))
    try:
        async with ctx.scope():
            await ctx.call(reserve(order=order.order))
            await ctx.call(book(order=order.order))
            await ctx.call(ship(order=order.order))
    except ActivityFailed as error:
        await ctx.call(check(order=error.code))
    return Result(refs=[])


def refused_in_scope() -> Drive:
    drive = Drive(with_another_way).start()
    for number in (1, 2, 3):
        drive.completed(number)
    drive.refused(4, "full")
    return drive


def test_u11_what_was_done_in_a_scope_is_undone_in_reverse_order_and_then_the_error_goes_on() -> None:
    drive = refused_in_scope()
    assert drive.last.short == ["undo 3 post.unbook"]
    drive.undone(3)
    assert drive.last.short == ["undo 2 stock.release"], "one at a time"
    drive.undone(2)
    assert drive.last.short == ["do 5 bank.check"], "what was done before the scope stands, and the code goes on"
    drive.completed(5)
    assert (drive.status, drive.step(1).undoing) == (SagaStatus.COMPLETED, Undoing.NONE)


def test_u11_what_a_scope_has_undone_is_not_undone_again_with_its_saga() -> None:
    drive = refused_in_scope()
    drive.undone(3)
    drive.undone(2)
    drive.refused(5)
    assert drive.last.short == ["undo 1 bank.refund"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_u11_a_scope_that_is_left_well_gives_its_steps_to_what_is_around_it() -> None:
    @saga("saga")
    async def nested(ctx: SagaContext, order: Order) -> Result:
        try:
            async with ctx.scope():
                await ctx.call(charge(order=order.order))
                async with ctx.scope():
                    await ctx.call(reserve(order=order.order))
                await ctx.call(ship(order=order.order))
        except ActivityFailed:
            pass
        async with ctx.scope():
            await ctx.call(book(order=order.order))
        raise ValueError("undo what is left")

    drive = Drive(nested).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 2 stock.release"]
    drive.undone(2)
    assert drive.last.short == ["undo 1 bank.refund"]
    drive.undone(1)
    drive.completed(4)
    assert drive.last.short == ["undo 4 post.unbook"]
    drive.undone(4)
    assert drive.status == SagaStatus.COMPENSATED


def test_u11_what_is_open_in_a_scope_is_given_up_and_settled_first_the_latest_first() -> None:
    @saga("saga")
    async def wide(ctx: SagaContext, order: Order) -> Result:
        try:
            async with ctx.scope():
                calls = [ctx.call(one(order=order.order)) for one in (reserve, charge, reserve, ship)]
                await asyncio.gather(*calls)
        except ActivityFailed:
            pass
        await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(wide).start()
    drive.completed(2)
    drive.refused(4)
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.never(3)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"], "it had happened"
    drive.undone(1)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.last.short == ["do 5 bank.check"]


def test_u11_a_scope_leaves_alone_what_is_to_be_kept() -> None:
    @saga("saga")
    async def keeping(ctx: SagaContext, order: Order) -> Result:
        try:
            async with ctx.scope():
                kept = ctx.call(reserve(order=order.order), abandon="keep")
                await asyncio.gather(kept, ctx.call(ship(order=order.order)))
        except ActivityFailed:
            pass
        return Result(refs=[])

    drive = Drive(keeping).start()
    drive.refused(2)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPLETED, [])


@saga("saga")
async def side_by_side(ctx: SagaContext, order: Order) -> Result:
    async def way(first: Callable[..., object], second: Callable[..., object]) -> None:
        async with ctx.scope():
            await ctx.call(first(order=order.order))  # type: ignore[arg-type]
            await ctx.call(second(order=order.order))  # type: ignore[arg-type]

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(way(reserve, ship))
            group.create_task(way(charge, check))
    except* ActivityFailed:
        await ctx.call(book(order=order.order))
    return Result(refs=[])


def test_l9_scopes_in_tasks_beside_each_other_have_steps_of_their_own() -> None:
    drive = Drive(side_by_side).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 1 stock.release"], "the other way goes on meanwhile"
    drive.completed(4)
    assert drive.last.short == []
    drive.undone(1)
    assert drive.last.short == ["do 5 post.book"], "the other scope was left well, and its step stands"


def test_u11_a_scope_that_is_cancelled_while_it_undoes_goes_on_to_the_end_of_it() -> None:
    drive = Drive(side_by_side).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    drive.refused(4)
    assert drive.last.short == ["undo 2 bank.refund"], "each scope has an undo of its own"
    drive.undone(2)
    assert drive.last.short == [], "the group has cancelled the first scope, which is not through"
    drive.undone(1)
    assert drive.last.short == ["do 5 post.book"]


def test_u11_of_a_cancelled_saga_the_scope_is_undone_first_and_then_the_rest() -> None:
    drive = refused_in_scope()
    drive.cancel("not wanted any more")
    assert (drive.status, drive.last.short) == (SagaStatus.RUNNING, [])
    drive.undone(3)
    assert drive.last.short == ["undo 2 stock.release"]
    drive.undone(2)
    assert drive.last.short == ["undo 1 bank.refund"]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert [row.step for row in drive.rows if row.kind is Kind.UNDO] == [3, 2, 1]


def test_u11_a_cancel_undoes_the_scope_in_which_it_meets_the_code() -> None:
    drive = Drive(with_another_way).start()
    drive.completed(1)
    drive.completed(2)
    drive.cancel("not wanted any more")
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.never(3)
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u11_the_rest_of_a_scope_whose_code_does_not_wait_is_undone_with_the_saga() -> None:
    @saga("saga")
    async def leaving(ctx: SagaContext, order: Order) -> Result:
        async with ctx.scope() as scope:
            await ctx.call(reserve(order=order.order))
            await ctx.call(charge(order=order.order))
            undo = asyncio.create_task(scope.undo())
            await asyncio.sleep(0)
            await ctx.call(book(order=order.order))
            undo.cancel()
        raise ValueError("undo it all")

    drive = Drive(leaving).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.last.short == ["undo 2 bank.refund", "do 3 post.book"]
    drive.completed(3)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, [])
    drive.undone(2)
    assert drive.last.short == ["undo 3 post.unbook"]
    drive.undone(3)
    assert drive.last.short == ["undo 1 stock.release"], "it was planned in the scope, and had not begun"
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_u3_a_saga_that_completes_closes_when_its_scopes_are_undone() -> None:
    @saga("saga")
    async def leaving(ctx: SagaContext, order: Order) -> Result:
        async with ctx.scope() as scope:
            await ctx.call(reserve(order=order.order))
            await ctx.call(charge(order=order.order))
            undo = asyncio.create_task(scope.undo())
            await asyncio.sleep(0)
            undo.cancel()
        return Result(refs=["all the same"])

    drive = Drive(leaving).start()
    drive.completed(1)
    drive.completed(2)
    assert (drive.status, drive.state.ending) == (SagaStatus.RUNNING, SagaStatus.COMPLETED)
    drive.undone(2)
    assert (drive.status, drive.last.short) == (SagaStatus.RUNNING, ["undo 1 stock.release"])
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED


def test_u8_of_a_paused_scope_nothing_more_begins_until_it_is_resumed() -> None:
    drive = refused_in_scope()
    drive.operate("pause")
    drive.undone(3)
    assert drive.last.short == []
    drive.operate("resume")
    assert drive.last.short == ["undo 2 stock.release"]
    drive.operate("pause")
    drive.undone(2)
    assert drive.last.short == []
    drive.operate("resume")
    assert drive.last.short == ["do 5 bank.check"], "the code goes on"


def test_u8_an_undo_of_a_scope_that_is_skipped_counts_as_over() -> None:
    drive = refused_in_scope()
    drive.undo_refused(3)
    assert ConcernKind.UNDO in {concern.kind for concern in drive.state.concerns}
    assert drive.last.short == []
    drive.operate("skip", 3)
    assert drive.last.short == ["undo 2 stock.release"]
    drive.operate("skip", 2)
    assert drive.last.short == ["do 5 bank.check"]
    drive.completed(5)
    assert (drive.status, drive.attention) == (SagaStatus.COMPLETED, "")


def test_u6_a_failing_undo_of_a_scope_is_tried_again_and_the_code_waits() -> None:
    drive = refused_in_scope()
    drive.undo_failed(3)
    assert drive.last.short == []
    drive.fire(TimerKind.UNDO_RETRY, 3)
    assert drive.last.short == ["undo 3 post.unbook"]
    assert drive.last.commands[0].head.attempt == 2


def test_u8_a_termination_tells_what_a_scope_has_not_undone() -> None:
    drive = refused_in_scope()
    drive.operate("terminate")
    assert [(one["step"], one["outstanding"]) for one in drive.error["outstanding"]] == [
        (1, "undo"), (2, "undo"), (3, "undo"),
    ]  # fmt: skip


def test_u4_nothing_new_goes_to_a_service_at_which_a_scope_has_something_to_undo() -> None:
    @saga("saga")
    async def beside(ctx: SagaContext, order: Order) -> Result:
        async def way() -> None:
            async with ctx.scope():
                await ctx.call(reserve(order=order.order))
                await ctx.call(charge(order=order.order))
                await ctx.call(ship(order=order.order))

        failing = asyncio.create_task(way())
        await ctx.call(book(order=order.order))
        await ctx.call(count(order=order.order))
        await asyncio.wait([failing])
        return Result(refs=[])

    drive = Drive(beside).start()
    for number in (2, 3):
        drive.completed(number)
    drive.refused(4)
    assert drive.last.short == ["undo 3 bank.refund"]
    drive.completed(1)
    assert drive.last.short == [], "stock has an undo in the plan, which has not begun"
    assert drive.step(5).held
    drive.undone(3)
    drive.undone(2)
    assert drive.last.short == ["do 5 stock.count"]


def test_u8_a_saga_that_is_blocked_in_the_middle_of_a_scope_is_undone_once() -> None:
    drive = refused_in_scope()
    drive.reload(keep_code=False)
    drive.undone(3)
    drive.cancel("its code is gone")
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert [row.step for row in drive.rows if row.kind is Kind.UNDO] == [3, 2, 1]


def test_u11_what_is_worse_than_an_error_undoes_nothing() -> None:
    @saga("saga")
    async def exiting(ctx: SagaContext, order: Order) -> Result:
        async with ctx.scope():
            await ctx.call(reserve(order=order.order))
            raise SystemExit(3)

    drive = Drive(exiting).start()
    drive.completed(1)
    assert "SystemExit" in drive.attention
    assert (drive.status, drive.last.short) == (SagaStatus.RUNNING, [])


def test_u11_a_late_success_of_a_step_of_a_scope_is_undone_once() -> None:
    drive = refused_in_scope()
    drive.undone(3)
    drive.undone(2)
    drive.completed(4)
    assert drive.last.short == [], "nothing undoes it"
    assert drive.step(4).outcome is Outcome.COMPLETED


def test_u11_a_scope_without_steps_writes_nothing() -> None:
    @saga("saga")
    async def empty(ctx: SagaContext, order: Order) -> Result:
        try:
            async with ctx.scope():
                raise KeyError
        except KeyError:
            pass
        return Result(refs=[])

    drive = Drive(empty).start()
    assert (drive.status, drive.kinds) == (SagaStatus.COMPLETED, ["started", "ended"])


# Misuse.


async def _enter_twice(ctx: SagaContext) -> None:
    scope = ctx.scope()
    async with scope:
        pass
    async with scope:
        pass


async def _leave_in_another_task(ctx: SagaContext) -> None:
    scope = ctx.scope()
    await scope.__aenter__()
    await asyncio.create_task(scope.__aexit__(None, None, None))


async def _undo_afterwards(ctx: SagaContext) -> None:
    async with ctx.scope() as scope:
        pass
    await scope.undo()


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (_enter_twice, "was entered before"),
        (_leave_in_another_task, "by another task"),
        (_undo_afterwards, "scope.undo() is for the inside of its block"),
    ],
)
def test_u11_a_scope_that_is_misused_is_an_error_with_the_cure(
    misuse: Callable[[SagaContext], Awaitable[None]], words: str
) -> None:
    @saga("saga")
    async def misusing(ctx: SagaContext, order: Order) -> Result:
        await misuse(ctx)
        return Result(refs=[])

    drive = Drive(misusing).start()
    assert drive.status == SagaStatus.COMPENSATED
    assert words in drive.error["message"]


# One step.


@saga("saga")
async def undoing_one(ctx: SagaContext, order: Order) -> Result:
    call: Call[Done] = ctx.call(reserve(order=order.order))
    await call
    await ctx.call(charge(order=order.order))
    await call.undo()
    await call.undo()
    await ctx.call(check(order=order.order))
    return Result(refs=[])


def test_u12_one_step_is_undone_and_counts_as_undone() -> None:
    drive = Drive(undoing_one).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.last.short == ["do 3 bank.check"], "the second undo has nothing to do"
    drive.refused(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u12_a_step_that_is_open_is_given_up_and_settled_first() -> None:
    @saga("saga")
    async def hasty(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(reserve(order=order.order), abandon="keep")
        await call.undo()
        await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(hasty).start()
    assert drive.last.short == ["do 1 stock.reserve", "settle 1 sagabus.settle"]
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.last.short == ["do 2 bank.check"]
    assert drive.saga.program is not None
    assert drive.saga.program.said == []


def test_u12_a_step_that_failed_has_nothing_to_be_undone() -> None:
    @saga("saga")
    async def after_failure(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(reserve(order=order.order), timeout=60)
        try:
            await call
        except (ActivityFailed, ActivityTimedOut):
            await call.undo()
        return Result(refs=[])

    drive = Drive(after_failure).start()
    drive.refused(1)
    assert (drive.status, drive.kinds[-2:]) == (SagaStatus.COMPLETED, ["step.refused 1", "ended"])
    drive = Drive(after_failure).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED


def test_u12_a_step_that_nothing_undoes_is_an_error() -> None:
    @saga("saga")
    async def wrong(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(count(order=order.order))
        await call
        try:
            await call.undo()
        except DeclarationError as error:
            return Result(refs=[str(error)])
        return Result(refs=[])

    drive = Drive(wrong).start()
    drive.completed(1)
    assert "step 1 of saga O-1 cannot be undone: its activity has no compensation" in drive.result["refs"][0]


def test_u12_a_call_of_another_saga_is_refused() -> None:
    calls: list[Call[Done]] = []

    @saga("saga")
    async def sharing(ctx: SagaContext, order: Order) -> Result:
        if ctx.id == "O-2":
            await calls[0].undo()
        calls.append(ctx.call(reserve(order=order.order)))
        await calls[-1]
        return Result(refs=[])

    Drive(sharing).start()
    other = Drive(sharing, id="O-2").start()
    assert other.error["message"] == "step 1 is of saga O-1 (run r1): each saga undoes its own steps"


def test_u12_undo_of_a_step_waits_for_a_scope_that_undoes_it() -> None:
    @saga("saga")
    async def both(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(reserve(order=order.order))

        async def way(scope: Scope) -> None:
            await call
            await ctx.call(charge(order=order.order))
            await scope.undo()

        async with ctx.scope() as scope:
            call_in_scope = ctx.call(book(order=order.order))
            await way(scope)
            await call_in_scope
        return Result(refs=[])

    drive = Drive(both).start()
    drive.completed(2)
    drive.completed(1)
    drive.completed(3)
    assert drive.last.short == ["undo 3 bank.refund"], "the step before the scope is not of it"
    drive.undone(3)
    assert drive.last.short == ["undo 2 post.unbook"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPLETED
    assert drive.step(1).undoing is Undoing.NONE


def test_u12_two_undos_at_once_undo_once_and_both_wait() -> None:
    @saga("saga")
    async def twice(ctx: SagaContext, order: Order) -> Result:
        calls = [ctx.call(reserve(order=order.order)), ctx.call(charge(order=order.order))]
        await asyncio.gather(*calls)
        await asyncio.gather(calls[0].undo(), calls[0].undo(), calls[1].undo())
        return Result(refs=[])

    drive = Drive(twice).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.last.short == ["undo 1 stock.release", "undo 2 bank.refund"], "each undo has a way of its own"
    drive.undone(2)
    assert drive.status == SagaStatus.RUNNING
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED
