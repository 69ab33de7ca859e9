"""Compressed batches: what is small on the wire and huge once unpacked fills no memory, and stops no partition."""

from __future__ import annotations

import struct

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import snappy_encode
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record import default_records
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from sagabus.contracts.headers import CUT_BATCH
from sagabus.messaging.bus import lenient_fetch
from sagabus.messaging.bus.bounded_codecs import MOST_UNPACKED, BatchTooLarge, bounded
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.subscription import Subscription
from tests.messaging.clusters import Listener, message, publish, running
from tests.messaging.test_shard_consumer import given, next_of, reading
from tests.support.conditions import until

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PLACE = TopicPartition("in", 0)


def batch(codec: str, *values: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=CODECS[codec], is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=2**30,
    )  # fmt: skip
    for offset, value in enumerate(values):
        builder.append(offset, timestamp=1, key=None, value=value, headers=[])
    return bytes(builder.build())


def values(data: bytes, kind: type = DefaultRecordBatch) -> list[bytes]:
    return [record.value for record in kind(data)]


@pytest.mark.parametrize("kind", [DefaultRecordBatch, default_records._DefaultRecordBatchPy], ids=["C", "Python"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_unpacked_within_bounds_and_as_ever_by_other_clients(codec: str, kind: type) -> None:
    ordinary = [b"abc" * 300, bytes(range(256)) * 40, b"", b"\0" * 5_000_000]
    bomb = batch(codec, bytes(MOST_UNPACKED + 1))
    assert len(bomb) < 2_000_000
    with bounded():
        assert values(batch(codec, *ordinary), kind) == ordinary
        with pytest.raises(BatchTooLarge):
            values(bomb, kind)
    large = batch(codec, bytes(MOST_UNPACKED // 2))
    with bounded():
        values(large, kind)
        with pytest.raises(BatchTooLarge):
            values(large, kind)
    assert values(bomb, kind) == [bytes(MOST_UNPACKED + 1)], "a client of the program that we are a part of"


def test_snappy_blocks_that_would_never_end_are_refused() -> None:
    data = batch("snappy", b"abc" * 300)
    framed = data[:61] + snappy_encode(b"x" * 100)[:16] + struct.pack("!i", -4) + b"\0" * 100
    with bounded(), pytest.raises(ValueError, match="a block of -4 bytes"):
        values(framed)


def test_a_batch_of_the_old_format_that_is_too_large_has_a_stand_in_too() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=1, batch_size=2**30)
    builder.append(0, timestamp=1, key=None, value=b"a")
    small = bytes(builder.build())
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=1, batch_size=2**30)
    builder.append(0, timestamp=1, key=None, value=bytes(MOST_UNPACKED + 1))
    large = bytearray(builder.build())
    struct.pack_into(">q", large, 0, 1)
    batches = lenient_fetch._Batches(small + large, lenient_fetch._Room())
    found = list(PartitionRecords(PLACE, batches, None, 0, None, None, True, READ_COMMITTED))
    assert [(record.offset, record.value, [*dict(record.headers)]) for record in found] == [
        (0, b"a", []), (1, None, [CUT_BATCH]),
    ]  # fmt: skip


async def publish_compressed(cluster: Kafka, place: TopicPartition, *values: bytes) -> None:
    """As one batch."""
    producer = AIOKafkaProducer(
        **cluster.connection.aiokafka, compression_type="zstd", max_batch_size=2**30, max_request_size=2**30
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            batch.append(timestamp=5, key=None, value=value)
        await (await producer.send_batch(batch, place.topic, partition=place.partition))
    finally:
        await producer.stop()


async def test_a_batch_that_is_too_large_stops_nothing_and_is_told_of_once(cluster: Kafka, namespace: str) -> None:
    place = await given(cluster, namespace, 0, 1)
    await publish_compressed(cluster, place, b"2", bytes(MOST_UNPACKED), b"4")
    await publish(cluster, message(namespace, 5), message(namespace, 100, partition=1))
    listener = Listener()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await until(lambda: len(listener.records) == 5, what="all is read")
        await publish(cluster, message(namespace, 6))
        await until(lambda: listener.read[-1:] == [6], what="reading goes on")
    read = [(record.offset, record.value) for record in listener.records if record.partition == 0]
    assert read == [(0, b"0"), (1, b"1"), (4, None), (5, b"5"), (6, b"6")]
    (name, words) = listener.records[[record.value for record in listener.records].index(None)].headers[0]
    assert name == CUT_BATCH
    assert b"the batch of the offsets 2 to 4 was not unpacked" in words


async def test_batches_that_are_too_large_together_are_read_one_after_the_other(
    embedded: Kafka, namespace: str
) -> None:
    place = await given(embedded, namespace)
    large = b"%d" + b" " * (MOST_UNPACKED * 2 // 5)
    for number in range(6):
        await publish_compressed(embedded, place, large % number)
    read: list[int] = []
    async with reading(embedded, place) as consumer:
        consumer.place({place: 0})
        while len(read) < 6:
            read += await next_of(consumer, place)
    assert read == [*range(6)]
