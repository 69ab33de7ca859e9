"""The rights that docs/kafka.md names are enough: each party does its work with its own, and with nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from confluent_kafka.admin import AclBinding, ResourceType

from sagabus.client import SagaClient
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.service import Coordinator
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.settings import Settings, load_settings
from sagabus.shop.contracts import inventory as contract
from sagabus.shop.contracts import order_processing as order
from sagabus.shop.inventory import service as inventory
from sagabus.shop.order_processing import order_processing
from tests.deployment.an_order import ORDER
from tests.deployment.guarded_broker import GuardedBroker, right
from tests.support.conditions import until
from tests.support.kafka_installation import KafkaInstallation
from tests.support.processes import ROOT, Child

pytestmark = pytest.mark.ring("deployment")

PAGE: Final = (ROOT / "docs" / "kafka.md").read_text()
SERVICES: Final = ("inventory", "payment", "shipping")


@pytest.fixture(scope="module")
def broker(kafka_installation: KafkaInstallation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    broker = GuardedBroker(kafka_installation, tmp_path_factory.mktemp("guarded"))
    with broker:
        yield broker


@pytest.fixture
def settings(broker: GuardedBroker, database: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    given = {"KAFKA": broker.address, "DATABASE": database, "NAMESPACE": namespace, "HTTP": "off", "PARTITIONS": "2"}
    for name, value in given.items():
        monkeypatch.setenv(f"SAGABUS_{name}", value)
    return load_settings()


def rights(who: str, namespace: str, *, services: tuple[str, ...] = SERVICES) -> list[AclBinding]:
    """What the page's table gives to this party."""
    found = re.search(rf"^\| {re.escape(who)}[^|]* \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert found is not None, who
    return [
        right(kind, name, operation, prefix="prefix" in part)
        for kind, cell in ((ResourceType.TOPIC, found[1]), (ResourceType.GROUP, found[2]))
        for part in cell.split(";")
        for operation in re.findall(r"\b[A-Z_]{4,}\b", part.split("`")[0])
        for named in re.findall(r"`([^`]+)`", part)
        for service in (services if "<service>" in named else ("",))
        for name in [named.replace("<namespace>", namespace).replace("<service>", service)]
    ]


async def command(*words: str, settings: Settings, folder: Path) -> Child:
    given = {"SAGABUS_KAFKA": settings.kafka, "SAGABUS_DATABASE": settings.database, "SAGABUS_PARTITIONS": "2"}
    given |= {"SAGABUS_NAMESPACE": settings.namespace}
    child = Child.python("sagabus.commands.main", *words, folder=folder, name=words[0], settings=given)
    await child.ended()
    return child


async def count(settings: Settings, sql: str) -> int:
    connection = await asyncpg.connect(settings.database)
    try:
        return int(await connection.fetchval(sql.format(settings.namespace)))
    finally:
        await connection.close()


async def test_each_party_has_enough_rights(settings: Settings, broker: GuardedBroker, run_folder: Path) -> None:
    namespace = settings.namespace
    await migrate(settings.database, namespace)
    assert await _prepared(settings, broker, run_folder) == 0

    with broker.allowing(rights("client", namespace)):
        async with SagaClient() as client:
            await client.start(order.of(ORDER), id=ORDER.order_id)

    rows = 'SELECT count(*) FROM "{}".history'
    waiting = 'SELECT count(*) FROM "{0}".outbox o JOIN "{0}".shard s USING (shard) WHERE o.position > s.relay_position'
    with broker.allowing(rights("coordinator", namespace)):
        async with Coordinator([order_processing], settings=settings).running():
            await until(lambda: _is(settings, rows, least=2), what="the saga has begun")
            await until(lambda: _is(settings, waiting, most=0), what="its command is published")

    with broker.allowing(rights("participant", namespace, services=(contract.name,))):
        async with inventory.running():
            done = "SELECT count(*) FROM sagabus_inventory.inbox WHERE state = 'completed'"
            await until(lambda: _is(settings, done, least=1), what="the command is carried out")
            sent = waiting.replace('"{0}"', "sagabus_inventory")
            await until(lambda: _is(settings, sent, most=0), what="its reply and its event are published")

    with broker.allowing(rights("coordinator", namespace)):
        async with Coordinator([order_processing], settings=settings).running():
            heard = f"SELECT count(*) FROM \"{{}}\".history WHERE kind = '{Kind.STEP_COMPLETED}'"
            await until(lambda: _is(settings, heard, least=1), what="the reply is read")
    for schema in (namespace, "sagabus_inventory"):
        assert await count(settings, f'SELECT count(*) FROM "{schema}".outbox_parked') == 0

    with broker.allowing(rights("`sagabus doctor`", namespace)):
        doctor = await command("doctor", "sagabus.shop.contracts", settings=settings, folder=run_folder)
    assert re.findall(r"\[((?:topics|kafka)\.\w+)\]", doctor.stdout) == [], doctor.report()


@pytest.mark.usefixtures("settings")
async def test_who_may_write_to_no_topic_is_told_so() -> None:
    with pytest.raises(KafkaUnreachable, match="this user may write to no topic; give it WRITE"):
        async with SagaClient():
            pytest.fail("connected")


async def _prepared(settings: Settings, broker: GuardedBroker, folder: Path) -> int:
    """Exit code of the commands that make tables and topics. Without rights nothing is made."""
    tables = await command("migrate", "--tables", "sagabus.shop.inventory", settings=settings, folder=folder)
    assert tables.returncode == 0, tables.report()
    refused = await command("topics", "sagabus.shop.contracts", settings=settings, folder=folder)
    assert refused.returncode != 0, refused.report()
    with broker.allowing(rights("`sagabus topics`", settings.namespace)):
        made = await command("topics", "sagabus.shop.contracts", settings=settings, folder=folder)
    assert made.returncode == 0, made.report()
    return made.returncode


async def _is(settings: Settings, sql: str, *, least: int = 0, most: int = 10**9) -> bool:
    return least <= await count(settings, sql) <= most
