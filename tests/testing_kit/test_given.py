"""`given`: a saga step by step, and what a mismatch says."""

from __future__ import annotations

import asyncio

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.shop.contracts import cancel_reservation, process_payment, refund_payment, reserve_inventory, ship_order
from sagabus.shop.order_processing import order_processing
from sagabus.testing import Unexpected, given
from sagabus.testing.given import Given
from tests.core.services import Done, Job, Paid, book, charge, check, paid, refund, release, reserve, told
from tests.testing_kit.test_saga_test import ORDER, PAYMENT, RESERVATION, SHIPMENT, process_undo

RESERVE = reserve_inventory(order_id="ORD-1", items=ORDER.items)
CHARGE = process_payment(order_id="ORD-1", amount=PAYMENT.amount, customer_email="a@b.c")
SHIP = ship_order(order_id="ORD-1", address=ORDER.shipping_address)


def test_an_order_is_told_step_by_step() -> None:
    (
        given(order_processing, ORDER)
        .expect(RESERVE).reply(RESERVATION)
        .expect(CHARGE).fail("no line")
        .expect(CHARGE).reply(PAYMENT)
        .expect(SHIP).refuse("address_not_served")
        .undoes(refund_payment.of(process_undo()))
        .undoes(cancel_reservation(reservation_id="R-1"))
        .ends("compensated", code="address_not_served")
    )  # fmt: skip


@saga("both")
async def both(ctx: SagaContext, job: Job) -> Done:
    first, second = await asyncio.gather(ctx.call(reserve.of(job)), ctx.call(charge.of(job)))
    await asyncio.sleep(86_400)
    ctx.publish(told(order=job.order))
    await ctx.call(check.of(job))
    confirmed = await ctx.event(paid)
    return Done(ref=f"{first.ref}{second.ref}{confirmed.amount}")


def begun() -> Given[Done]:
    return given(both, Job(order="1"))


def test_commands_at_once_come_in_any_order_and_time_moves_by_itself() -> None:
    told_so = begun().expect(charge(order="1")).reply(Done(ref="c")).expect(reserve(order="1")).reply(Done(ref="r"))
    told_so.sends_nothing().expect(check(order="1")).reply(None).publishes(told(order="1"))
    told_so.event(paid(amount=5)).returns(Done(ref="rc5"))


def test_a_mismatch_says_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(
        Unexpected, match=r"expected stock\.reserve\(order='2'\); found stock\.reserve\(order='1'\) and ba"
    ):
        begun().expect(reserve(order="2"))
    with pytest.raises(
        Unexpected, match=r"expected post\.book\(order='1'\); found no command; it waits for event paymen"
    ):
        waiting().expect(book(order="1"))
    with pytest.raises(Unexpected, match=r"expected that the saga ends completed; found stock\.reserve"):
        begun().ends("completed")
    with pytest.raises(
        Unexpected, match=r"expected that the saga ends compensated; found the saga has ended completed"
    ):
        waiting().event(paid(amount=1)).ends("compensated")
    with pytest.raises(Unexpected, match=r"expected the result .*rc2.*; found .*rc1"):
        waiting().event(paid(amount=1)).returns(Done(ref="rc2"))
    with pytest.raises(Unexpected, match=r"stock\.told.*no event"):
        begun().publishes(told(order="1"))
    with pytest.raises(Unexpected, match="expected no command; found stock"):
        begun().sends_nothing()
    with pytest.raises(Unexpected, match=r"expected the error no; found the error sagabus\.retries_exhausted"):
        refused().ends("compensated", code="no")
    with pytest.raises(Unexpected, match=r"refused: cancel\.rejected"):
        refused().cancel()


def waiting() -> Given[Done]:
    told_so = begun().expect(charge(order="1")).reply(Done(ref="c")).expect(reserve(order="1")).reply(Done(ref="r"))
    return told_so.advance(days=1).expect(check(order="1")).reply(None)


def refused() -> Given[Done]:
    told_so = begun().expect(reserve(order="1")).reply(Done(ref="r"))
    for _ in range(5):
        told_so = told_so.expect(charge(order="1")).fail()
    return told_so.undoes(release(order="1", ref="r"))


def test_what_is_never_answered_is_settled_as_never() -> None:
    @saga("hurried_given")
    async def hurried(ctx: SagaContext, job: Job) -> None:
        await ctx.call(reserve.of(job))
        await ctx.call(charge.of(job), timeout=100)

    told_so = given(hurried, Job(order="1")).expect(reserve(order="1")).reply(Done(ref="r"))
    told_so.expect(charge(order="1")).never_answer().advance(seconds=100).undoes(release(order="1", ref="r"))
    told_so.ends("compensated")


def test_a_cancelled_saga_undoes_what_it_did() -> None:
    told_so = begun().expect(charge(order="1")).reply(Done(ref="c")).expect(reserve(order="1")).reply(Done(ref="r"))
    told_so.cancel().undoes(release(order="1", ref="r")).undoes(refund(order="1", ref="c")).ends("cancelled")


def test_the_wrong_output_is_refused() -> None:
    with pytest.raises(TypeError, match="answers Done; the test gave Paid"):
        begun().expect(reserve(order="1")).reply(Paid(amount=1))  # type: ignore[arg-type]


def test_shipment_is_the_last_step() -> None:
    told_so = given(order_processing, ORDER).expect(RESERVE).reply(RESERVATION).expect(CHARGE).reply(PAYMENT)
    told_so.expect(SHIP).reply(SHIPMENT).ends("completed")
