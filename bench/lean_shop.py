"""The shop's three services with handlers that only answer: what is measured then is sagabus and not the shop."""

from __future__ import annotations

from sagabus.participants import ActivityContext, Participant
from sagabus.shop.contracts import (
    CancelReservation,
    Payment,
    ProcessPayment,
    RefundPayment,
    Reservation,
    ReserveInventory,
    Shipment,
    ShipOrder,
    cancel_reservation,
    inventory,
    payment,
    process_payment,
    refund_payment,
    reserve_inventory,
    ship_order,
    shipping,
)

lean_inventory = Participant(inventory)
lean_payment = Participant(payment)
lean_shipping = Participant(shipping)


@lean_inventory.handles(reserve_inventory)
async def reserve(command: ReserveInventory, ctx: ActivityContext) -> Reservation:
    total = sum((item.quantity * item.unit_price for item in command.items), start=command.items[0].unit_price * 0)
    return Reservation(reservation_id=f"RES-{ctx.idempotency_key}", total_amount=total)


@lean_inventory.handles(cancel_reservation)
async def cancel(command: CancelReservation, ctx: ActivityContext) -> None:
    return None


@lean_payment.handles(process_payment)
async def charge(command: ProcessPayment, ctx: ActivityContext) -> Payment:
    return Payment(transaction_id=f"TXN-{ctx.idempotency_key}", amount=command.amount, status="completed")


@lean_payment.handles(refund_payment)
async def refund(command: RefundPayment, ctx: ActivityContext) -> None:
    return None


@lean_shipping.handles(ship_order)
async def ship(command: ShipOrder, ctx: ActivityContext) -> Shipment:
    return Shipment(tracking_number=f"TRACK-{command.order_id}", status="shipped")
