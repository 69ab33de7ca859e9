"""An order of the shop that goes well."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from sagabus.shop.contracts import Address, Order, OrderItem

ORDER: Final = Order(
    order_id="ORD-2",
    customer_email="customer@example.com",
    items=[OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99"))],
    shipping_address=Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country="Japan"),
)
