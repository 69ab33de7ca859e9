"""An order that makes no sense is refused before any service meets it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from sagabus.shop.approval import Expense
from sagabus.shop.contracts import (
    CancelReservation,
    Order,
    Payment,
    ProcessPayment,
    RefundPayment,
    Reservation,
    ReserveInventory,
    process_payment,
    reserve_inventory,
)

ITEM = {"product_id": "PROD-1", "quantity": 2, "unit_price": "29.99"}
ADDRESS = {"street": "1-2-3 Dogenzaka", "city": "Shibuya", "postal_code": "150-0001", "country": "Japan"}
ORDER: dict[str, Any] = {
    "order_id": "ORD-12345", "customer_email": "customer@example.com", "items": [ITEM], "shipping_address": ADDRESS,
}  # fmt: skip


def test_the_order_of_the_tutorial_is_one() -> None:
    order = Order.model_validate(ORDER)
    assert order.items[0].unit_price == Decimal("29.99")
    assert Order.model_validate_json(order.model_dump_json()) == order


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_id": "12345"},
        {"order_id": "ORD-"},
        {"order_id": "ORD-12a"},
        {"order_id": "ORD-१२"},
        {"order_id": "ORD-12\n"},
        {"order_id": "ORD-" + "1" * 21},
        {"customer_email": "nobody"},
        {"customer_email": "x" * 300 + "@example.com"},
        {"items": []},
        {"items": [ITEM] * 101},
        {"items": [{**ITEM, "quantity": 0}]},
        {"items": [{**ITEM, "quantity": 10_001}]},
        {"items": [{**ITEM, "unit_price": "0"}]},
        {"items": [{**ITEM, "unit_price": "-1"}]},
        {"items": [{**ITEM, "unit_price": "0.001"}]},
        {"items": [{**ITEM, "unit_price": "NaN"}]},
        {"items": [{**ITEM, "unit_price": "123456789.00"}]},
        {"items": [{**ITEM, "product_id": ""}]},
        {"shipping_address": {**ADDRESS, "street": "x" * 201}},
        {"shipping_address": {**ADDRESS, "country": ""}},
    ],
)
def test_what_is_no_order_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Order.model_validate({**ORDER, **wrong})


def test_the_largest_order_that_is_allowed_can_be_paid() -> None:
    items = [{**ITEM, "quantity": 10_000, "unit_price": "99999999.99"}] * 100
    order = Order.model_validate({**ORDER, "items": items})
    total = sum((item.quantity * item.unit_price for item in order.items), Decimal(0))
    Reservation(reservation_id="RES-1", total_amount=total)
    ProcessPayment(order_id=order.order_id, amount=total, customer_email=order.customer_email)


def test_u4_an_undo_names_what_its_step_did_and_not_the_order() -> None:
    order = Order.model_validate(ORDER)
    assert reserve_inventory.fill is not None
    undo = reserve_inventory.fill(
        ReserveInventory(order_id=order.order_id, items=order.items),
        Reservation(reservation_id="RES-7", total_amount=Decimal("59.98")),
    )
    assert undo == CancelReservation(reservation_id="RES-7")


def test_a_refund_is_of_what_was_charged() -> None:
    assert process_payment.fill is not None
    undo = process_payment.fill(
        ProcessPayment(order_id="ORD-1", amount=Decimal("2.00"), customer_email="a@b"),
        Payment(transaction_id="TXN-7", amount=Decimal("2.00"), status="completed"),
    )
    assert undo == RefundPayment(transaction_id="TXN-7", amount=Decimal("2.00"), reason="order ORD-1 undone")


@pytest.mark.parametrize("wrong", ["EXP-", "ORD-1", "EXP-x"])
def test_an_expense_has_an_id_of_its_own(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Expense(expense_id=wrong, approver="ann", manager="max")
