"""The producer on a real broker, and where it matters on the embedded bus: order, acknowledgement, refusal, failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition, errors

from sagabus.contracts.envelope import MAX_PAYLOAD, Message
from sagabus.messaging.bus import sender
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.kafka_refusals import REFUSALS
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.bus.record_batch import RecordBatch
from sagabus.messaging.bus.sender import BATCH_BYTES, Sender
from sagabus.messaging.bus.topic_admin import TopicSpec
from tests.messaging.clusters import message, numbers, read, real_kafka
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker


@pytest.fixture
async def producer(real: Kafka) -> AsyncIterator[BatchProducer]:
    made = real.producer()
    await made.start()
    yield made
    await made.stop()


async def test_order_within_a_partition_over_many_batches(cluster: Kafka, namespace: str) -> None:
    await cluster.create_topics({namespace: TopicSpec(4)})
    producer = cluster.producer()
    await producer.start()
    count, size = 2_000, 1_000
    sent = [message(namespace, number, partition=number % 3, size=size) for number in range(count)]
    await producer.publish(sent)
    assert count * size / 3 > 2 * BATCH_BYTES, "several batches for each partition"
    found = await read(cluster, namespace)
    assert {place: numbers(records) for place, records in found.items()} == {
        place: list(range(place, count, 3)) for place in range(3)
    }
    await producer.stop()


async def test_record_is_written_as_it_was_given(cluster: Kafka, namespace: str) -> None:
    await cluster.create_topics({namespace: TopicSpec(4)})
    producer = cluster.producer()
    await producer.start()
    headers = (("a", b"1"), ("a", b"\xff\xfe"), ("empty", b""))
    await producer.publish(
        [Message.of(namespace, None, None, headers, "S", 1), Message.of(namespace, b"", b"", (), "S", 1)]
    )
    first, second = (await read(cluster, namespace))[1]
    assert (first.key, first.value, first.headers) == (None, None, headers)
    assert (second.key, second.value, second.headers) == (b"", b"", ())
    await producer.stop()


async def test_without_a_partition_the_key_decides(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(12)})
    keys = [f"ORD-{number}".encode() for number in range(50)]
    await producer.publish([Message.of(namespace, key, b"0", (), "S") for key in keys])
    await producer.publish([Message.of(namespace, None, b"1", (), "S")])
    for place, records in (await read(real, namespace)).items():
        assert {partition_of(record.key or b"S", 12) for record in records} == {place}


async def test_partition_counts_modulo_those_of_the_topic(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(4)})
    await producer.publish([message(namespace, number, partition=number) for number in range(12)])
    found = await read(real, namespace)
    assert {place: numbers(records) for place, records in found.items()} == {
        place: list(range(place, 12, 4)) for place in range(4)
    }


async def test_several_tasks_publish_at_once(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(2)})

    async def publish(partition: int) -> None:
        for start in range(0, 1000, 100):
            await producer.publish([message(namespace, n, partition=partition) for n in range(start, start + 100)])

    await asyncio.gather(publish(0), publish(1))
    found = await read(real, namespace)
    assert [numbers(found[place]) for place in (0, 1)] == [list(range(1000))] * 2


async def test_payload_over_900_kib_is_refused_before_anything_is_sent(
    real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    await real.create_topics({namespace: TopicSpec(1)})
    largest, larger = message(namespace, 1, size=MAX_PAYLOAD), message(namespace, 2, size=MAX_PAYLOAD + 1)
    with pytest.raises(PublishRefused, match=r"921,601 bytes, 921,600 are allowed") as caught:
        await producer.publish([message(namespace, 0), larger])
    assert caught.value.message is larger
    assert caught.value.reason is Reason.TOO_LARGE
    await producer.publish([largest])
    assert numbers((await read(real, namespace))[0]) == [1]


async def test_topic_that_does_not_exist_is_refused(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(1)})
    lost = message(f"{namespace}.missing", 1)
    with pytest.raises(PublishRefused) as caught:
        await producer.publish([message(namespace, 0), lost])
    assert (caught.value.message, caught.value.reason) == (lost, Reason.UNKNOWN_TOPIC)
    await producer.publish([message(namespace, 5)])
    assert numbers((await read(real, namespace))[0]) == [5]
    assert f"{namespace}.missing" not in await real.topics()


async def test_topic_made_after_it_was_missed_is_found(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({f"{namespace}.other": TopicSpec(1)})
    with pytest.raises(PublishRefused):
        await producer.publish([message(namespace, 1)])
    await real.create_topics({namespace: TopicSpec(1)})
    await producer.publish([message(namespace, 2)])


async def test_s8_a_topic_that_was_deleted_is_found_out_before_everybodys_patience_ends(
    kafka_broker: KafkaBroker, real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    """aiokafka knows it, and tries again and again. The producer goes on, and so do those who share it."""
    gone, other = f"{namespace}.gone", f"{namespace}.other"
    await real.create_topics({gone: TopicSpec(1), other: TopicSpec(1)})
    await producer.publish([message(gone, 1)])
    kafka_broker.delete_topics(gone)
    lost = [message(gone, number) for number in (2, 3)]
    with pytest.raises(PublishRefused) as caught:
        await producer.publish([*lost, message(other, 4)])
    assert (caught.value.message, caught.value.reason) == (lost[0], Reason.UNKNOWN_TOPIC)
    assert caught.value.topic == gone
    await producer.publish([message(other, 5)])
    assert numbers((await read(real, other))[0]) in ([5], [4, 5])  # the first, if it was found out before it was sent


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.TopicAuthorizationFailedError, Reason.NOT_AUTHORISED),
        (errors.MessageSizeTooLargeError, Reason.TOO_LARGE),
        (errors.PolicyViolationError, Reason.INVALID),
    ],
)
def test_s8_what_kafka_will_never_take_is_told_by_its_error(error: type[Exception], reason: Reason) -> None:
    """By its class alone: the tests' broker lets everybody do everything."""
    assert REFUSALS[error] is reason
    whole = reason is Reason.NOT_AUTHORISED
    assert PublishRefused(message("t", 1), reason, "…").topic == ("t" if whole else None)


