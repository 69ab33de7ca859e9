"""Routes on a real Kafka, in separate processes: each record counts once, in order, though owners are killed (H6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.system.deployment import Deployment, until_all_ended
from tests.system.ordinary.routed_sagas import READINGS

SAGAS = ("tests.system.ordinary.routed_sagas",)
TOPIC = "meters.events"
PARTITIONS = 7
"""More than the coordinators have shards."""
METERS = 200
KILLS = 3


@asynccontextmanager
async def producing(address: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, event: str, meter: str, **data: object) -> None:
    """As a producer that knows nothing of sagabus: the record has no id."""
    value = json.dumps({"meter": meter, **data}).encode()
    headers = [("ce_type", f"meters.{event}".encode())]
    await producer.send_and_wait(TOPIC, value, key=meter.encode(), headers=headers)


@pytest.mark.ring("faults")
async def test_h6_each_record_counts_once_and_in_order_while_coordinators_are_killed(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        broker.create_topics(TOPIC, partitions=PARTITIONS)
        deployment = Deployment(
            kafka=broker.address, database=database, folder=tmp_path / "services", sagas=SAGAS, participants=()
        )  # fmt: skip
        async with deployment, producing(broker.address) as producer:
            connection = await asyncpg.connect(database)
            running = [await deployment.coordinator(f"coordinator-{number}") for number in range(2)]
            meters = [f"METER-{number}" for number in range(METERS)]
            for number in range(KILLS):
                for meter in meters[number::KILLS]:
                    await send(producer, "installed", meter)
                    for reading in range(READINGS):
                        await send(producer, "reading", meter, number=reading)
                if not number:
                    await until(lambda: connection.fetchval("SELECT count(*) > 0 FROM sagabus.saga"), within=60)
                running.pop(0).kill()
                running.append(await deployment.coordinator(f"coordinator-{2 + number}"))
            await until_all_ended(connection, METERS, within=120)
            ended = await connection.fetch("SELECT status, convert_from(result, 'UTF8') AS result FROM sagabus.saga")
            assert {row["status"] for row in ended} == {"completed"}
            assert {row["result"] for row in ended} == {'{"numbers":[0,1,2]}'}
            letters = await connection.fetch("SELECT reason, message FROM sagabus.dead_letter")
            assert [*map(tuple, letters)] == []
            await connection.close()


@pytest.mark.ring("faults")
async def test_h6_a_topic_that_is_made_later_and_grows_is_read(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        deployment = Deployment(
            kafka=broker.address, database=database, folder=tmp_path / "services", sagas=SAGAS, participants=()
        )  # fmt: skip
        async with deployment:
            coordinator = await deployment.coordinator()
            assert f"the topic {TOPIC}, which a route reads, is not there yet" in coordinator.stderr
            broker.create_topics(TOPIC, partitions=1)
            connection = await asyncpg.connect(database)
            async with producing(broker.address) as producer:
                await send(producer, "installed", "METER-1")
            await until(lambda: connection.fetchval("SELECT count(*) = 1 FROM sagabus.saga"), within=60)
            broker.add_partitions(TOPIC, to=PARTITIONS)
            async with producing(broker.address) as producer:
                for number in range(2, 30):
                    await send(producer, "installed", f"METER-{number}")
            await until(lambda: connection.fetchval("SELECT count(*) = 29 FROM sagabus.saga"), within=60)
            await connection.close()
