"""What the client writes, as any other consumer finds it on a real broker."""

from __future__ import annotations

import json
from collections.abc import Sequence

import aiokafka

from sagabus.client import SagaClient
from sagabus.contracts.envelope import Record
from sagabus.contracts.requests import read_request
from sagabus.messaging.bus.partition import partition_of
from sagabus.shop.approval import Expense, decided, expense_approval
from tests.support.kafka_broker import KafkaBroker


async def records(address: str, topic: str, count: int) -> Sequence[Record]:
    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_s12_requests_lie_in_the_partition_of_their_sagas_shard(
    kafka_broker: KafkaBroker, kafka: str, namespace: str
) -> None:
    topic, ids = f"{namespace}.requests", [f"EXP-{number}" for number in range(40)]
    kafka_broker.create_topics(topic, partitions=6)
    async with SagaClient(kafka, namespace=namespace) as client:
        for id in ids:
            await client.start(expense_approval(expense_id=id, approver="ann", manager="max"), id=id)
            await client.send(id, decided(approved=True, by="ann"), event_id=f"{id}-decision")
            await client.cancel(id, reason="enough")
    found = await records(kafka, topic, 3 * len(ids))
    assert {record.partition for record in found} == {partition_of(id.encode(), 6) for id in ids}
    for record in found:
        assert record.partition == partition_of(record.key or b"", 6)
        headers = dict(record.headers)
        assert headers["ce_source"] == b"/sagabus/client"
        assert headers["ce_subject"] == record.key
        request = read_request(record)
        assert request.saga_id.encode() == record.key
    of_one = [record for record in found if record.key == b"EXP-7"]
    assert [read_request(record).type for record in of_one] == ["start", "event", "cancel"]
    started = json.loads(of_one[0].value or b"")
    assert Expense.model_validate(started["input"]) == Expense(expense_id="EXP-7", approver="ann", manager="max")
    assert read_request(of_one[1]).dedupe == "EXP-7-decision"
