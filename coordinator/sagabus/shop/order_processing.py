"""The order saga: reserve, charge, ship. A step that fails lets those before it be undone, the latest first."""

from sagabus.coordinator import SagaContext, saga
from sagabus.shop import contracts
from sagabus.shop.contracts import Order, OrderResult, process_payment, reserve_inventory, ship_order


@saga(contracts.order_processing)
async def order_processing(ctx: SagaContext, order: Order) -> OrderResult:
    reservation = await ctx.call(reserve_inventory(order_id=order.order_id, items=order.items))
    payment = await ctx.call(
        process_payment(order_id=order.order_id, amount=reservation.total_amount, customer_email=order.customer_email)
    )
    shipment = await ctx.call(ship_order(order_id=order.order_id, address=order.shipping_address))
    return OrderResult(
        order_id=order.order_id,
        status="completed",
        total_amount=payment.amount,
        confirmation_number=shipment.tracking_number,
    )
