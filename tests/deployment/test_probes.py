"""A coordinator's probes over its life: who holds nothing, who ends, and what its API survives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from sagabus.contracts.envelope import Message
from sagabus.coordinator.service import Coordinator
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.bus.publish_errors import PublishFailed
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.service.prerequisites import coordinator_topics
from sagabus.messaging.settings import Settings, load_settings
from sagabus.messaging.shards.ownership import Ownership
from sagabus.shop.order_processing import order_processing
from tests.deployment.an_order import ORDER
from tests.support.conditions import until
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

START = {"saga": "order_processing", "id": "ORD-2", "input": ORDER.model_dump(mode="json")}


@dataclass
class Probed:
    """A running coordinator, as who asks it sees it."""

    client: httpx.AsyncClient

    async def readiness(self) -> str:
        """The reason why not; empty when it is ready."""
        answer = await self.client.get("/readyz")
        assert (answer.status_code == 200) == (answer.json()["status"] == "ready")
        return "" if answer.is_success else str(answer.json()["reason"])

    async def ready(self) -> bool:
        return await self.readiness() == ""

    async def start(self) -> int:
        return (await self.client.post("/api/v1/sagas", json=START, timeout=30)).status_code


@pytest.fixture
async def settings(kafka: str, database: str, namespace: str) -> Settings:
    """With one shard, so that a second coordinator has none."""
    settings = load_settings(kafka=kafka, database=database, namespace=namespace)
    await migrate(database, namespace)
    await Kafka(settings).create_topics(dict.fromkeys(coordinator_topics(namespace), TopicSpec(1)))
    return settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Probed]:
    address = f"127.0.0.1:{free_port()}"
    coordinator = Coordinator([order_processing], settings=settings.model_copy(update={"http": address}))
    async with httpx.AsyncClient(base_url=f"http://{address}") as client, coordinator.running():
        yield Probed(client)


async def test_one_on_standby_is_ready_as_long_as_it_reaches_the_database(
    settings: Settings, database: str, postgres: PostgresServer
) -> None:
    name = database.rpartition("/")[2]
    async with running(settings) as first, running(settings) as second:
        await until(first.ready)
        await until(second.ready)
        postgres.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        postgres.psql(f"ALTER DATABASE {name} RENAME TO {name}_away")
        await until(lambda: say_why(first, second), what="one has lost its shard, the other asks the database")
        postgres.psql(f"ALTER DATABASE {name}_away RENAME TO {name}")
        await until(first.ready)
        await until(second.ready)


async def say_why(*probed: Probed) -> bool:
    reasons = " | ".join(sorted([await one.readiness() for one in probed]))
    return "PostgreSQL is unreachable" in reasons and "not acquired: 0" in reasons


async def test_a_probe_says_no_before_the_drain_begins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    stop = Ownership.stop

    async def stopping(ownership: Ownership) -> None:
        seen.append(await probed.readiness())
        seen.append((await probed.client.get("/livez")).status_code)
        seen.append(await probed.start())  # what was on its way when it was told to end is still taken
        await stop(ownership)

    monkeypatch.setattr(Ownership, "stop", stopping)
    async with running(settings) as probed:
        await until(probed.ready)
    assert seen == ["it drains: the process was told to end", 200, 202]


async def test_a_request_that_failed_does_not_spoil_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever became of one publication, the next one is tried."""
    publish = BatchProducer.publish

    async def failing(producer: BatchProducer, messages: Sequence[Message]) -> None:
        monkeypatch.setattr(BatchProducer, "publish", publish)
        raise PublishFailed("timed out")

    async with running(settings) as probed:
        await until(probed.ready)
        monkeypatch.setattr(BatchProducer, "publish", failing)
        assert [await probed.start(), await probed.start()] == [503, 202]
