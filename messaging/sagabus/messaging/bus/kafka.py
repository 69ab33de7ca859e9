"""Kafka, as everything here meets it: the one place that makes clients, all from the same settings.

On the embedded bus (see `embedded_kafka`) there are no topic ids, no groups and no `create_topics`; one log there is
told from another by the id that its host gave it. Nothing here reads or writes records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from sagabus.messaging.background import uninterrupted
from sagabus.messaging.backoff import Backoff, until_reachable
from sagabus.messaging.bus import client_logs
from sagabus.messaging.bus.broker_questions import QUESTION_SECONDS, BrokerQuestions
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaUnreachable
from sagabus.messaging.bus.log_ranges import LogRanges
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.bus.topic_admin import TopicAdmin, TopicInfo, TopicPolicy, TopicSpec
from sagabus.messaging.embedded.run_file import Run
from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.settings import Settings, SettingsError

if TYPE_CHECKING:
    from sagabus.messaging.embedded.sole_reader import SoleReader

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two tries to reach Kafka, doubling from the first."""

LOOK_AGAIN_SECONDS: Final = 0.05

ANSWERED_SECONDS: Final = 0.75
"""For so long an answer shows that Kafka is there. A fetch is answered twice a second where nothing is to be read."""


@dataclass(frozen=True, slots=True)
class Bus:
    """An embedded bus: where it listens, and which one it is. folder: of its host, where that is known."""

    address: str
    id: str
    folder: Path | None = None


