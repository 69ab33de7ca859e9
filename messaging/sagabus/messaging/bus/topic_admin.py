"""Topics and the cluster's id: asked, and made.

A topic that was deleted and made again is another topic under the same name, and only its id says so (S6).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    NoError,
    NotControllerError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest

from sagabus.messaging.bus.broker_questions import QUESTION_SECONDS, BrokerQuestions, Host
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.topic_metadata import TopicMetadata

PING_SECONDS: Final = 2.5
"""For an answer that says no more than that Kafka is there."""

INTERNAL: Final = "__"
"""How Kafka's own topics begin."""

TOPIC: Final = 2
"""The kind of resource that a topic is, in questions about settings."""

CLEANUP, RETENTION = "cleanup.policy", "retention.ms"


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

    def __init__(self, connection: KafkaConnection, questions: BrokerQuestions) -> None:
        self._address = connection.address
        self._questions = questions
        self.leaders: dict[TopicPartition, Host] = {}
        """Of the partitions of topics that were asked for, as the last answer said. Another one may lead by now."""

    async def cluster_id(self) -> str:
        return str((await self._metadata([])).cluster_id)

    async def names(self) -> list[str]:
        """Of all topics but Kafka's own."""
        topics = (await self._metadata(None)).topics
        return [name for _, name, *_ in topics if not name.startswith(INTERNAL)]

    async def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Those of these topics that there are."""
        if not names:
            return {}
        answer, found = await self._metadata(names), {}
        brokers = {node: (host, port) for node, host, port, *_ in answer.brokers}
        for code, name, topic_id, _, partitions, *_ in answer.topics:
            if for_code(code) is UnknownTopicOrPartitionError:
                continue
            self._check(code, f"topic {name}")
            found[name] = _info(name, topic_id, partitions)
            for _, number, leader, *_ in partitions:
                if leader in brokers:
                    self.leaders[TopicPartition(name, number)] = brokers[leader]
        return found

    async def ping(self) -> None:
        await self._metadata([], seconds=PING_SECONDS)

    async def retention(self, names: Collection[str]) -> dict[str, float | None]:
        """Seconds that each of these topics, which exist, keeps its records; None: without end."""
        return {name: policy.kept for name, policy in (await self.policies(names)).items()}

    async def policies(self, names: Collection[str]) -> dict[str, TopicPolicy]:
        """Of these topics, which exist.

        Where the rights to read it are missing (DESCRIBE_CONFIGS on the topic), the topic is left out.
        """
        if not names:
            return {}
        asked = [(TOPIC, name, [CLEANUP, RETENTION]) for name in names]
        found = {}
        for code, message, _, name, entries in (await self._questions.ask(DescribeConfigsRequest(asked))).resources:
            if for_code(code) is TopicAuthorizationFailedError:
                continue
            self._check(code, f"the settings of topic {name}", message)
            found[name] = _policy({entry: value for entry, value, *_ in entries})
        return found

    async def create(self, specs: Mapping[str, TopicSpec]) -> None:
        """Those that there are stay as they are. Clients may learn of the new ones a moment later."""
        if not specs:
            return
        topics: list[tuple[object, ...]] = [
            (name, spec.partitions, spec.replication, [], [*spec.config.items()]) for name, spec in specs.items()
        ]
        asked = CreateTopicsRequest(topics, int(QUESTION_SECONDS * 1000), False)
        answer = await self._questions.ask(asked, to=await self._controller())
        for name, code, message in answer.topic_errors:
            if for_code(code) in (RequestTimedOutError, NotControllerError):
                raise KafkaUnreachable(f"Kafka at {self._address} has not made topic {name}: {_words(code, message)}")
            if for_code(code) not in (NoError, TopicAlreadyExistsError):
                raise KafkaRefused(f"topic {name} cannot be made: {_words(code, message)}")

    async def _controller(self) -> Host:
        """Who makes topics. Without ZooKeeper any broker does, and the answer names one that lives."""
        metadata = await self._metadata([])
        brokers = {node: (host, port) for node, host, port, *_ in metadata.brokers}
        if metadata.controller_id not in brokers:
            raise KafkaUnreachable(f"Kafka at {self._address} has no controller at the moment")
        return brokers[metadata.controller_id]

    async def _metadata(self, names: Collection[str] | None, *, seconds: float = QUESTION_SECONDS) -> Any:
        """A broker that has just begun knows of no broker, itself included, and of no topic: that is no answer."""
        answer = await self._questions.ask(TopicMetadata(names), seconds=seconds)
        if not answer.brokers:
            raise KafkaUnreachable(f"Kafka at {self._address} is starting, and does not know its own cluster yet")
        return answer

    def _check(self, code: int, what: str, message: str | None = None) -> None:
        error = for_code(code)
        if error is NoError:
            return
        if error is ClusterAuthorizationFailedError:
            raise KafkaRefused(f"Kafka at {self._address} refuses us: {_words(code, message)}")
        raise KafkaUnreachable(f"Kafka at {self._address} is unreachable: {what}: {_words(code, message)}")


def _info(name: str, topic_id: str, partitions: list[tuple[Any, ...]]) -> TopicInfo:
    replicas = [(len(all_of), len(in_step)) for _, _, _, _, all_of, in_step, *_ in partitions]
    behind = sum(in_step < all_of for all_of, in_step in replicas)
    return TopicInfo(name, topic_id, len(partitions), min((all_of for all_of, _ in replicas), default=0), behind)


def _policy(config: Mapping[str, str]) -> TopicPolicy:
    cleanup = config[CLEANUP]
    milliseconds = int(config[RETENTION]) if "delete" in cleanup else -1
    return TopicPolicy("compact" in cleanup, None if milliseconds < 0 else milliseconds / 1000)


def _words(code: int, message: str | None) -> str:
    """Kafka's name of the error, and what the broker says to it."""
    return f"{for_code(code).message}{f' ({message})' if message else ''}"
