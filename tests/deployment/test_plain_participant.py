"""examples/plain_participant.py, which knows nothing of sagabus, does its part of the order saga on a real Kafka."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.client import SagaClient, SagaFailed
from sagabus.coordinator.service import Coordinator
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.settings import Settings, load_settings
from sagabus.participants import Participant
from sagabus.participants.inbox.tables import create_tables
from sagabus.shop.contracts import order_processing as order
from sagabus.shop.inventory import service as inventory
from sagabus.shop.order_processing import order_processing
from sagabus.shop.payment import service as payment
from tests.deployment.an_order import ORDER
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Child, clean

pytestmark = pytest.mark.ring("deployment")


@pytest.fixture
def broker(kafka_installation: KafkaInstallation, tmp_path: Path) -> Iterator[KafkaBroker]:
    """Of this test's own, since the topics of a service are no namespace's."""
    with KafkaBroker(kafka_installation, tmp_path) as broker:
        yield broker


@pytest.fixture
def settings(broker: KafkaBroker, database: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    http = f"127.0.0.1:{free_port()}"
    given = {
        "KAFKA": broker.address,
        "DATABASE": database,
        "NAMESPACE": namespace,
        "HTTP": http,
        "URL": f"http://{http}",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SAGABUS_{name}", value)
    return load_settings()


async def make_tables(settings: Settings, *participants: Participant[Any]) -> None:
    await migrate(settings.database, settings.namespace)
    engine = create_async_engine(settings.sqlalchemy_url)
    async with engine.begin() as connection:
        for one in participants:
            await create_tables(connection, one.service.name)
            assert one.tables is not None
            await connection.run_sync(one.tables.create_all)
    await engine.dispose()


async def test_an_order_is_shipped_by_a_participant_without_sagabus(
    settings: Settings, postgres: PostgresServer, run_folder: Path
) -> None:
    await make_tables(settings, inventory, payment)
    topics = Child.python(
        "sagabus.commands.main", "topics", "sagabus.shop.contracts", folder=run_folder,
        settings={"SAGABUS_KAFKA": settings.kafka, "SAGABUS_NAMESPACE": settings.namespace},
    )  # fmt: skip
    assert await topics.ended() == 0, topics.report()
    with postgres.database() as its_own:
        command = [sys.executable, str(ROOT / "examples" / "plain_participant.py")]
        environment = {**clean({}), "KAFKA": settings.kafka, "DATABASE": its_own}
        async with AsyncExitStack() as stack:
            plain = stack.enter_context(Child(command, folder=run_folder, name="plain", environment=environment))
            await plain.says("shipping runs")
            for service in (Coordinator([order_processing], settings=settings), inventory, payment):
                await stack.enter_async_context(service.running())
            client = await stack.enter_async_context(SagaClient())

            shipped = await client.start(order.of(ORDER), id=ORDER.order_id)
            assert (await shipped.result(timeout=60)).confirmation_number == f"TRACK-{ORDER.order_id}", plain.report()

            nowhere = ORDER.shipping_address.model_copy(update={"country": "Atlantis"})
            refused = await client.start(order.of(ORDER.model_copy(update={"shipping_address": nowhere})), id="ORD-3")
            with pytest.raises(SagaFailed) as failure:
                await refused.result(timeout=60)
            assert (failure.value.status, failure.value.code) == ("compensated", "address_not_served")
