"""H3: durable timers, and the clock of a saga."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import pytest

from sagabus.contracts import ActivityTimedOut, Service
from sagabus.contracts.envelope import moment
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import LATE, STALE
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from tests.core.kit import SECOND, T0, Drive
from tests.core.services import Done, Job, Order, Result, charge, check, paid, reserve, ship
from tests.core.shapes import awaiting, in_a_hurry, sequential, sleepy
from tests.core.wire import an_input

OUTPUT = b'{"ref":"x"}'


@saga("saga")
async def timed(ctx: SagaContext, order: Order) -> Result:
    try:
        done = await ctx.call(reserve(order=order.order), timeout=60)
    except ActivityTimedOut as error:
        await ctx.call(charge(order=f"after {error.attempts}"))
        return Result(refs=[])
    return Result(refs=[done.ref])


def test_a_sleep_is_a_durable_timer() -> None:
    drive = Drive(sleepy).start()
    drive.completed(1)
    assert drive.due == {"sleep 1": 3600}
    drive.reload()
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.kinds[-2:] == ["timer 1", "command 2"]
    assert drive.last.short == ["do 2 bank.charge"]


def test_h3_a_timer_fires_as_its_own_row_and_once() -> None:
    drive = Drive(sleepy).start()
    drive.completed(1)
    drive.fire(TimerKind.SLEEP, 1)
    rows = len(drive.rows)
    assert drive.fire(TimerKind.SLEEP, 1) == STALE
    assert len(drive.rows) == rows


def test_h3_a_timeout_around_a_call_that_was_answered_costs_nothing() -> None:
    @saga("saga")
    async def quick(ctx: SagaContext, order: Order) -> Result:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return Result(refs=[(await ctx.call(reserve(order=order.order), timeout=60)).ref])

    drive = Drive(quick)
    drive.offer(an_input(Kind.STARTED, name="saga", payload=b'{"type":"start","saga":"saga","input":{}}'))
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, OUTPUT))
    effects = drive.saga.drain()
    assert (effects.timers_set, effects.timers_cleared) == ({}, set()), "set and cleared within a turn: never stored"


def test_h3_the_answer_clears_a_stored_timeout() -> None:
    drive = Drive(timed).start()
    assert drive.due == {"resend 1": 30, "timeout 1": 60}
    drive.completed(1)
    assert drive.due == {}
    assert drive.fire(TimerKind.TIMEOUT, 1) == STALE


def test_a_timeout_gives_the_step_up_and_the_saga_goes_on() -> None:
    drive = Drive(timed).start()
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 bank.charge", "settle 1 sagabus.settle"]
    assert drive.last.commands[0].body == b'{"order":"after 2"}'


def test_a_timeout_between_two_attempts_ends_them() -> None:
    drive = Drive(timed).start()
    drive.failed(1, again_after=3600)
    drive.fire(TimerKind.TIMEOUT, 1)
    assert list(drive.due) == ["resend 1", "resend 2"]
    assert drive.fire(TimerKind.RETRY, 1) == STALE


def test_the_timeout_of_the_declaration_holds_unless_the_call_has_one() -> None:
    service = Service("slow")
    declared = service.activity("work", Job, Done, timeout=7, resend_after=3)

    @saga("saga")
    async def two(ctx: SagaContext, order: Order) -> Result:
        await asyncio.gather(ctx.call(declared(order="1")), ctx.call(declared(order="2"), timeout=9, resend_after=4))
        return Result(refs=[])

    assert Drive(two).start().due == {"resend 1": 3, "resend 2": 4, "timeout 1": 7, "timeout 2": 9}


# Races within a turn.


def test_reply_and_timeout_in_one_turn_the_reply_first() -> None:
    drive = Drive(timed).start()
    drive.now += 60 * SECOND
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, OUTPUT))
    assert drive.offer(an_input(Kind.TIMER, 1, name=TimerKind.TIMEOUT)) == STALE
    drive.commit()
    assert drive.result == {"refs": ["x"]}


def test_reply_and_timeout_in_one_turn_the_timeout_first() -> None:
    drive = Drive(timed).start()
    drive.now += 60 * SECOND
    drive.offer(an_input(Kind.TIMER, 1, name=TimerKind.TIMEOUT))
    assert drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, OUTPUT)) == LATE
    drive.commit()
    assert drive.last.short == ["do 2 bank.charge", "settle 1 sagabus.settle"]
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"]


def test_asyncio_timeout_and_reply_in_one_turn() -> None:
    drive = Drive(in_a_hurry).start()
    drive.completed(1)
    drive.now += 60 * SECOND
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 2, OUTPUT))
    assert drive.offer(an_input(Kind.TIMER, 1, name=TimerKind.SLEEP)) == STALE
    drive.commit()
    drive.completed(3)
    assert drive.result == {"refs": ["ref-1", "x", "ref-3"]}

    drive = Drive(in_a_hurry).start()
    drive.completed(1)
    drive.now += 60 * SECOND
    drive.offer(an_input(Kind.TIMER, 1, name=TimerKind.SLEEP))
    assert drive.offer(drive.reply(Kind.STEP_COMPLETED, 2, OUTPUT)) == LATE
    drive.commit()
    assert drive.step(2).outcome is Outcome.UNKNOWN


def test_retry_and_cancel_in_one_turn_leave_no_timer_behind() -> None:
    """The retry's timer is stored, fires, is set anew by the next failure and cleared by the cancel: all in a turn."""
    drive = Drive(sequential).start()
    drive.failed(1)
    drive.now += 60 * SECOND
    assert drive.offer(an_input(Kind.TIMER, 1, name=TimerKind.RETRY)) is None
    assert drive.offer(drive.reply(Kind.STEP_FAILED, 1, b'{"code":"again"}', attempt=2)) is None
    assert drive.offer(an_input(Kind.CANCEL, ref="cancel")) is None
    drive.commit()
    assert list(drive.timers) == [TimerKey(TimerKind.RESEND, 1)]


