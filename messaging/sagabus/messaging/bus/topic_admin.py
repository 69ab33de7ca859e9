"""Topics and the cluster's id, asked through librdkafka: aiokafka's Metadata version has no topic ids.

A topic that was deleted and made again is another topic under the same name, and only its id says so (S6).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from sagabus.messaging.bus.admin_clients import REQUEST_TIMEOUT, AdminClients
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaRefused, KafkaUnreachable

PING_SECONDS: Final = 2.5
"""For an answer that says no more than that Kafka is there."""

INTERNAL: Final = "__"
"""How Kafka's own topics begin."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is. A topic that was deleted and made again has another id."""

    name: str
    id: str
    partitions: int
    replicas: int = 1
    """Of the partition that has the fewest."""
    behind: int = 0
    """Partitions whose replicas are not all in step."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be made. `config` is Kafka's: `{"retention.ms": "604800000"}`."""

    partitions: int
    replication: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicPolicy:
    """What Kafka does with old records: cleanup is `delete`, `compact` or both; kept in seconds, None without end."""

    compacts: bool
    kept: float | None


class TopicAdmin:
    """All methods raise KafkaUnreachable or KafkaRefused. Not for the embedded bus, which knows none of this."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._clients = AdminClients(connection.librdkafka)
        weakref.finalize(self, self._clients.retire).atexit = False

    async def cluster_id(self) -> str:
        with self._translated() as client:
            described = await asyncio.wrap_future(client.describe_cluster(request_timeout=REQUEST_TIMEOUT))
        return str(described.cluster_id)

    async def names(self) -> list[str]:
        """Of all topics but Kafka's own."""
        with self._translated() as client:
            listed = await asyncio.to_thread(client.list_topics, timeout=REQUEST_TIMEOUT)
        return [name for name in listed.topics if not name.startswith(INTERNAL)]

    async def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Those of these topics that there are."""
        if not names:
            return {}
        with self._translated() as client:
            asked = client.describe_topics(TopicCollection([*names]), request_timeout=REQUEST_TIMEOUT)
            found = await asyncio.gather(*(_described(name, future) for name, future in asked.items()))
        return {topic.name: topic for topic in found if topic}

    async def ping(self) -> None:
        """By a client that is kept whatever it says: it connects again by itself."""
        client = self._clients.current()
        try:
            await asyncio.wrap_future(client.describe_cluster(request_timeout=PING_SECONDS))
        except KafkaException as error:
            raise _ours(error, self._connection.address) from error

    async def retention(self, names: Collection[str]) -> dict[str, float | None]:
        """Seconds that each of these topics, which exist, keeps its records; None: without end."""
        return {name: policy.kept for name, policy in (await self.policies(names)).items()}

    async def policies(self, names: Collection[str]) -> dict[str, TopicPolicy]:
        """Of these topics, which exist.

        Where the rights to read it are missing (DESCRIBE_CONFIGS on the topic), the topic is left out.
        """
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not asked:
            return {}
        with self._translated() as client:
            futures = client.describe_configs(asked, request_timeout=REQUEST_TIMEOUT)
            found = await asyncio.gather(*(_policy(resource.name, future) for resource, future in futures.items()))
        return dict(filter(None, found))

    async def create(self, specs: Mapping[str, TopicSpec]) -> None:
        """Those that there are stay as they are. Clients may learn of the new ones a moment later."""
        if not specs:
            return
        topics = [
            NewTopic(name, num_partitions=spec.partitions, replication_factor=spec.replication, config={**spec.config})
            for name, spec in specs.items()
        ]
        with self._translated() as client:
            asked = client.create_topics(topics, request_timeout=REQUEST_TIMEOUT)
            await asyncio.gather(*(_created(name, future) for name, future in asked.items()))

    @contextmanager
    def _translated(self) -> Iterator[AdminClient]:
        """The client is kept, since connecting takes 70 ms; not after an error, when what it knows may be outdated."""
        client = self._clients.current()
        try:
            yield client
        except KafkaException as error:
            self._clients.replace(client)
            raise _ours(error, self._connection.address) from error


def _ours(error: KafkaException, address: str) -> KafkaRefused | KafkaUnreachable:
    code = _code(error)
    if code.code() in (KafkaError._AUTHENTICATION, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
        return KafkaRefused(f"Kafka at {address} refuses us: {code.str()}")
    return KafkaUnreachable(f"Kafka at {address} is out of reach: {code.str()}")


async def _described(name: str, future: Future[Any]) -> TopicInfo | None:
    try:
        topic = await asyncio.wrap_future(future)
    except KafkaException as error:
        if _code(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    replicas = [len(partition.replicas) for partition in topic.partitions]
    behind = sum(len(partition.isr) < len(partition.replicas) for partition in topic.partitions)
    return TopicInfo(name, str(topic.topic_id), len(replicas), min(replicas, default=0), behind)


async def _policy(name: str, future: Future[Any]) -> tuple[str, TopicPolicy] | None:
    try:
        config = await asyncio.wrap_future(future)
    except KafkaException as error:
        if _code(error).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return None
        raise
    cleanup = config["cleanup.policy"].value
    milliseconds = int(config["retention.ms"].value) if "delete" in cleanup else -1
    return name, TopicPolicy("compact" in cleanup, None if milliseconds < 0 else milliseconds / 1000)


async def _created(name: str, future: Future[Any]) -> None:
    try:
        await asyncio.wrap_future(future)
    except KafkaException as error:
        code = _code(error)
        if code.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        if code.code() < 0:  # librdkafka's own: Kafka has not answered
            raise
        raise KafkaRefused(f"topic {name} cannot be made: {code.str()}") from error


def _code(error: KafkaException) -> KafkaError:
    code = error.args[0]
    assert isinstance(code, KafkaError)
    return code
