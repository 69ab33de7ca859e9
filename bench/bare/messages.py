"""What the services of the bare engine say to each other: the shop's messages, with plain numbers."""

from __future__ import annotations

from pydantic import BaseModel


class Item(BaseModel):
    product_id: str
    quantity: int
    unit_price: float


class Address(BaseModel):
    street: str
    city: str
    postal_code: str
    country: str


class Order(BaseModel):
    order_id: str
    customer_email: str
    items: list[Item]
    shipping_address: Address


class Reserve(BaseModel):
    order_id: str
    items: list[Item]


class Reservation(BaseModel):
    reservation_id: str
    total_amount: float


class Charge(BaseModel):
    order_id: str
    amount: float
    customer_email: str


class Payment(BaseModel):
    transaction_id: str
    amount: float
    status: str


class Ship(BaseModel):
    order_id: str
    address: Address


class Shipment(BaseModel):
    tracking_number: str
    status: str


class OrderResult(BaseModel):
    order_id: str
    status: str
    total_amount: float
    confirmation_number: str


def encoded(model: BaseModel) -> bytes:
    """JSON, by the serializer itself: `model_dump_json` makes a text first."""
    return bytes(model.__pydantic_serializer__.to_json(model))


def order(number: int) -> Order:
    return Order(
        order_id=f"ORD-{number}",
        customer_email="customer@example.com",
        items=[
            Item(product_id="PROD-1", quantity=2, unit_price=29.99),
            Item(product_id="PROD-2", quantity=1, unit_price=49.99),
        ],
        shipping_address=Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country="Japan"),
    )
