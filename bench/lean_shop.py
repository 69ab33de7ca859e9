"""The shop's three services with handlers that only answer: what is measured then is sagabus and not the shop.

They refuse what the shop refuses: `tests.system.orders` says which order meets that.
"""

from __future__ import annotations

from sagabus.participants import ActivityContext, Participant, Refused
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

CARD_LIMIT = 5_000

lean_inventory = Participant(inventory)
lean_payment = Participant(payment)
lean_shipping = Participant(shipping)


@lean_inventory.handles(reserve_inventory)
async def reserve(command: ReserveInventory, ctx: ActivityContext) -> Reservation:
    if command.items[0].product_id == "PROD-NONE":
        raise Refused("out_of_stock", "there is none")
    total = sum((item.quantity * item.unit_price for item in command.items), start=command.items[0].unit_price * 0)
    return Reservation(reservation_id=f"RES-{ctx.idempotency_key}", total_amount=total)


@lean_inventory.handles(cancel_reservation)
async def cancel(command: CancelReservation, ctx: ActivityContext) -> None:
    return None


@lean_payment.handles(process_payment)
async def charge(command: ProcessPayment, ctx: ActivityContext) -> Payment:
    if command.amount > CARD_LIMIT:
        raise Refused("card_declined", f"{command.amount} is over the limit")
    return Payment(transaction_id=f"TXN-{ctx.idempotency_key}", amount=command.amount, status="completed")


@lean_payment.handles(refund_payment)
async def refund(command: RefundPayment, ctx: ActivityContext) -> None:
    return None


@lean_shipping.handles(ship_order)
async def ship(command: ShipOrder, ctx: ActivityContext) -> Shipment:
    if command.address.country == "Atlantis":
        raise Refused("address_not_served", "no courier goes there")
    return Shipment(tracking_number=f"TRACK-{command.order_id}", status="shipped")
