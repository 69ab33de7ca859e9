"""Steps that a saga gives up: settled and undone at once, whatever it does next; and what waits for that."""

from __future__ import annotations

import asyncio

from sagabus.contracts import ActivityError, ActivityTimedOut
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import LATE
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import (
    Order,
    Result,
    charge,
    count,
    reserve,
    ship,
)
from tests.core.shapes import in_a_hurry
from tests.core.situations import given_up, tried

# U3, U4: what waits for an undo.


def test_u3_a_saga_that_could_be_completed_waits_for_the_undo_of_what_it_gave_up() -> None:
    @saga("saga")
    async def quitting(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut as error:
            return Result(refs=[str(error.attempts)])
        return Result(refs=[])

    drive = Drive(quitting).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert (drive.status, drive.result) == (SagaStatus.RUNNING, {"refs": ["1"]})
    drive.settled(1)
    assert drive.status == SagaStatus.RUNNING
    drive.undo_failed(1)
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED
    assert drive.last.told == ["compensation.completed", "saga.completed"]


def test_u4_nothing_new_goes_to_a_service_before_the_undo_there_is_done() -> None:
    drive = given_up()
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.kinds[-2:] == ["command 2", "settle 1"], "called, and recorded, but not sent"
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undo_failed(1)
    assert drive.last.short == []
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undone(1)
    assert drive.last.short == ["do 2 stock.reserve"]
    assert drive.last.commands[0].head.issued == drive.now
    assert drive.due == {"resend 2": 30}, "nothing of the undo is pending any more"
    drive.completed(2)
    assert drive.result == {"refs": ["late", "ref-2"]}


def test_u4_a_timeout_around_several_steps_holds_in_the_same_pump() -> None:
    drive = Drive(in_a_hurry).start()
    drive.completed(1)
    assert drive.last.short == ["do 2 bank.charge"]
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.last.short == ["settle 2 sagabus.settle"], "and not the next charge"
    drive.never(2)
    assert drive.last.short == ["do 3 bank.charge"]
    drive.completed(3)
    assert drive.result == {"refs": ["ref-1", "late", "ref-3"]}
    assert drive.step(1).undoing is Undoing.NONE, "what had completed within the timeout stays"


def test_u4_used_up_retries_hold_as_well() -> None:
    drive = Drive(tried(1, then_raise=False)).start()
    drive.failed(1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == ["do 2 stock.count"]


def test_u4_other_services_are_not_held() -> None:
    @saga("saga")
    async def elsewhere(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await ctx.call(charge(order=order.order))
        return Result(refs=[])

    drive = Drive(elsewhere).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 bank.charge", "settle 1 sagabus.settle"]


def test_u4_a_held_step_has_no_timeout_before_it_is_sent() -> None:
    @saga("saga")
    async def twice(ctx: SagaContext, order: Order) -> Result:
        for _ in range(2):
            try:
                await ctx.call(reserve(order=order.order), timeout=5)
            except ActivityTimedOut:
                continue
        return Result(refs=[])

    drive = Drive(twice).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert list(drive.due) == ["resend 1"]
    drive.never(1)
    assert drive.due == {"resend 2": 30, "timeout 2": 5}


def test_u4_cancelling_a_saga_whose_step_is_held() -> None:
    drive = given_up()
    drive.cancel()
    assert drive.step(2).outcome is Outcome.NEVER
    assert drive.status == SagaStatus.COMPENSATING
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert "do 2 stock.reserve" not in drive.all.short


def test_u4_giving_up_a_held_step() -> None:
    @saga("saga")
    async def hasty(ctx: SagaContext, order: Order) -> Result:
        for _ in range(2):
            try:
                async with asyncio.timeout(10):
                    await ctx.call(reserve(order=order.order))
            except TimeoutError:
                continue
        await ctx.call(charge(order=order.order))
        return Result(refs=[])

    drive = Drive(hasty).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.fire(TimerKind.SLEEP, 2)
    assert (drive.step(2).outcome, drive.last.short) == (Outcome.NEVER, ["do 3 bank.charge"])
    drive.completed(3)
    assert drive.status == SagaStatus.RUNNING
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED
    assert "2" not in {sent.head.id.rpartition(":")[2] for sent in drive.all.commands}


def test_u4_several_held_steps_go_together_in_the_order_of_calling() -> None:
    @saga("saga")
    async def many(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await asyncio.gather(*(ctx.call(count(order=order.order)) for _ in range(3)))
        return Result(refs=[])

    drive = Drive(many).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.never(1)
    assert drive.last.short == [f"do {step} stock.count" for step in (2, 3, 4)]


def test_u4_of_two_undos_at_a_service_the_last_one_releases_it() -> None:
    @saga("saga")
    async def twofold(ctx: SagaContext, order: Order) -> Result:
        calls = [asyncio.create_task(ctx.call(reserve(order=order.order), timeout=5)) for _ in range(2)]
        await asyncio.wait(calls)
        await ctx.call(count(order=order.order))
        return Result(refs=[type(each.exception()).__name__ for each in calls])

    drive = Drive(twofold).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.fire(TimerKind.TIMEOUT, 2)
    assert drive.last.short == ["settle 2 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == []
    drive.never(2)
    assert drive.last.short == ["do 3 stock.count"]


# Giving up.


def test_a_step_given_up_is_undone_whatever_the_saga_does_next() -> None:
    drive = given_up()
    drive.settled(1)
    drive.undone(1)
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED
    assert (drive.step(1).undoing, drive.step(2).undoing) == (Undoing.DONE, Undoing.NONE)


def test_an_undo_that_succeeds_between_two_attempts_is_not_tried_again() -> None:
    drive = given_up()
    drive.settled(1)
    drive.undo_failed(1)
    drive.undone(1)
    assert drive.due == {"resend 2": 30}


def test_abandon_keep_leaves_a_step_that_was_given_up_as_it_is() -> None:
    @saga("saga")
    async def generous(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5, abandon="keep")
        except ActivityTimedOut:
            await ctx.call(count(order=order.order))
        return Result(refs=[])

    drive = Drive(generous).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 stock.count"], "nothing is settled, so nothing is held"
    assert drive.completed(1) == LATE
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED


def test_a_saga_that_ends_while_undos_of_given_up_steps_run_undoes_the_rest_after_them() -> None:
    @saga("saga")
    async def unlucky(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(charge(order=order.order))
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await ctx.call(ship(order=order.order))
        return Result(refs=[])

    drive = Drive(unlucky).start()
    drive.completed(1)
    drive.fire(TimerKind.TIMEOUT, 2)
    assert drive.last.short == ["do 3 post.ship", "settle 2 sagabus.settle"]
    drive.refused(3)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, [])
    drive.settled(2)
    drive.undone(2)
    assert drive.last.short == ["undo 1 bank.refund"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_a_settled_step_without_a_compensation_is_done() -> None:
    @saga("saga")
    async def counting(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(count(order=order.order), timeout=5)
        except ActivityError:
            await ctx.call(count(order=order.order))
        return Result(refs=[])

    drive = Drive(counting).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.settled(1)
    assert (drive.step(1).undoing, drive.last.short) == (Undoing.DONE, ["do 2 stock.count"])
