"""The saga, declared against its contract."""

from sagabus.coordinator import ActivityFailed, SagaContext, saga

from . import contracts
from .contracts import Order, OrderResult, notify_customer, process_payment, reserve_inventory, ship_order


@saga(contracts.order_processing)
async def order_processing(ctx: SagaContext, order: Order) -> OrderResult:
    reservation = await ctx.call(reserve_inventory(order_id=order.order_id, items=order.items))
    payment = await ctx.call(
        process_payment(order_id=order.order_id, amount=reservation.total_amount, customer_email=order.customer_email)
    )
    shipment = await ctx.call(ship_order(order_id=order.order_id, address=order.address), timeout=30)
    try:
        await ctx.call(notify_customer(order_id=order.order_id))
    except ActivityFailed as error:
        ctx.log.info("not told: %s", error.code)
    return OrderResult(order_id=order.order_id, total_amount=payment.amount, tracking_number=shipment.tracking_number)
