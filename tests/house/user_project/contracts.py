"""What the two sides of this project share."""

from decimal import Decimal

from pydantic import BaseModel, Field

from sagabus.contracts import RetryPolicy, SagaType, Service


class Item(BaseModel):
    product_id: str
    quantity: int = Field(ge=1)
    unit_price: Decimal = Field(gt=0)


class Order(BaseModel):
    order_id: str
    customer_email: str
    items: list[Item]
    address: str


class OrderResult(BaseModel):
    order_id: str
    total_amount: Decimal
    tracking_number: str


class ReserveInventory(BaseModel):
    order_id: str
    items: list[Item]


class Reservation(BaseModel):
    reservation_id: str
    total_amount: Decimal


class CancelReservation(BaseModel):
    order_id: str


class StockReserved(BaseModel):
    order_id: str
    reservation_id: str


class ProcessPayment(BaseModel):
    order_id: str
    amount: Decimal
    customer_email: str


class Payment(BaseModel):
    transaction_id: str
    amount: Decimal


class RefundPayment(BaseModel):
    transaction_id: str
    amount: Decimal
    reason: str


class ShipOrder(BaseModel):
    order_id: str
    address: str


class Shipment(BaseModel):
    tracking_number: str


class NotifyCustomer(BaseModel):
    order_id: str


order_processing = SagaType("order_processing", Order, OrderResult)

inventory = Service("inventory")
stock_reserved = inventory.event("stock_reserved", StockReserved, key="order_id")
cancel_reservation = inventory.compensation("cancel_reservation", CancelReservation)
reserve_inventory = inventory.activity(
    "reserve_inventory",
    ReserveInventory,
    Reservation,
    compensation=cancel_reservation,
    refusals=("out_of_stock",),
)

payment = Service("payment")
refund_payment = payment.compensation("refund_payment", RefundPayment)
process_payment = payment.activity(
    "process_payment",
    ProcessPayment,
    Payment,
    compensation=refund_payment,
    compensate_with=lambda command, output: RefundPayment(
        transaction_id=output.transaction_id, amount=output.amount, reason=f"order {command.order_id} undone"
    ),
    retry=RetryPolicy(attempts=5),
    refusals=("card_declined",),
)

shipping = Service("shipping")
ship_order = shipping.activity("ship_order", ShipOrder, Shipment, timeout=60)
notify_customer = shipping.activity("notify_customer", NotifyCustomer)  # no output
