"""A test as a user writes it."""

from typing import assert_type

from sagabus.participants import Refused
from sagabus.participants.testing import carried

from .contracts import Reservation, reserve_inventory
from .inventory import service


async def test_refuses_what_is_not_there() -> None:
    async with carried(service) as inventory:
        try:
            assert_type(await inventory.handle(reserve_inventory(order_id="ORD-1", items=[])), Reservation)
        except Refused:
            assert inventory.published == []