class Kafka:
    """One cluster. What is made here is started and stopped by who asked for it."""

    def __init__(self, settings: Settings, *, bus: Bus | None = None) -> None:
        """`bus`: the host's, where the settings say `embedded`. Raises SettingsError without one."""
        if settings.embedded and bus is None:
            raise SettingsError(
                ["SAGABUS_KAFKA=embedded: no host runs here; start `sagabus dev`, or name a real Kafka"]
            )
        client_logs.install()
        self.topic_appears: Callable[[str], None] = lambda _: None
        """On the embedded bus: told of a topic that a producer names first, and thereby makes. To be set before that
        producer is made."""
        self._bus = bus
        self.connection = KafkaConnection(settings, bus.address if bus else settings.kafka)
        self._answered_at = float("-inf")
        self._questions = BrokerQuestions(self.connection)
        self._admin = TopicAdmin(self.connection, self._questions)
        self._ranges = LogRanges(self._questions, self._admin)

    @classmethod
    def of_run(cls, settings: Settings, run: Run | None, folder: Path | None = None) -> Kafka:
        """For a process that is not the host: `embedded` is the bus of a live run.json in this folder.

        Raises SettingsError.
        """
        return cls(settings, bus=Bus(run.kafka, run.bus, folder) if settings.embedded and run else None)

    @property
    def embedded(self) -> bool:
        return self._bus is not None

    def sole_reader(self, group: str) -> SoleReader | None:
        """What keeps a second reader of this group away from the embedded bus; None where groups do that."""
        if self._bus is None or self._bus.folder is None:
            return None
        from sagabus.messaging.embedded.sole_reader import SoleReader  # fcntl: nothing that every client has

        return SoleReader(self._bus.folder, group)

    @property
    def address(self) -> str:
        """Bootstrap servers, comma-separated."""
        return self.connection.address

    def producer(self) -> BatchProducer:
        """A new one, not started."""
        return BatchProducer(self.connection, topic_appears=self.topic_appears if self.embedded else None)

    async def cluster_id(self) -> str:
        """Which cluster this is; of the embedded bus, the id that its host gave it. Raises KafkaUnreachable."""
        return await self._admin.cluster_id() if self._bus is None else self._bus.id

    def answered(self) -> None:
        """A broker has answered, whatever it was asked."""
        self._answered_at = monotonic()

    async def ping(self) -> None:
        """Whether Kafka answers, within PING_SECONDS. Raises KafkaUnreachable or KafkaRefused.

        It is asked only if it has answered nothing within ANSWERED_SECONDS.
        """
        if self._bus is None and monotonic() - self._answered_at > ANSWERED_SECONDS:
            await self._admin.ping()

    async def names(self) -> Collection[str]:
        """Of all topics but Kafka's own. A question about all of them takes 0.1 ms of the loop for each: ask for few.

        Raises KafkaUnreachable.
        """
        return await self._admin.names() if self._bus is None else (await self.topics()).keys()

    async def topics(self, names: Collection[str] | None = None) -> dict[str, TopicInfo]:
        """Those of these topics that there are, or all but Kafka's own. Raises KafkaUnreachable."""
        if self._bus is None:
            return await self._admin.describe(await self.names() if names is None else names)
        async with self._metadata() as client:
            cluster = client.cluster
        there = cluster.topics() if names is None else cluster.topics().intersection(names)
        return {
            name: TopicInfo(name, f"{self._bus.id}:{name}", len(cluster.partitions_for_topic(name))) for name in there
        }

    async def retention(self, names: Collection[str]) -> dict[str, float | None]:
        """Seconds that each of these topics keeps its records, None without end; those that will not say are left out.

        The embedded bus says nothing: it is a new one at each start. Raises KafkaUnreachable.
        """
        return {} if self.embedded else await self._admin.retention(names)

    async def policies(self, names: Collection[str]) -> dict[str, TopicPolicy]:
        """What becomes of old records of these topics, which exist; none of those that will not say, as `retention`."""
        return {} if self.embedded else await self._admin.policies(names)

    async def create_topics(self, specs: Mapping[str, TopicSpec]) -> dict[str, TopicInfo]:
        """Make those that are missing; gives all of them as they are now, which may differ from the specification.

        Returns when clients can use them. May be repeated. Raises KafkaRefused or KafkaUnreachable.
        """
        if self.embedded:
            async with self._metadata() as client:  # a topic appears there when it is first named
                await client.set_topics(specs)
        else:
            await self._admin.create(specs)
        end = monotonic() + QUESTION_SECONDS
        while missing := specs.keys() - (topics := await self.topics(specs.keys())).keys():
            if monotonic() > end:
                raise KafkaUnreachable(f"these topics are made, and not visible yet: {', '.join(sorted(missing))}")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return topics

    async def log_range(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Offsets of each partition's first record and of the one to come, or of the first in an open transaction.

        Raises KafkaUnreachable; so it does, after ten seconds, for a partition that does not exist.
        """
        if not partitions:
            return {}
        if not self.embedded:
            return await self._ranges.of(partitions)
        timeout = int(QUESTION_SECONDS * 1000)
        options = {"request_timeout_ms": timeout, "isolation_level": "read_committed"}
        consumer = AIOKafkaConsumer(**self.connection.aiokafka, **options)
        with self._unreachable():
            try:
                await consumer.start()
                await asyncio.sleep(0)  # aiokafka 0.14 cannot be stopped in the step in which it was started
                # Else it learns of one topic after the other, each time with a pause of 0.1 s.
                await consumer._client.set_topics({partition.topic for partition in partitions})
                starts = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            finally:
                await uninterrupted(consumer.stop())
        return {partition: (starts[partition], ends[partition]) for partition in partitions}

    async def wait_until_reachable(self, *, patience: float | None = None) -> None:
        """Try until a broker answers. Each new reason is logged once. `patience` in seconds; without it, for ever.

        Raises KafkaUnreachable when it is used up, and KafkaRefused at once where waiting does not help.
        """
        await until_reachable(
            self.reach,
            unreachable=KafkaUnreachable,
            server=f"Kafka at {self.address}",
            backoff=Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS),
            patience_seconds=patience,
        )

    def close_unused(self) -> None:
        """Connections that are kept for the next question. There may be one later nevertheless."""
        self._questions.close_unused()

    async def reach(self) -> None:
        """One try to connect and log in. Raises KafkaUnreachable or KafkaRefused."""
        await self._questions.reach()

    @asynccontextmanager
    async def _metadata(self) -> AsyncIterator[AIOKafkaClient]:
        """A client that knows all topics as they are now. Raises KafkaUnreachable."""
        client = AIOKafkaClient(**self.connection.aiokafka)
        try:
            with self._unreachable():
                await client.bootstrap()
                await client.force_metadata_update()
            yield client
        finally:
            await uninterrupted(client.close())

    @contextmanager
    def _unreachable(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(f"Kafka at {self.address} is unreachable: {error!r}") from error