@pytest.mark.parametrize(
    "error", [errors.NotLeaderForPartitionError, errors.RequestTimedOutError, errors.ClusterAuthorizationFailedError]
)
def test_s8_what_may_be_otherwise_tomorrow_parks_nothing(error: type[Exception]) -> None:
    assert error not in REFUSALS


async def test_s6_an_empty_bus_is_waited_for_until_its_topics_are_made(
    own_broker: KafkaBroker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken the place of another: that no topic is there is no fault of the message."""
    monkeypatch.setattr(sender, "TOPIC_APPEARS_SECONDS", 0)
    own_broker.wipe()
    kafka = real_kafka(own_broker.address)
    producer = kafka.producer()
    await producer.start()
    sending = asyncio.create_task(producer.publish([message(namespace, 1)]))
    assert not (await asyncio.wait([sending], timeout=0.5))[0], "it was refused"
    await kafka.create_topics({namespace: TopicSpec(1)})
    await sending
    assert numbers((await read(kafka, namespace))[0]) == [1]
    await producer.stop()


async def test_s8_message_that_only_this_topic_refuses_is_found(
    real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    """Of a hundred in a batch one is larger than the topic allows: those before it go out once, those after it wait."""
    small, other = f"{namespace}.small", f"{namespace}.other"
    await real.create_topics({small: TopicSpec(1, config={"max.message.bytes": "5000"}), other: TopicSpec(1)})
    sent = [message(small, number, size=6000 if number == 41 else 10) for number in range(100)]
    with pytest.raises(PublishRefused) as caught:
        await producer.publish([*sent, message(other, 7)])
    assert caught.value.message is sent[41]
    assert caught.value.reason is Reason.TOO_LARGE
    assert numbers((await read(real, small))[0]) == list(range(41))

    async def other_is_there() -> bool:  # it may be under way still: the refusal ends the call
        return numbers((await read(real, other))[0]) == [7]

    await until(other_is_there)
    await producer.publish(sent[42:])
    assert numbers((await read(real, small))[0]) == [n for n in range(100) if n != 41]


async def test_batch_that_is_too_large_only_together_goes_out_in_parts(
    real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    await real.create_topics({namespace: TopicSpec(1, config={"max.message.bytes": "5000"})})
    await producer.publish([message(namespace, number, size=1000) for number in range(100)])
    assert numbers((await read(real, namespace))[0]) == list(range(100))


async def test_s8_record_that_a_compacted_topic_refuses(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(1, config={"cleanup.policy": "compact"})})
    keyless = message(namespace, 1, key=None)
    with pytest.raises(PublishRefused) as caught:
        await producer.publish([message(namespace, 0), keyless, message(namespace, 2)])
    assert caught.value.message is keyless
    assert caught.value.reason is Reason.INVALID


async def test_refusal_of_one_task_does_not_disturb_another(
    real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    good, small = f"{namespace}.good", f"{namespace}.small"
    await real.create_topics({good: TopicSpec(1), small: TopicSpec(1, config={"max.message.bytes": "1000"})})

    async def refused() -> None:
        for number in range(5):
            with pytest.raises(PublishRefused):
                await producer.publish([message(small, number), message(small, number, size=2000)])

    async def published() -> None:
        for start in range(0, 500, 10):
            await producer.publish([message(good, number) for number in range(start, start + 10)])

    await asyncio.gather(refused(), published())
    assert numbers((await read(real, good))[0]) == list(range(500))


async def test_nothing_overtakes_a_refused_batch(real: Kafka, producer: BatchProducer, namespace: str) -> None:
    """A broker that does not know a producer yet takes any sequence number: a second batch must not be sent already."""
    await real.create_topics({namespace: TopicSpec(1, config={"max.message.bytes": "300000"})})
    large = message(namespace, 0, size=BATCH_BYTES * 2)
    with pytest.raises(PublishRefused) as caught:
        await producer.publish([large, *(message(namespace, number) for number in range(1, 9))])
    assert caught.value.message is large
    assert await read(real, namespace) == {}


async def test_kafka_that_goes_away_fails_what_is_published_then_and_nothing_else(
    own_broker: KafkaBroker, namespace: str
) -> None:
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(1)})
    producer = BatchProducer(cluster.connection, timeout=1)
    await producer.start()
    await producer.publish([message(namespace, 0)])
    own_broker.kill()
    with pytest.raises(PublishFailed):
        await producer.publish([message(namespace, 1)])
    with pytest.raises(KafkaUnreachable):
        await producer.publish([message(namespace, 2)])
    own_broker.start()
    await producer.publish([message(namespace, 3)])
    await producer.stop()
    assert numbers((await read(cluster, namespace))[0]) == [0, 3], "what was given up is not sent later"
    with pytest.raises(PublishFailed, match="was stopped: make another one"):
        await producer.publish([message(namespace, 4)])


async def test_short_absence_of_kafka_is_outlived(own_broker: KafkaBroker, namespace: str) -> None:
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(1)})
    producer = BatchProducer(cluster.connection, timeout=60)
    await producer.start()
    own_broker.kill()
    publishing = asyncio.create_task(producer.publish([message(namespace, number) for number in range(10)]))
    await asyncio.to_thread(own_broker.start)
    await publishing
    await producer.stop()
    assert numbers((await read(cluster, namespace))[0]) == list(range(10))


async def test_s2_cancelled_publishing_begins_no_further_batch(own_broker: KafkaBroker, namespace: str) -> None:
    """What is under way may arrive; what waits behind it in the same call does not."""
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(1)})
    producer = cluster.producer()
    await producer.start()
    await producer.publish([message(namespace, 0)])
    own_broker.process.pause()
    large = [message(namespace, number, size=BATCH_BYTES) for number in range(1, 4)]
    publishing = asyncio.create_task(producer.publish(large))
    await until(lambda: under_way(producer), what="the first batch is under way")
    publishing.cancel()
    await asyncio.wait([publishing])
    own_broker.process.resume()
    await producer.publish([message(namespace, 9)])
    await producer.stop()
    assert numbers((await read(cluster, namespace))[0]) == [0, 1, 9]


async def test_what_is_asked_for_at_once_travels_together(
    real: Kafka, producer: BatchProducer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 calls for two partitions: a batch a call would be 5,000, and aiokafka gives up on most of them."""
    await real.create_topics({namespace: TopicSpec(2)})
    sent: list[int] = []

    def counting(self: AIOKafkaProducer, batch: RecordBatch, topic: str, *, partition: int) -> Any:
        sent.append(batch.record_count())
        return send(self, batch, topic, partition=partition)

    send = AIOKafkaProducer.send_batch
    monkeypatch.setattr(AIOKafkaProducer, "send_batch", counting)
    await asyncio.gather(*(producer.publish([message(namespace, n, partition=n % 2)]) for n in range(5_000)))
    found = await read(real, namespace)
    assert [numbers(found[place]) for place in (0, 1)] == [list(range(0, 5_000, 2)), list(range(1, 5_000, 2))]
    assert sum(sent) == 5_000
    assert len(sent) < 50


async def test_s8_refused_messages_among_those_of_others_harm_nobody(
    real: Kafka, producer: BatchProducer, namespace: str
) -> None:
    """One in fifty is larger than its topic allows: it alone is refused, the others are published once, in order."""
    await real.create_topics({namespace: TopicSpec(1, config={"max.message.bytes": "5000"})})
    calls = [producer.publish([message(namespace, n, size=6000 if n % 50 == 25 else 10)]) for n in range(200)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    refused = [number for number, end in enumerate(ends) if end is not None]
    assert refused == [25, 75, 125, 175]
    assert all(isinstance(ends[number], PublishRefused) for number in refused)
    assert numbers((await read(real, namespace))[0]) == [number for number in range(200) if number not in refused]


async def test_missing_topic_is_looked_up_once_for_all_who_ask(
    real: Kafka, producer: BatchProducer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.create_topics({namespace: TopicSpec(1)})
    looks = 0

    async def counting(self: Sender) -> set[str]:
        nonlocal looks
        looks += 1
        return await look(self)

    look = Sender._topics
    monkeypatch.setattr(Sender, "_topics", counting)
    calls = [producer.publish([message(f"{namespace}.missing", n)]) for n in range(1_000)]
    ends = await asyncio.gather(*calls, producer.publish([message(namespace, 1)]), return_exceptions=True)
    assert ends.pop() is None, "another topic is not waited for longer than it takes to find"
    assert all(isinstance(end, PublishRefused) and end.reason is Reason.UNKNOWN_TOPIC for end in ends)
    assert looks < 100


async def test_s2_batch_that_fails_takes_nobody_else_along(own_broker: KafkaBroker, namespace: str) -> None:
    """What waits behind a batch of unknown fate, and in other partitions, is published by the same producer."""
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(2)})
    producer = cluster.producer()
    await producer.start()
    await producer.publish([message(namespace, 0), message(namespace, 0, partition=1)])
    own_broker.process.pause()
    first = asyncio.create_task(producer.publish([message(namespace, 1)]))
    other = asyncio.create_task(producer.publish([message(namespace, 1, partition=1)]))
    await until(lambda: under_way(producer), what="both batches are under way")
    behind = asyncio.create_task(producer.publish([message(namespace, 2)]))
    await asyncio.sleep(0)
    _spoil(producer, namespace)
    with pytest.raises(PublishFailed):
        await first
    own_broker.process.resume()
    await asyncio.gather(other, behind)
    await producer.stop()
    found = await read(cluster, namespace)
    assert numbers(found[0])[-1] == 2
    assert numbers(found[1]) == [0, 1]


def _spoil(producer: BatchProducer, topic: str) -> None:
    """The batch of partition 0 that is under way fails, as by an error that aiokafka does not recover from."""
    sender = producer._senders._current
    assert sender is not None
    for batch in sender._producer._message_accumulator._pending_batches:
        if batch.tp == TopicPartition(topic, 0):
            batch.failure(errors.OutOfOrderSequenceNumber())


async def test_many_callers_while_kafka_is_away_all_hear_of_it_and_later_ones_are_served(
    own_broker: KafkaBroker, namespace: str
) -> None:
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(4)})
    producer = BatchProducer(cluster.connection, timeout=1)
    await producer.publish([message(namespace, 0, partition=place) for place in range(4)])
    own_broker.kill()
    calls = [producer.publish([message(namespace, n, partition=n % 4)]) for n in range(1, 2_001)]
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} <= {PublishFailed, KafkaUnreachable}
    own_broker.start()
    await asyncio.gather(*(producer.publish([message(namespace, n, partition=n % 4)]) for n in range(3_000, 4_000)))
    await producer.stop()
    found = await read(cluster, namespace)
    assert sorted(number for records in found.values() for number in numbers(records) if number >= 3_000) == [
        *range(3_000, 4_000)
    ]


