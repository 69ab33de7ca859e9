"""What the shop's services say to each other: the one file that both sides of the order saga share.

A sample, written as you would write yours. Orders are checked here, so that no service meets one that makes no sense.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from sagabus.contracts import RetryPolicy, SagaType, Service

OrderId = Annotated[str, StringConstraints(pattern=r"^ORD-[0-9]{1,20}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Ticket = Annotated[str, StringConstraints(min_length=1, max_length=300)]
"""What a service hands out to find its work again: a reservation, a charge, a parcel."""

Price = Annotated[Decimal, Field(gt=0, max_digits=10, decimal_places=2)]
Amount = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=2)]


class OrderItem(BaseModel):
    product_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    quantity: int = Field(ge=1, le=10_000)
    unit_price: Price


Items = Annotated[list[OrderItem], Field(min_length=1, max_length=100)]


class Address(BaseModel):
    street: Name
    city: Name
    postal_code: Annotated[str, StringConstraints(min_length=1, max_length=20)]
    country: Name


class Order(BaseModel):
    order_id: OrderId
    customer_email: Email
    items: Items
    shipping_address: Address


class OrderResult(BaseModel):
    order_id: OrderId
    status: str
    total_amount: Amount
    confirmation_number: Ticket


order_processing = SagaType("order_processing", Order, OrderResult)


# inventory: sets goods aside, and puts back what a reservation took


class ReserveInventory(BaseModel):
    order_id: OrderId
    items: Items


class Reservation(BaseModel):
    reservation_id: Ticket
    total_amount: Amount


class CancelReservation(BaseModel):
    reservation_id: Ticket


class StockReserved(BaseModel):
    order_id: OrderId
    reservation_id: Ticket


inventory = Service("inventory")
stock_reserved = inventory.event("stock_reserved", StockReserved, key="order_id")
cancel_reservation = inventory.compensation("cancel_reservation", CancelReservation)
reserve_inventory = inventory.activity(
    "reserve_inventory", ReserveInventory, Reservation,
    compensation=cancel_reservation,  # its input is filled by name and type: the reservation's own id
    refusals=("out_of_stock",),
)  # fmt: skip


# payment: charges a card, and gives the money back


class ProcessPayment(BaseModel):
    order_id: OrderId
    amount: Amount
    customer_email: Email


class Payment(BaseModel):
    transaction_id: Ticket
    amount: Amount
    status: str


class RefundPayment(BaseModel):
    transaction_id: Ticket
    amount: Amount
    reason: Name


class PaymentProcessed(BaseModel):
    order_id: OrderId
    transaction_id: Ticket
    amount: Amount


payment = Service("payment")
payment_processed = payment.event("payment_processed", PaymentProcessed, key="order_id")
refund_payment = payment.compensation("refund_payment", RefundPayment)
process_payment = payment.activity(
    "process_payment", ProcessPayment, Payment,
    compensation=refund_payment,
    compensate_with=lambda command, output: RefundPayment(
        transaction_id=output.transaction_id, amount=output.amount, reason=f"order {command.order_id} undone"
    ),
    retry=RetryPolicy(attempts=5),
    refusals=("card_declined",),
)  # fmt: skip


# shipping: the last step, which nothing undoes


class ShipOrder(BaseModel):
    order_id: OrderId
    address: Address


class Shipment(BaseModel):
    tracking_number: Ticket
    status: str


class OrderShipped(BaseModel):
    order_id: OrderId
    tracking_number: Ticket


shipping = Service("shipping")
order_shipped = shipping.event("order_shipped", OrderShipped, key="order_id")
ship_order = shipping.activity("ship_order", ShipOrder, Shipment, refusals=("address_not_served",))
