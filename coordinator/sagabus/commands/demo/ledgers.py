"""Looks into the shop's own ledgers, as an auditor would: with SQL, from outside, on nobody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import asyncpg

LOOK_AGAIN: Final = 0.005
"""Seconds between two looks while something is waited for."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A row of a ledger: goods or money, there (above 0) or back (below 0), or a parcel."""

    number: int
    order_id: str
    what: str
    amount: Decimal
    at: datetime

    @property
    def back(self) -> bool:
        return self.amount < 0


_GOODS: Final = "SELECT number, order_id, product_id, quantity, at FROM inventory_ledger ORDER BY number"
_MONEY: Final = "SELECT number, order_id, transaction_id, amount, at FROM payment_ledger ORDER BY number"
_PARCELS: Final = "SELECT number, order_id, tracking_number, 1, at FROM shipping_ledger ORDER BY number"
_STOCK: Final = "SELECT product_id, free FROM inventory_stock"


@dataclass(frozen=True, slots=True)
class Books:
    """All ledgers as they were at one look."""

    goods: Sequence[Movement]
    money: Sequence[Movement]
    parcels: Sequence[Movement]
    stock: Mapping[str, int]

    def charges(self, order_id: str) -> Sequence[Movement]:
        return [one for one in self.money if one.order_id == order_id and not one.back]

    def refunds(self, order_id: str) -> Sequence[Movement]:
        return [one for one in self.money if one.order_id == order_id and one.back]

    def reserved(self, order_id: str) -> Sequence[Movement]:
        return [one for one in self.goods if one.order_id == order_id and not one.back]

    def returned(self, order_id: str) -> Sequence[Movement]:
        return [one for one in self.goods if one.order_id == order_id and one.back]

    def shipped(self, order_id: str) -> Sequence[Movement]:
        return [one for one in self.parcels if one.order_id == order_id]


class Ledgers:
    """Of the shop's database. Opened and closed by `async with`."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def look(self) -> Books:
        """In one snapshot."""
        assert self._connection is not None
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            goods, money, parcels = [await self._movements(query) for query in (_GOODS, _MONEY, _PARCELS)]
            stock = {str(row[0]): int(row[1]) for row in await self._connection.fetch(_STOCK)}
        return Books(goods, money, parcels, stock)

    async def until(self, condition: Callable[[Books], object]) -> Books:
        """Look until it is so."""
        while True:
            books = await self.look()
            if condition(books):
                return books
            await asyncio.sleep(LOOK_AGAIN)

    async def _movements(self, query: str) -> list[Movement]:
        assert self._connection is not None
        rows = await self._connection.fetch(query)
        return [Movement(row[0], row[1], row[2], Decimal(row[3]), row[4]) for row in rows]

    async def __aenter__(self) -> Ledgers:
        self._connection = await asyncpg.connect(self._database)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        await self._connection.close()
