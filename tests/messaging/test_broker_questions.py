"""Questions to the cluster: which broker is asked, and what counts as an answer."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, Final

import pytest
from confluent_kafka import TopicCollection

from sagabus.messaging.bus import broker_questions, topic_admin
from sagabus.messaging.bus.kafka_connection import KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.bus.topic_metadata import TopicMetadataAnswer, Uuid
from tests.messaging.clusters import real_kafka
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port

API_VERSIONS: Final = 18
METADATA: Final = 3

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeBroker:
    """What it says to each kind of question; it says nothing to one for which it has no answer.

    patience: it closes a connection when it is asked more on it, versions included.
    """

    def __init__(self, answers: dict[int, bytes], *, patience: int = 1_000) -> None:
        self._answers = answers
        self._patience = patience
        self.connections = 0
        self.open = 0
        self.asked: list[int] = []
        self.hush = False
        """It says nothing at all now."""
        self._writers: set[asyncio.StreamWriter] = set()

    def end(self) -> None:
        """As the end of its process does."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            for _ in range(self._patience):
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                kind, _, correlation = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                self.asked.append(kind)
                if (answer := self._answers.get(kind)) and not self.hush:
                    writer.write(struct.pack(">ii", len(answer) + 4, correlation) + answer)
            await reader.readexactly(4)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()


ORDERS: Final[tuple[object, ...]] = (0, "orders", Uuid.decode(BytesIO(bytes(range(16)))), False, [], 0, {})
VERSIONS: Final = struct.pack(">hi", 0, 1) + struct.pack(">hhh", METADATA, 0, 12)


def metadata(*, brokers: list[tuple[Any, ...]], topics: list[tuple[Any, ...]]) -> bytes:
    answer = TopicMetadataAnswer(0, brokers, "a cluster", -1, topics, 0, {})
    return b"\0" + bytes(answer.encode())  # the head of a flexible answer has tags, here none


def broker_with(topics: list[tuple[Any, ...]], *, patience: int = 1_000) -> FakeBroker:
    """It knows itself, and these topics."""
    answers = {API_VERSIONS: VERSIONS, METADATA: metadata(brokers=[(1, "127.0.0.1", 1, None, {})], topics=topics)}
    return FakeBroker(answers, patience=patience)


@asynccontextmanager
async def listening(serve: Serve, port: int | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", port := port or free_port())
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


async def test_questions_share_a_connection_that_is_kept() -> None:
    broker = broker_with([])
    async with listening(broker.serve) as address:
        kafka = real_kafka(address)
        for _ in range(3):
            await kafka.topics(["orders"])
        assert broker.asked == [API_VERSIONS, METADATA, METADATA, METADATA]
        kafka.close_unused()
        await until(lambda: not broker.open)
        await kafka.ping()
        assert broker.connections == 2


async def test_questions_at_once_have_a_connection_each_and_one_is_kept() -> None:
    broker = broker_with([])
    async with listening(broker.serve) as address:
        kafka = real_kafka(address)
        await asyncio.gather(*(kafka.ping() for _ in range(4)))
        assert broker.connections == 4
        await until(lambda: broker.open == 1)


async def test_a_kept_connection_ends_when_nobody_has_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_questions, "KEEP_SECONDS", 0)
    broker = broker_with([])
    async with listening(broker.serve) as address:
        kafka = real_kafka(address)
        await kafka.ping()
        await until(lambda: not broker.open)
        await kafka.ping()


async def test_a_kept_connection_belongs_to_its_event_loop_and_ends_with_it(
    recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    broker = broker_with([])
    async with listening(broker.serve) as address:
        kafka = real_kafka(address)
        await kafka.ping()

        async def twice() -> None:
            await kafka.ping()
            await kafka.ping()

        for _ in range(2):
            await asyncio.to_thread(asyncio.run, twice())
        assert broker.connections == 3
        await until(lambda: broker.open == 1)
        gc.collect()
        await kafka.ping()
        assert broker.connections == 3
    assert not [str(each.message) for each in recwarn if each.category is ResourceWarning]
    assert not caplog.records


async def test_a_question_on_a_broken_connection_is_asked_once_more_and_nobody_notices(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broker that closes what it takes for idle, or wants a new login: it may do so when it is asked."""
    broker = broker_with([], patience=2)
    async with listening(broker.serve) as address:
        kafka = real_kafka(f"{address},127.0.0.1:{free_port()}")
        for _ in range(4):
            await kafka.ping()
        assert broker.asked == [API_VERSIONS, METADATA] * 4
    assert not caplog.records
    begun = FakeBroker({API_VERSIONS: VERSIONS}, patience=2)  # it never answers
    async with listening(begun.serve) as address:
        with pytest.raises(KafkaUnreachable, match=address):
            await real_kafka(address).ping()
    assert begun.asked == [API_VERSIONS, METADATA], "a new connection that fails is the broker's answer"


async def test_a_broker_that_was_started_anew_is_asked_on_a_new_connection() -> None:
    before, after, port = broker_with([]), broker_with([ORDERS]), free_port()
    kafka = real_kafka(f"127.0.0.1:{port}")
    async with listening(before.serve, port):
        assert await kafka.topics(["orders"]) == {}
    before.end()
    with pytest.raises(KafkaUnreachable):
        await kafka.topics(["orders"])
    async with listening(after.serve, port):
        assert [*await kafka.topics(["orders"])] == ["orders"]


@pytest.mark.parametrize("end", ["cancelled", "too late"])
async def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_admin, "PING_SECONDS", 0.2)
    broker = broker_with([])
    async with listening(broker.serve) as address:
        kafka = real_kafka(address)
        await kafka.ping()
        broker.hush = True
        asking = asyncio.create_task(kafka.ping())
        await until(lambda: len(broker.asked) == 3)
        if end == "cancelled":
            asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: not broker.open, what="the connection on which an answer is outstanding is closed")
        broker.hush = False
        await kafka.ping()
        assert broker.connections == 2


async def test_topic_ids_are_those_of_other_clients(kafka: str, kafka_broker: KafkaBroker, namespace: str) -> None:
    """They are stored: what an earlier release has written must be found again."""
    names = [f"{namespace}.{number}" for number in range(20)]
    made = await real_kafka(kafka).create_topics(dict.fromkeys(names, TopicSpec(1)))
    admin = kafka_broker.admin()  # held: dropping it ends what it was asked for
    described = admin.describe_topics(TopicCollection(names))
    assert {name: str(future.result(10).topic_id) for name, future in described.items()} == {
        name: topic.id for name, topic in made.items()
    }
