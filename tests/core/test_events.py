"""H5: events for a saga: kept until somebody waits, in order, once each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from sagabus.contracts import event
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import CLOSED, DUPLICATE
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.events import AwaitedEvent, Events, KeptEvent
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.reading import read
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.unconsumed import MAX_EVENT_BYTES, MAX_EVENTS
from tests.core.kit import T0, Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Paid, Result, check, paid, reserve
from tests.core.shapes import awaiting, sequential


@saga("saga")
async def two_payments(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    first = await ctx.event(paid)
    second = await ctx.event(paid)
    return Result(refs=[str(first.amount), str(second.amount)])


@saga("saga")
async def three_waits(ctx: SagaContext, order: Order) -> Result:
    waits = [asyncio.create_task(ctx.event(paid)) for _ in range(3)]
    await ctx.call(check(order=order.order))
    waits[0].cancel()
    done = [await wait for wait in waits[1:]]
    return Result(refs=[str(each.amount) for each in done])


def test_h5_an_event_before_the_wait_is_kept() -> None:
    drive = Drive(two_payments).start()
    drive.event(paid, Paid(amount=1))
    drive.completed(1)
    assert drive.status == SagaStatus.RUNNING
    drive.event(paid, Paid(amount=2))
    assert drive.result == {"refs": ["1", "2"]}


def test_h5_the_oldest_unconsumed_match_comes_first() -> None:
    drive = Drive(two_payments).start()
    other = event("something.else", Paid)
    drive.event(other, Paid(amount=9))
    drive.event(paid, Paid(amount=1))
    drive.event(paid, Paid(amount=2))
    drive.event(paid, Paid(amount=3))
    drive.completed(1)
    assert drive.result == {"refs": ["1", "2"]}


def test_h5_the_first_registered_waiter_comes_first() -> None:
    drive = Drive(three_waits).start()
    drive.completed(1)
    drive.event(paid, Paid(amount=2))
    drive.event(paid, Paid(amount=3))
    assert drive.result == {"refs": ["2", "3"]}


def _program() -> Program:
    body = b'{"type":"start","saga":"saga","input":{}}'
    journal = Journal()
    return Program(three_waits, body, id="O-1", run="r1", started_at=T0, read=partial(read, journal), journal=journal)


def test_h5_a_wait_cancelled_in_the_same_turn_gives_its_event_to_the_next_waiter() -> None:
    """In a turn each input is pumped dry; this holds even if the event and the cancellation come before one pump."""
    program = _program()
    program.pump(T0)
    program.deliver("payment.confirmed", b'{"data":{"amount":1}}')
    program.loop.cancel(program.loop.tasks()[1])
    program.pump(T0)
    assert program.unconsumed() == (0, 0)
    assert [len(waiters) for waiters in program.mailbox._waiters.values()] == [1]
    program.complete(1, None)
    program.deliver("payment.confirmed", b'{"data":{"amount":2}}')
    program.pump(T0)
    assert program.main.result() == Result(refs=["1", "2"])


def test_h5_without_another_waiter_it_is_the_oldest_again() -> None:
    program = _program()
    program.pump(T0)
    for _ in range(2):
        program.loop.cancel(program.loop.tasks()[-1])
        program.pump(T0)
    program.deliver("payment.confirmed", b'{"data":{"amount":1}}')
    program.deliver("payment.confirmed", b'{"data":{"amount":2}}')
    program.loop.cancel(program.loop.tasks()[1])
    program.pump(T0)
    untaken = program.mailbox._untaken["payment.confirmed"]
    assert [event.body for event in untaken] == [
        b'{"data":{"amount":1}}',
        b'{"data":{"amount":2}}',
    ]
    program.evict()


def test_h5_a_wait_that_ran_out_leaves_the_event_for_the_next() -> None:
    @saga("saga")
    async def again(ctx: SagaContext, order: Order) -> Result:
        for attempt in range(3):
            try:
                async with asyncio.timeout(10):
                    return Result(refs=[str(attempt), str((await ctx.event(paid)).amount)])
            except TimeoutError:
                continue
        return Result(refs=[])

    drive = Drive(again).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.event(paid, Paid(amount=5))
    assert drive.result == {"refs": ["1", "5"]}


def test_h5_an_event_counts_once() -> None:
    drive = Drive(two_payments).start()
    drive.completed(1)
    drive.event(paid, Paid(amount=1), ref="same")
    assert drive.event(paid, Paid(amount=1), ref="same") == DUPLICATE
    drive.reload()
    assert drive.event(paid, Paid(amount=1), ref="same") == DUPLICATE
    drive.event(paid, Paid(amount=2), ref="other")
    assert drive.result == {"refs": ["1", "2"]}
    assert drive.event(paid, Paid(amount=2), ref="other") == DUPLICATE


def test_h5_an_event_for_a_closed_saga_is_refused() -> None:
    drive = Drive(two_payments).start()
    drive.refused(1)
    assert drive.event(paid, Paid(amount=1)) == CLOSED


def in_row(drive: Drive) -> Events | None:
    return drive.stored.events


def test_h5_the_row_says_which_events_are_awaited_and_kept_and_up_to_which_row_of_history_that_holds() -> None:
    drive = Drive(two_payments).start()
    assert not in_row(drive), "it waits for a step alone"
    drive.event(event("order.strayed", Paid), Paid(amount=9))
    kept = (KeptEvent("order.strayed", 1),)
    assert in_row(drive) == Events(len(drive.rows), (), kept)
    drive.completed(1)
    began = drive.now
    assert in_row(drive) == Events(len(drive.rows), (AwaitedEvent("payment.confirmed", began),), kept)
    drive.operate("retry", 1)
    assert (drive.kinds[-1], in_row(drive)) == (
        "notice 1", Events(len(drive.rows), (AwaitedEvent("payment.confirmed", began),), kept)
    )  # fmt: skip
    drive.event(paid, Paid(amount=1))
    assert in_row(drive) == Events(len(drive.rows), (AwaitedEvent("payment.confirmed", drive.now),), kept)
    drive.event(paid, Paid(amount=2))
    assert (drive.status, in_row(drive)) == (SagaStatus.COMPLETED, None)


def test_h5_a_saga_that_is_undone_waits_for_no_event() -> None:
    drive = Drive(two_payments).start()
    drive.completed(1)
    drive.cancel()
    assert (drive.status, in_row(drive)) == (SagaStatus.COMPENSATING, None)
    drive.event(paid, Paid(amount=1))
    assert in_row(drive) is None


def test_an_event_for_a_saga_that_is_undone_is_taken_and_has_no_effect() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.event(paid, Paid(amount=1), ref="x") is None
    assert drive.event(paid, Paid(amount=1), ref="x") == DUPLICATE
    assert (drive.attention, drive.state.blocked) == ("", 0)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_an_event_that_the_wait_cannot_read_is_set_aside_and_the_wait_goes_on() -> None:
    drive = Drive(awaiting).start()
    drive.event(paid, {"amount": "much"})
    assert drive.attention.startswith("an event was set aside: event payment.confirmed: data.amount: ")
    drive.event(paid, {"amount": "more"})
    drive.event(paid, Paid(amount=3))
    assert drive.attention == "", "the wait has got what it waits for"
    drive.completed(1)
    drive.completed(2)
    assert drive.result == {"refs": ["ref-1", "3", "ref-2"]}


def test_h5_an_unreadable_event_is_on_attention_until_each_wait_that_met_one_has_got_another() -> None:
    strict = event("order.changed", Order)

    @saga("saga")
    async def both(ctx: SagaContext, order: Order) -> Result:
        changed, amount = await asyncio.gather(ctx.event(strict), ctx.event(paid))
        await ctx.event(paid)
        return Result(refs=[changed.order, str(amount.amount)])

    drive = Drive(both).start()
    drive.event(strict, {"order": []})
    drive.event(paid, {"amount": "much"})
    drive.event(paid, Paid(amount=4))
    assert drive.attention.startswith("an event was set aside: event payment.confirmed: ")
    drive.event(strict, {"order": "mine"})
    assert drive.attention == ""
    drive.event(paid, Paid(amount=5))
    assert drive.result == {"refs": ["mine", "4"]}


def test_h5_an_unreadable_event_whose_wait_was_given_up_waits_for_an_operator() -> None:
    @saga("saga")
    async def impatient(ctx: SagaContext, order: Order) -> Result:
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await ctx.event(paid)
        for _ in range(2):
            await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(impatient).start()
    drive.event(paid, {"amount": "much"})
    drive.fire(TimerKind.SLEEP, 1)
    drive.event(paid, Paid(amount=4))
    assert drive.attention.startswith("an event was set aside: ")
    drive.event(paid, Paid(amount=5))
    assert (drive.status, drive.attention) == ("completed", ""), "none is taken any more"


def test_a_waiter_waits_for_a_name_and_each_reads_with_its_own_model() -> None:
    strict = event("payment.confirmed", Order)

    @saga("saga")
    async def picky(ctx: SagaContext, order: Order) -> Result:
        return Result(refs=[(await ctx.event(strict)).order, str((await ctx.event(paid)).amount)])

    drive = Drive(picky).start()
    drive.event(strict, {"order": "mine", "more": 1})
    drive.event(paid, Paid(amount=4))
    assert drive.result == {"refs": ["mine", "4"]}


def test_h5_too_many_unconsumed_events_are_attention_and_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sagabus.coordinator.core.saga.unconsumed.MAX_EVENTS", 3)
        drive = Drive(two_payments).start()
        for amount in range(5):
            drive.event(paid, Paid(amount=amount))
            assert bool(drive.attention) == (amount >= 3)
        assert drive.all.told.count("saga.attention") == 1
        drive.completed(1)
        assert drive.result == {"refs": ["0", "1"]}
        assert drive.attention == "", "nobody will ever take the others"
        forget_all()


def test_h5_when_half_of_the_events_are_taken_nobody_has_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    @saga("saga")
    async def slow(ctx: SagaContext, order: Order) -> Result:
        while True:
            await asyncio.sleep(60)
            await ctx.event(paid)

    with monkeypatch.context() as patch:
        patch.setattr("sagabus.coordinator.core.saga.unconsumed.MAX_EVENTS", 4)
        drive = Drive(slow).start()
        for amount in range(5):
            drive.event(paid, Paid(amount=amount))
        for _ in range(3):  # which leaves two
            assert drive.attention.startswith("more than 4 events")
            drive.fire_next()
        assert drive.attention == ""
        assert drive.last.told == ["saga.attention_cleared"]
        forget_all()


def test_h5_too_many_bytes_of_events_are_attention() -> None:
    drive = Drive(two_payments).start()
    drive.event(paid, {"amount": 1, "more": "x" * (MAX_EVENT_BYTES - 200)})
    assert drive.attention == ""
    drive.event(paid, {"amount": 1, "more": "x" * 200})
    assert drive.attention == (
        f"more than {MAX_EVENTS} events, or {MAX_EVENT_BYTES} bytes of them, have come for which its code does not wait"
    )
