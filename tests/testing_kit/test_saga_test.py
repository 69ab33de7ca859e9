"""`SagaTest`: a saga in memory, with answers given beforehand and a virtual clock."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.contracts import event
from sagabus.coordinator import SagaContext, saga
from sagabus.participants import Refused, TryAgain
from sagabus.shop.contracts import (
    Address,
    CancelReservation,
    Order,
    OrderItem,
    OrderResult,
    Payment,
    Reservation,
    ReserveInventory,
    Shipment,
    cancel_reservation,
    process_payment,
    refund_payment,
    reserve_inventory,
    ship_order,
)
from sagabus.shop.order_processing import order_processing
from sagabus.testing import NoAnswer, NotEnded, ReplayDiffers, SagaFailed, SagaTest
from tests.core.services import Done, Job, Paid, Told, book, charge, check, paid, refund, release, reserve, told

ADDRESS = Address(street="Main 1", city="Bern", postal_code="3000", country="CH")
ORDER = Order(
    order_id="ORD-1", customer_email="a@b.c", shipping_address=ADDRESS,
    items=[OrderItem.model_validate({"product_id": "p", "quantity": 2, "unit_price": "5.00"})],
)  # fmt: skip
RESERVATION = Reservation.model_validate({"reservation_id": "R-1", "total_amount": "10.00"})
PAYMENT = Payment.model_validate({"transaction_id": "T-1", "amount": "10.00", "status": "charged"})
SHIPMENT = Shipment(tracking_number="S-1", status="sent")


class Nothing(BaseModel):
    pass


def an_order() -> SagaTest[Order, OrderResult]:
    test = SagaTest(order_processing, id="ORD-1")
    return test.answers(reserve_inventory, RESERVATION).answers(process_payment, PAYMENT).answers(ship_order, SHIPMENT)


def test_an_order_completes_with_its_result() -> None:
    test = an_order().start(ORDER)
    assert test.status == "completed"
    assert test.result().confirmation_number == "S-1"
    assert [step.activity for step in test.steps] == [
        "inventory.reserve_inventory", "payment.process_payment", "shipping.ship_order",
    ]  # fmt: skip
    step = test.steps[0]
    assert (step.output, step.outcome, step.undo, step.attempts) == (RESERVATION, "completed", "none", 1)
    assert test.called(reserve_inventory) == [ReserveInventory(order_id="ORD-1", items=ORDER.items)]
    assert test.done[0] == reserve_inventory(order_id="ORD-1", items=ORDER.items)
    assert (test.undone, test.attention, test.timers) == ([], "", {})


def test_a_refusal_undoes_what_was_done_latest_first() -> None:
    test = an_order().refuses(ship_order, "address_not_served", "too far").start(ORDER)
    with pytest.raises(SagaFailed, match="address_not_served: too far") as raised:
        test.result()
    assert (raised.value.status, raised.value.saga_id) == ("compensated", "ORD-1")
    assert test.undone == [
        refund_payment.of(process_undo()), cancel_reservation(reservation_id="R-1"),
    ]  # fmt: skip
    assert test.undone != [cancel_reservation(reservation_id="R-2")]


def process_undo() -> Any:
    assert process_payment.fill is not None
    command = process_payment(order_id="ORD-1", amount=PAYMENT.amount, customer_email="a@b.c")
    return process_payment.fill(command.input, PAYMENT)


def test_failed_attempts_are_made_again_in_virtual_time() -> None:
    test = an_order().fails(process_payment, times=2).start(ORDER)
    assert (test.status, [*test.timers]) == ("running", ["retry 2"])
    began = time.monotonic()
    assert test.result().status == "completed"
    assert time.monotonic() - began < 60, "virtual"
    assert test.steps[1].attempts == 3
    failing = an_order().fails(process_payment).start(ORDER)
    with pytest.raises(SagaFailed, match="retries_exhausted"):
        failing.result()


def test_handlers_of_both_kinds_answer_with_what_they_return_or_raise() -> None:
    seen: list[str] = []

    async def reserved(command: ReserveInventory) -> Reservation:
        await asyncio.sleep(0)
        seen.append(command.order_id)
        return RESERVATION

    def cancelled(command: CancelReservation) -> None:
        seen.append(command.reservation_id)
        if len(seen) < 3:
            raise RuntimeError("the stock is closed")

    def charged(_: Any) -> Payment:
        if len(seen) < 2:
            seen.append("again")
            raise TryAgain("later", after=60)
        raise Refused("card_declined", "no money")

    test = an_order().answers(reserve_inventory, reserved).answers(process_payment, charged)
    test.answers(cancel_reservation, cancelled).start(ORDER)
    assert [*test.timers] == ["retry 2"]
    with pytest.raises(SagaFailed, match="card_declined: no money"):
        test.result()
    assert seen == ["ORD-1", "again", "R-1"]


async def test_an_async_handler_runs_also_where_the_test_has_a_loop() -> None:
    async def reserved(_: ReserveInventory) -> Reservation:
        await asyncio.sleep(0)
        return RESERVATION

    assert an_order().answers(reserve_inventory, reserved).start(ORDER).status == "completed"


def test_several_outputs_come_one_after_the_other() -> None:
    @saga("twice")
    async def twice(ctx: SagaContext, _: Nothing) -> Done:
        first = await ctx.call(reserve(order="1"))
        second = await ctx.call(reserve(order="2"))
        third = await ctx.call(reserve(order="3"))
        return Done(ref=first.ref + second.ref + third.ref)

    assert SagaTest(twice).answers(reserve, Done(ref="a"), Done(ref="b")).start(Nothing()).result() == Done(ref="abb")


def test_what_has_one_answer_only_needs_none() -> None:
    @saga("plain")
    async def plain(ctx: SagaContext, _: Nothing) -> None:
        await ctx.call(book(order="1"))
        await ctx.call(check(order="1"))

    test = SagaTest(plain).start(Nothing())
    test.result()
    assert test.status == "completed"
    asks = SagaTest(order_processing)
    with pytest.raises(NoAnswer, match=r"inventory\.reserve_inventory\(order_id='ORD-1'.*test\.answers\(reserve_inv"):
        asks.start(ORDER)


@saga("waiting")
async def waiting(ctx: SagaContext, _: Nothing) -> Paid:
    await ctx.call(reserve(order="1"))
    await asyncio.sleep(30 * 24 * 3600)
    ctx.publish(told(order="1", note="slept"))
    async with asyncio.timeout(3600):
        return await ctx.event(paid)


def a_waiting() -> SagaTest[Nothing, Paid]:
    return SagaTest(waiting).answers(reserve, Done(ref="r")).start(Nothing())


def test_thirty_days_take_no_time_and_events_come_when_the_test_says() -> None:
    test = a_waiting()
    began = test.now
    assert test.timers == {"sleep 1": timedelta(days=30)}
    test.advance(days=29)
    assert (test.published, test.timers) == ([], {"sleep 1": timedelta(days=1)})
    test.advance(days=1)
    assert test.published == [told(order="1", note="slept")]
    assert test.event(paid(amount=7)).result() == Paid(amount=7)
    assert test.now - began == timedelta(days=30)


def test_what_does_not_come_is_said() -> None:
    with pytest.raises(SagaFailed, match="TimeoutError"):
        a_waiting().result()

    @saga("patient")
    async def patient(ctx: SagaContext, _: Nothing) -> Paid:
        return await ctx.event(paid)

    with pytest.raises(NotEnded, match=r"waits for event payment\.confirmed"):
        SagaTest(patient).start(Nothing()).result()
    silent = an_order().never_answers(process_payment).start(ORDER)
    with pytest.raises(NotEnded, match=r"step 2 \(payment\.process_payment\) has no answer"):
        silent.result()


def test_a_cancel_undoes_and_a_second_one_says_why_not() -> None:
    test = a_waiting()
    assert test.cancel("enough") == ""
    assert (test.status, [asked.activity.name for asked in test.undone]) == ("cancelled", ["stock.release"])
    assert test.cancel() == "cancel.rejected"
    with pytest.raises(SagaFailed, match="enough"):
        test.result()


def test_an_operator_pauses_resumes_and_terminates() -> None:
    test = a_waiting()
    assert (test.operate("pause"), test.operate("retry", 1)) == ("", "request.no_use")
    assert test.operate("resume") == ""
    assert test.operate("terminate") == ""
    assert (test.status, test.undone) == ("terminated", [])


@saga("hurried")
async def hurried(ctx: SagaContext, _: Nothing) -> None:
    await ctx.call(reserve(order="1"))
    await ctx.call(charge(order="1"), timeout=100)


@pytest.mark.parametrize("done", [False, True])
def test_a_step_that_is_given_up_is_settled_and_undone_if_it_happened(done: bool) -> None:
    test = SagaTest(hurried).answers(reserve, Done(ref="r")).answers(charge, Done(ref="c"))
    test.never_answers(charge, done=done).start(Nothing())
    with pytest.raises(SagaFailed, match="charge"):
        test.result()
    assert [asked.activity for asked in test.undone] == ([refund, release] if done else [release])


def test_a_lost_reply_and_a_lost_command_are_made_good_by_a_copy() -> None:
    for done in (False, True):
        test = SagaTest(hurried).answers(reserve, Done(ref="r")).answers(charge, Done(ref="c"))
        test.never_answers(charge, done=done, times=1).start(Nothing())
        assert test.status == "running"
        assert test.advance(seconds=30).status == "completed"
        assert len(test.done) == 2


def test_replies_that_are_late_or_come_twice() -> None:
    test = SagaTest(hurried).answers(reserve, Done(ref="r")).answers(charge, Done(ref="c"))
    test.delays(charge, 40).duplicates(reserve, copies=3).start(Nothing())
    assert test.advance(seconds=39).status == "running"
    assert test.advance(seconds=1).status == "completed"
    late = SagaTest(hurried).answers(reserve, Done(ref="r")).answers(charge, Done(ref="c"))
    late.delays(charge, timedelta(seconds=101)).start(Nothing())
    with pytest.raises(SagaFailed):
        late.result()
    assert [asked.activity for asked in late.undone] == [refund, release]


def test_a_saga_that_is_not_the_same_in_a_replay_fails_its_test() -> None:
    calls: list[int] = []

    @saga("chance")
    async def chance(ctx: SagaContext, _: Nothing) -> None:
        calls.append(1)
        await ctx.call(reserve(order="1") if len(calls) == 1 else charge(order="1"))

    test = SagaTest(chance).answers(reserve, Done(ref="r")).answers(charge, Done(ref="c"))
    with pytest.raises(ReplayDiffers, match=r"stock\.reserve.*bank\.charge"):
        test.start(Nothing())


def test_mistakes_of_a_test_are_said_at_once() -> None:
    test = an_order()
    with pytest.raises(TypeError, match=r"answers Reservation; the test gave Payment"):
        test.answers(reserve_inventory, PAYMENT)
    with pytest.raises(ValueError, match="refuses with out_of_stock; the test gave 'no'"):
        test.refuses(reserve_inventory, "no")
    with pytest.raises(ValueError, match="times=0"):
        test.fails(reserve_inventory, times=0)
    with pytest.raises(ValueError, match="forward"):
        test.advance(days=-1)
    with pytest.raises(RuntimeError, match="not started"):
        test.result()
    with pytest.raises(RuntimeError, match="started already"):
        test.start(ORDER).start(ORDER)
    with pytest.raises(TypeError, match="not a SagaType"):
        SagaTest(waiting.contract)  # type: ignore[arg-type]
    late: Any = an_order().answers(ship_order, lambda _: PAYMENT)
    with pytest.raises(TypeError, match="answers Shipment; the test gave Payment"):
        late.start(ORDER)


def test_leaving_the_block_ends_the_code_and_nothing_of_it_takes_effect() -> None:
    seen: list[str] = []

    @saga("tidy")
    async def tidy(ctx: SagaContext, _: Nothing) -> Paid:
        try:
            return await ctx.event(paid)
        finally:
            seen.append("finally")
            ctx.publish(told(order="1"))

    with SagaTest(tidy) as test:
        test.start(Nothing())
    assert seen
    assert (test.published, test.status) == ([], "running")


def test_an_event_twice_counts_once() -> None:
    @saga("two")
    async def two(ctx: SagaContext, _: Nothing) -> Paid:
        first, second = await ctx.event(paid), await ctx.event(paid)
        return Paid(amount=first.amount + second.amount)

    test = SagaTest(two).start(Nothing())
    test.event(paid(amount=1), id="one").event(paid(amount=1), id="one")
    assert test.status == "running"
    assert test.event(paid(amount=2), id="two").result() == Paid(amount=3)


def test_an_event_that_nobody_declared_with_a_service_is_published_too() -> None:
    shouted = event("shouted", Told, topic="shouts", key="order")

    @saga("shouting")
    async def shouting(ctx: SagaContext, _: Nothing) -> None:
        ctx.publish(shouted(order="1"))
        await ctx.call(check.of(Job(order="1")))

    test = SagaTest(shouting).start(Nothing())
    assert test.published == [shouted(order="1")]
    assert [shouted(order="1")] == test.published
    assert test.published != [told(order="1")]
