"""Fixtures of this house: a `Kafka` over a real broker, over the embedded bus, over each in turn; a bus in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from sagabus.messaging.bus.kafka import Kafka
from tests.messaging.clusters import embedded_kafka, real_kafka
from tests.messaging.toy_bus import ToyBus
from tests.messaging.toy_world import World
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation


@pytest.fixture
def real(kafka: str) -> Kafka:
    return real_kafka(kafka)


@pytest.fixture
def embedded() -> Iterator[Kafka]:
    with embedded_kafka() as cluster:
        yield cluster


@pytest.fixture(params=["real", "embedded"])
def cluster(request: pytest.FixtureRequest) -> Kafka:
    """Both implementations of Kafka."""
    found: Kafka = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="package")
def broker_to_break(
    kafka_installation: KafkaInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaBroker]:
    with KafkaBroker(kafka_installation, tmp_path_factory.mktemp("broken")) as broker:
        yield broker


@pytest.fixture
def own_broker(broker_to_break: KafkaBroker) -> KafkaBroker:
    """One that runs, and that may be killed, paused and restarted. Give it back running or dead, not paused."""
    if not broker_to_break.process.running:
        broker_to_break.start()
    return broker_to_break


@pytest.fixture
async def world(database: str, namespace: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(database, namespace, stack)
        world.bus.make("in")
        yield world


@pytest.fixture
def bus(world: World) -> ToyBus:
    return world.bus