def under_way(producer: BatchProducer) -> bool:
    sender = producer._senders._current
    return bool(sender and sender._producer._message_accumulator._pending_batches)


async def test_stop_publishes_what_was_asked_for_before(
    real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the calls that still wait to hear which partitions the topic has."""
    await real.create_topics({namespace: TopicSpec(4)})
    producer = real.producer()
    await producer.start()
    answer, look_up = asyncio.Event(), Sender.partitions

    async def slow(sender: Sender, topic: str) -> int:
        await answer.wait()
        return await look_up(sender, topic)

    monkeypatch.setattr(Sender, "partitions", slow)
    calls = [asyncio.create_task(producer.publish([message(namespace, number)])) for number in range(100)]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(producer.stop())
    await asyncio.sleep(0)
    answer.set()
    await stopping
    await asyncio.gather(*calls)
    found = (await read(real, namespace)).values()
    assert sorted(number for records in found for number in numbers(records)) == list(range(100))


async def test_stop_does_not_wait_for_a_kafka_that_is_away(own_broker: KafkaBroker) -> None:
    producer = real_kafka(own_broker.address).producer()
    await producer.start()
    own_broker.kill()
    async with asyncio.timeout(20):
        await producer.stop()
        await producer.stop()
    await until(lambda: len(asyncio.all_tasks()) == 1, within=5, what="no task of the producer is left")


async def test_stop_fails_what_is_under_way_to_a_silent_kafka(own_broker: KafkaBroker, namespace: str) -> None:
    """The batch was sent without a task, and its answer never comes: its caller must hear of the end all the same."""
    cluster = real_kafka(own_broker.address)
    await cluster.create_topics({namespace: TopicSpec(1)})
    producer = cluster.producer()
    await producer.publish([message(namespace, 0)])
    own_broker.process.pause()
    tasks = asyncio.all_tasks()
    publishing = asyncio.create_task(producer.publish([message(namespace, 1)]))
    behind = asyncio.create_task(producer.publish([message(namespace, 2)]))
    await asyncio.sleep(0)  # both have run as far as they can
    ours = {task.get_name() for task in asyncio.all_tasks() - tasks - {publishing, behind}}
    assert not any(name.startswith("sagabus publishing") for name in ours)
    await until(lambda: under_way(producer), what="the first batch is under way")
    async with asyncio.timeout(30):
        await producer.stop()
        with pytest.raises(PublishFailed, match="not known to be published"):
            await publishing
        with pytest.raises(KafkaUnreachable, match="not published"):
            await behind
    own_broker.process.resume()
