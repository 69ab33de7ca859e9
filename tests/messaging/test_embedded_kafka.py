"""The embedded bus: what works on it, and the limits that its docstring names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from sagabus.messaging.embedded.embedded_kafka import EmbeddedKafka, EmbeddedKafkaFailed


@pytest.fixture
def bus() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        yield running


async def test_what_is_sent_is_read_in_order_by_an_assigned_consumer(bus: EmbeddedKafka) -> None:
    sent = [str(number).encode() for number in range(200)]
    await _send(bus.address, sent)
    assert await _read(bus.address, len(sent)) == sent


async def test_a_client_in_another_process_reaches_it(bus: EmbeddedKafka) -> None:
    script = (
        "import sys; from confluent_kafka import Producer\n"
        "producer = Producer({'bootstrap.servers': sys.argv[1], 'acks': 'all'})\n"
        "producer.produce('letters', b'from outside', partition=0); sys.exit(producer.flush(30))\n"
    )
    subprocess.run([sys.executable, "-c", script, bus.address], check=True, timeout=60)
    assert await _read(bus.address, 1) == [b"from outside"]


async def test_a_topic_appears_with_four_partitions_on_its_first_use(bus: EmbeddedKafka) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bus.address)
    await producer.start()
    try:
        assert await producer.partitions_for("unheard_of") == {0, 1, 2, 3}
    finally:
        await producer.stop()


async def test_each_start_is_a_new_log_with_another_id(bus: EmbeddedKafka) -> None:
    first = bus.id
    await _send(bus.address, [b"lost with the bus"])
    bus.stop()
    bus.start()
    assert bus.id != first
    await _send(bus.address, [b"new"])
    assert await _read(bus.address, 1) == [b"new"]


def test_starting_and_stopping_twice_is_once(bus: EmbeddedKafka) -> None:
    address, identity = bus.address, bus.id
    assert (bus.start(), bus.id) == (address, identity)
    bus.stop()
    bus.stop()


def test_two_buses_are_two() -> None:
    with EmbeddedKafka() as one, EmbeddedKafka() as other:
        assert one.address != other.address
        assert one.id != other.id


def test_a_stopped_bus_has_no_address() -> None:
    with pytest.raises(EmbeddedKafkaFailed, match=r"start\(\)"):
        _ = EmbeddedKafka().address


async def _send(address: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for acknowledged in [await producer.send("letters", value, partition=0) for value in values]:
            await acknowledged
    finally:
        await producer.stop()


async def _read(address: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, fetch_max_wait_ms=5, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition("letters", 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
