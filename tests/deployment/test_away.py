"""Services that are started before their servers: they wait, say so once, answer probes, and go on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sagabus.commands import modules
from sagabus.commands.setup.tables import make_tables
from sagabus.commands.setup.topics import topics_of
from sagabus.commands.subcommand import Exit
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.settings import load_settings
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.system.orders import Fate, Order

SAGA = "sagabus.shop.order_processing"
SERVICES = tuple(f"sagabus.shop.{name}" for name in ("inventory", "payment", "shipping"))
WAITED = "retrying until it answers"


@dataclass
class Ground:
    """A broker that is not running, a database at an address where nobody listens yet, all that is needed in both."""

    broker: KafkaBroker
    database: str
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    def service(self, name: str, *words: str) -> Child:
        """With an API of its own."""
        settings = {
            "SAGABUS_KAFKA": self.broker.address, "SAGABUS_DATABASE": self.address,
            "SAGABUS_HTTP": f"127.0.0.1:{self.ports.setdefault(name, free_port())}",
        }  # fmt: skip
        return Child.python("sagabus.commands.main", *words, folder=self.folder, name=name, settings=settings)

    @property
    def address(self) -> str:
        """Of the database, as the services know it."""
        return re.sub(r":\d+/", f":{self.ports.setdefault('database', free_port())}/", self.database)

    async def prepare(self) -> None:
        """As `sagabus migrate --tables` and `sagabus topics` do it."""
        await migrate(self.database, "sagabus")
        settings = load_settings(kafka=self.broker.address, database=self.database)
        participants = modules.participants(SERVICES)
        await make_tables(settings, participants, business=True)
        self.broker.create_topics(*topics_of([one.service for one in participants], "sagabus"))
        self.broker.stop()

    @asynccontextmanager
    async def open_database(self) -> AsyncIterator[None]:
        """From here on somebody listens there: what comes is passed on to the database."""
        port = int(re.findall(r":(\d+)/", self.database)[0])

        async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pass(reader, theirs[1]), _pass(theirs[0], writer))

        server = await asyncio.start_server(passed, "127.0.0.1", self.ports["database"])
        try:
            yield
        finally:
            server.close()

    async def ask(self, name: str, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports[name]}") as client:
            return await client.get(path)

    async def place(self, order: Order) -> int:
        body = {"saga": "order_processing", "id": order.id, "input": order.request["input"]}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports['coordinator']}") as client:
            return (await client.post("/api/v1/sagas", json=body, timeout=60)).status_code

    async def ends(self, order: Order) -> None:
        async def completed() -> bool:
            answer = await self.ask("coordinator", f"/api/v1/sagas/{order.id}")
            return answer.is_success and bool(answer.json()["status"] == "completed")

        await until(completed, every=0.1)

    async def says(self, name: str, reason: str) -> None:
        """Wait until /readyz gives this reason; empty: until it is ready."""

        async def said() -> bool:
            answer = await self.ask(name, "/readyz")
            ready = answer.status_code == 200
            return ready if not reason else not ready and reason in answer.json()["reason"]

        await until(said, every=0.1, what=f"{name}: {reason or 'ready'}")


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.ring("deployment")
async def test_services_wait_for_their_servers_and_go_on(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    file, order = tmp_path / "health", Order(1, Fate.COMPLETED)
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        made = Ground(broker, database, tmp_path / "services")
        await made.prepare()
        participants = made.service("participants", "participant", "--health-file", str(file), *SERVICES)
        with made.service("coordinator", "coordinator", SAGA) as coordinator, participants:
            await they_wait(made, coordinator, participants, file)
            broker.start()
            await made.says("coordinator", "waits for PostgreSQL at postgresql://postgres:…@127.0.0.1")
            async with made.open_database():
                await made.says("coordinator", "")
                await until(lambda: file.read_text() == "")
                assert await made.place(order) == 202
                await made.ends(order)
                they_said_so_once(coordinator, 1)
                they_said_so_once(participants, len(SERVICES))
                for child in (coordinator, participants):
                    child.terminate()
                assert [await child.ended() for child in (coordinator, participants)] == [Exit.DONE, Exit.DONE]
            assert not file.exists()


def they_said_so_once(child: Child, services: int) -> None:
    """Each of its services, for each of the servers at most."""
    said = [line for line in child.stderr.splitlines() if WAITED in line]
    of_kafka = [line for line in said if "Kafka is unreachable" in line]
    assert len(of_kafka) == services, child.report()
    assert len(said) <= 2 * services, child.report()


async def they_wait(made: Ground, coordinator: Child, participants: Child, file: Path) -> None:
    for child in (coordinator, participants):
        await child.says(WAITED)
    await made.says("coordinator", f"waits for Kafka at {made.broker.address}")
    assert (await made.ask("coordinator", "/livez")).status_code == 200
    closed = await made.ask("coordinator", "/api/v1/sagas")
    assert (closed.status_code, closed.json()["error"]["code"]) == (503, "coordinator.closed")
    await until(lambda: file.read_text().count("waits for Kafka") == len(SERVICES))
    health = made.service("health", "health", str(file))
    assert await health.ended() == Exit.FOUND, health.report()
    assert "not ready: inventory: it waits for Kafka" in health.stdout
