"""Place an order from any asyncio program: it needs the contracts and the client, and nothing of the coordinator.

SAGABUS_KAFKA=embedded python place_order.py        beside `sagabus dev …`, in the same directory
"""

import asyncio
from decimal import Decimal

from sagabus.client import SagaClient, SagaFailed
from sagabus.shop.contracts import Address, Order, OrderItem, order_processing

ORDER = Order(
    order_id="ORD-2",
    customer_email="customer@example.com",
    items=[OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99"))],
    shipping_address=Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country="Japan"),
)


async def main() -> None:
    async with SagaClient() as client:
        handle = await client.start(order_processing.of(ORDER), id=ORDER.order_id)
        try:
            result = await handle.result(timeout=30)
            print(f"{result.order_id} is {result.status}: {result.total_amount}, {result.confirmation_number}")
        except SagaFailed as failure:
            print(f"all is undone: {failure.message}")


asyncio.run(main())
