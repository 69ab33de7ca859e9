"""The four scenes of the demo. Each waits for what the ledgers say, never for time, and kills where it hurts most."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from sagabus.client import SagaClient
from sagabus.commands.demo.ledgers import Ledgers
from sagabus.commands.demo.narrator import Narrator
from sagabus.commands.demo.services import Services
from sagabus.commands.demo.witness import Witness
from sagabus.commands.host import Child, Host
from sagabus.shop.contracts import Address, Order, OrderItem, order_processing

SAGAS: Final = "sagabus.shop.order_processing"

JAPAN: Final = Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country="Japan")
ATLANTIS: Final = Address(street="4 Trident Road", city="Poseidonis", postal_code="0", country="Atlantis")
ITEMS: Final = (
    OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99")),
    OrderItem(product_id="PROD-2", quantity=1, unit_price=Decimal("49.99")),
)
TOTAL: Final = Decimal("109.97")

COMPLETED: Final = ("ORD-12345", "ORD-12347")
UNDONE: Final = ("ORD-12346", "ORD-12348")


def order(order_id: str, address: Address) -> Order:
    return Order(order_id=order_id, customer_email="customer@example.com", items=[*ITEMS], shipping_address=address)


class Story:
    """Told once."""

    def __init__(
        self,
        *,
        narrator: Narrator,
        witness: Witness,
        ledgers: Ledgers,
        client: SagaClient,
        services: Services,
        host: Host,
    ) -> None:
        self.narrator = narrator
        self.witness = witness
        self.ledgers = ledgers
        self.client = client
        self.services = services
        self.host = host
        self.coordinator = self._start_coordinator()

    async def tell(self) -> None:
        """All scenes, in order. It says what happens; whether that was right is for the audit."""
        await self.goes_well()
        await self.is_undone()
        await self.killed_after_the_payment()
        await self.killed_within_the_undo()

    async def goes_well(self) -> None:
        self.narrator.heading("(a) An order succeeds: 2 × PROD-1 at 29.99 and 1 × PROD-2 at 49.99.")
        await self._start("ORD-12345", JAPAN)
        await self._end("ORD-12345")

    async def is_undone(self) -> None:
        self.narrator.heading("(b) The last step fails: nobody ships to Atlantis. What was done is undone.")
        await self._start("ORD-12346", ATLANTIS)
        await self._end("ORD-12346")

    async def killed_after_the_payment(self) -> None:
        self.narrator.heading("(c) The coordinator is killed after the payment.")
        await self.services.leave("shipping")  # so that the order cannot be through before the kill
        await self._start("ORD-12347", JAPAN)
        await self.ledgers.until(lambda books: books.charges("ORD-12347"))
        self._kill()
        self.coordinator = self._start_coordinator()
        await self.services.come("shipping")
        await self._end("ORD-12347")

    async def killed_within_the_undo(self) -> None:
        self.narrator.heading("(d) The coordinator is killed in the middle of an undo: refunded, goods not yet back.")
        await self.services.leave("shipping")
        await self._start("ORD-12348", ATLANTIS)
        await self.ledgers.until(lambda books: books.charges("ORD-12348"))
        await self.services.leave("inventory")  # so that the undo cannot be through before the kill
        await self.services.come("shipping")
        await self.ledgers.until(lambda books: books.refunds("ORD-12348"))
        self._kill()
        self.coordinator = self._start_coordinator()
        await self.services.come("inventory")
        await self._end("ORD-12348")

    async def _start(self, order_id: str, address: Address) -> None:
        self.narrator.tell("customer", f"orders {order_id}, to {address.city}, {address.country}")
        await self.client.start(order_processing.of(order(order_id, address)), id=order_id)

    async def _end(self, order_id: str) -> None:
        end = await self.witness.end_of(order_id)
        result = end.body.get("result") or {}
        words = [str(result[name]) for name in ("total_amount", "confirmation_number") if name in result]
        self.narrator.tell("customer", f"{order_id} is {', '.join([str(end.body['status']), *words])}")

    def _kill(self) -> None:
        self.coordinator.kill()
        self.narrator.tell("host", f"killed the coordinator, process {self.coordinator.pid}, with SIGKILL")

    def _start_coordinator(self) -> Child:
        coordinator = self.host.start_child("coordinator", SAGAS, name="coordinator")
        words = f"started the coordinator, process {coordinator.pid}; some seconds pass until it is at work"
        self.narrator.tell("host", words)
        return coordinator