def test_effects_are_drained_once() -> None:
    drive = Drive(sequential).start()
    effects = drive.saga.drain()
    assert (effects.rows, effects.messages, effects.timers_set, effects.timers_cleared) == ([], [], {}, set())
    assert (effects.saga_changed, effects.sequence) == (False, 1)


@pytest.mark.parametrize("wait", [math.inf, 1e300, 10**12])
def test_what_never_comes_is_far_away_and_fits_a_database(wait: float) -> None:
    @saga("saga")
    async def patient(ctx: SagaContext, order: Order) -> Result:
        async with asyncio.timeout(wait):
            return Result(refs=[(await ctx.call(reserve(order=order.order), timeout=wait)).ref])

    drive = Drive(patient).start()
    assert all(due < 2**62 for due in drive.timers.values())
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED


def test_timers_that_the_code_leaves_behind_are_over_with_it() -> None:
    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        asyncio.get_running_loop().call_later(10, lambda: ctx.call(charge(order="a ghost")))
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            return Result(refs=[])
        raise ValueError

    drive = Drive(careless).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.status == SagaStatus.RUNNING
    assert list(drive.due) == ["resend 1"]
    assert drive.fire(TimerKind.SLEEP, 1) == STALE
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED

    drive = Drive(careless).start()
    drive.completed(1)
    assert list(drive.due) == ["resend 1"]


# The saga's own timeout.


def test_the_sagas_own_timeout_undoes_it() -> None:
    drive = Drive(awaiting).start()
    assert drive.due["saga 0"] == 86_400
    drive.completed(1)
    drive.fire(TimerKind.SAGA)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.error["code"] == "sagabus.saga_timeout"


def test_the_sagas_own_timeout_is_over_when_its_code_is() -> None:
    drive = Drive(awaiting).start()
    drive.completed(1)
    drive.event(paid, {"amount": 1})
    drive.refused(2)
    assert drive.status == SagaStatus.COMPENSATING
    assert drive.fire(TimerKind.SAGA) == STALE
    drive.undone(1)
    assert drive.error["code"] == "no"


@saga("saga", timeout=60)
async def bounded(ctx: SagaContext, order: Order) -> Result:
    try:
        await ctx.call(reserve(order=order.order))
    finally:
        await ctx.call(check(order=order.order))
    return Result(refs=[])


def test_the_sagas_own_timeout_does_not_overtake_a_cancel() -> None:
    drive = Drive(bounded).start()
    drive.cancel()
    assert drive.fire(TimerKind.SAGA) == STALE
    drive.never(1)
    drive.completed(2)
    assert drive.status == SagaStatus.CANCELLED


def test_a_cancel_does_not_overtake_the_sagas_own_timeout() -> None:
    drive = Drive(bounded).start()
    drive.fire(TimerKind.SAGA)
    assert drive.cancel() == "cancel.rejected"
    drive.never(1)
    drive.completed(2)
    assert drive.status == SagaStatus.COMPENSATED


# The clock.


def test_h3_now_is_the_turns_and_the_same_after_a_recovery() -> None:
    seen: list[datetime] = []

    @saga("saga")
    async def watching(ctx: SagaContext, order: Order) -> Result:
        seen.append(ctx.now())
        await ctx.call(reserve(order=order.order))
        seen.append(ctx.now())
        await ctx.call(ship(order=order.order))
        return Result(refs=[])

    drive = Drive(watching).start()
    assert set(seen) == {moment(T0 + 1_000)}
    drive.now += 5 * SECOND
    drive.completed(1)
    drive.reload()
    assert set(seen) == {moment(T0 + 1_000), moment(drive.now)}
    assert seen[0].tzinfo is UTC


def test_h3_the_clock_of_a_saga_never_runs_backwards() -> None:
    drive = Drive(sequential).start()
    drive.now -= 3600 * SECOND
    drive.completed(1)
    assert [row.at for row in drive.rows] == [T0 + 1_000] * len(drive.rows)
    drive.now += 7200 * SECOND
    drive.completed(2)
    assert drive.rows[-1].at > drive.rows[0].at


def test_h3_a_late_timer_says_the_time_at_which_it_fired() -> None:
    times: list[float] = []

    @saga("saga")
    async def dozing(ctx: SagaContext, order: Order) -> Result:
        await asyncio.sleep(1)
        times.append(asyncio.get_running_loop().time())
        return Result(refs=[])

    drive = Drive(dozing).start()
    drive.now += 10 * SECOND
    drive.fire(TimerKind.SLEEP, 1)
    assert set(times) == {10.001}


def test_randomness_is_the_sagas_own_and_the_same_after_a_recovery() -> None:
    drawn: set[str] = set()

    @saga("saga")
    async def drawing(ctx: SagaContext, order: Order) -> Result:
        drawn.add(f"{ctx.random().random()} {ctx.uuid()}")
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    Drive(drawing).start().reload()
    assert len(drawn) == 1
    Drive(drawing, id="O-2").start()
    assert len(drawn) == 2
