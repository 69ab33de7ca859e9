"""Questions to the cluster: which broker is asked, and what counts as an answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, Final

import pytest
from confluent_kafka import TopicCollection

from sagabus.messaging.bus import topic_admin
from sagabus.messaging.bus.kafka_connection import KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.bus.topic_metadata import TopicMetadataAnswer, Uuid
from tests.messaging.clusters import real_kafka
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port

API_VERSIONS: Final = 18
METADATA: Final = 3

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeBroker:
    """What it says to each kind of question; it says nothing to one for which it has no answer."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self._answers = answers
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                kind, _, correlation = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                if answer := self._answers.get(kind):
                    writer.write(struct.pack(">ii", len(answer) + 4, correlation) + answer)
        except asyncio.IncompleteReadError:
            writer.close()


VERSIONS: Final = struct.pack(">hi", 0, 1) + struct.pack(">hhh", METADATA, 0, 12)


def metadata(*, brokers: list[tuple[Any, ...]], topics: list[tuple[Any, ...]]) -> bytes:
    answer = TopicMetadataAnswer(0, brokers, "a cluster", -1, topics, 0, {})
    return b"\0" + bytes(answer.encode())  # the head of a flexible answer has tags, here none


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", port := free_port())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()


async def test_a_broker_that_does_not_know_its_cluster_yet_gives_no_answer() -> None:
    """It has just begun, and says of every topic that there is none (S6). librdkafka ends its process here."""
    unknown: tuple[object, ...] = (3, "orders", Uuid.decode(BytesIO(bytes(16))), False, [], 0, {})
    begun = FakeBroker({API_VERSIONS: VERSIONS, METADATA: metadata(brokers=[], topics=[unknown])})
    async with listening(begun.serve) as address:
        kafka = real_kafka(address)
        for question in (kafka.topics(["orders"]), kafka.topics(), kafka.cluster_id(), kafka.ping()):
            with pytest.raises(KafkaUnreachable, match="does not know its own cluster yet"):
                await question


async def test_a_kafka_without_topic_ids_is_refused_with_the_cure() -> None:
    old = FakeBroker({API_VERSIONS: struct.pack(">hi", 0, 1) + struct.pack(">hhh", METADATA, 0, 9)})
    async with listening(old.serve) as address:
        with pytest.raises(KafkaRefused, match=f"{address} has no version .* use Kafka 2.8 or a later one"):
            await real_kafka(address).topics(["orders"])


@pytest.mark.parametrize("answer", [b"\0\1", b"\xff" * 64, b"\0"])
async def test_an_answer_that_cannot_be_read_is_none(answer: bytes) -> None:
    odd = FakeBroker({API_VERSIONS: VERSIONS, METADATA: answer})
    async with listening(odd.serve) as address:
        with pytest.raises(KafkaUnreachable, match=address):
            await real_kafka(address).topics(["orders"])


async def test_a_broker_that_says_nothing_is_passed_over_and_asked_last(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_admin, "PING_SECONDS", 0.5)
    silent = FakeBroker({})
    async with listening(silent.serve) as address:
        both = real_kafka(f"{address},{kafka}")
        with pytest.raises(KafkaUnreachable):
            await real_kafka(address).ping()
        for _ in range(3):
            await both.ping()
    assert silent.connections == 2, "once alone, once before the other was known to answer"


async def test_topic_ids_are_those_of_other_clients(kafka: str, kafka_broker: KafkaBroker, namespace: str) -> None:
    """They are stored: what an earlier release has written must be found again."""
    names = [f"{namespace}.{number}" for number in range(20)]
    made = await real_kafka(kafka).create_topics(dict.fromkeys(names, TopicSpec(1)))
    admin = kafka_broker.admin()  # held: dropping it ends what it was asked for
    described = admin.describe_topics(TopicCollection(names))
    assert {name: str(future.result(10).topic_id) for name, future in described.items()} == {
        name: topic.id for name, topic in made.items()
    }
