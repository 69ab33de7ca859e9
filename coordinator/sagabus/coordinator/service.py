"""The coordinator as a service: the one place where its parts are put together.

Kafka -> Subscription -> Ownership -> CoordinatorSide -> core -> Turn -> PostgreSQL -> Relay -> Kafka
"""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from sagabus.contracts import names
from sagabus.contracts.envelope import Message
from sagabus.contracts.errors import DeclarationError
from sagabus.coordinator import http
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.loading import Definitions, Loading
from sagabus.coordinator.shard.side import CoordinatorSide
from sagabus.coordinator.store.migrations import migrate, schema_is_current
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.coordinator.store.write import Store
from sagabus.messaging.backing import Backing, find_backing
from sagabus.messaging.database import Database
from sagabus.messaging.dead_letter import DeadLetters
from sagabus.messaging.kafka import Kafka
from sagabus.messaging.ownership import Ownership
from sagabus.messaging.partition import partition_of
from sagabus.messaging.prerequisites import NotReady, coordinator_topics
from sagabus.messaging.settings import Settings
from sagabus.messaging.subscription import Subscription, SubscriptionListener
from sagabus.messaging.topic_admin import TopicSpec

logger = logging.getLogger(__name__)

YOUNG_OBJECTS: Final = 50_000
"""New objects until the next look for garbage in cycles: about a turn's worth. Python's own default is 700."""


class Coordinator:
    """Runs definitions. Several processes of one namespace share its shards."""

    def __init__(
        self, definitions: Sequence[SagaDefinition[Any, Any]], *, settings: Settings, kafka: Kafka | None = None
    ) -> None:
        """kafka: where the caller has it already. Raises DeclarationError, and SettingsError where no host runs."""
        self._definitions = _distinct(definitions)
        backing = Backing(settings) if kafka is not None else find_backing(settings)
        self._settings = backing.settings
        self._kafka = kafka or backing.kafka
        self._database = Database(self._settings.database)
        self.closings = http.Closings()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Entering connects, waits for Kafka and PostgreSQL, and joins the group; leaving drains. Raises NotReady."""
        namespace = self._settings.namespace
        async with AsyncExitStack() as stack:
            await self._kafka.wait_until_reachable()
            await self._database.wait_until_reachable()
            stack.push_async_callback(self._database.stop)
            await self._check_schema(namespace)
            partitions = await self._partitions(namespace)
            ownership, side = self._wire(namespace, partitions)
            await ownership.start()
            stack.push_async_callback(ownership.stop)
            await self._serve(stack, ownership, partitions)
            _collect_rarely()
            logger.info("the coordinator of %s runs %s", namespace, ", ".join(map(repr, self._definitions)))
            yield
            logger.info("the coordinator of %s drains; without effect: %s", namespace, dict(side.counts))

    def _wire(self, namespace: str, partitions: int) -> tuple[Ownership, CoordinatorSide]:
        loading = Loading(namespace=namespace, reads=Reads(namespace), definitions=Definitions(self._definitions))
        side = CoordinatorSide(
            database=self._database,
            store=Store(namespace),
            loading=loading,
            dead_letters=DeadLetters(topic=names.dead_letters_topic(namespace), by=names.OWN_SERVICE),
            partitions=partitions,
            closed=self.closings.closed,
            sooner=lambda: ownership.wake(),  # noqa: PLW0108    # made below
        )
        ownership = Ownership(
            kafka=self._kafka,
            database=self._database,
            tables=coordinator_tables(namespace),
            subscribe=self._subscription,
            main_topic=names.requests_topic(namespace),
            side=side,
        )
        return ownership, side

    def _subscription(self, *, listener: SubscriptionListener) -> Subscription:
        namespace = self._settings.namespace
        return Subscription(
            self._kafka,
            group=namespace,
            pattern=names.coordinator_pattern(namespace),
            listener=listener,
            instance=self._settings.instance or None,
        )

    async def _check_schema(self, namespace: str) -> None:
        if self._kafka.embedded:
            await migrate(self._settings.database, namespace)
        async with self._database.transaction() as connection:
            if not await schema_is_current(connection, namespace):
                raise NotReady(f"the schema {namespace!r} is missing or behind; run `sagabus migrate`")

    async def _partitions(self, namespace: str) -> int:
        wanted = coordinator_topics(namespace)
        if self._kafka.embedded:
            await self._kafka.create_topics({topic: TopicSpec(self._settings.partitions) for topic in wanted})
        found = await self._kafka.topics(wanted)
        missing = sorted(wanted - found.keys())
        if missing:
            raise NotReady(f"topics are missing: {', '.join(missing)}; run `sagabus topics`")
        return found[names.requests_topic(namespace)].partitions

    async def _serve(self, stack: AsyncExitStack, ownership: Ownership, partitions: int) -> None:
        """Raises CannotListen."""
        if self._settings.http_address is None:
            return
        producer = self._kafka.producer()
        await producer.start()
        stack.push_async_callback(producer.stop)

        async def publish(message: Message) -> None:
            await producer.publish([message])

        app = http.application(
            database=self._database,
            settings=self._settings,
            publish=publish,
            closings=self.closings,
            ready=lambda: bool(ownership.tenures),
            owns=lambda saga_id: partition_of(saga_id.encode(), partitions) in ownership.tenures,
        )
        address = await stack.enter_async_context(http.serving(app, self._settings.http_address))
        logger.info("the API is at http://%s/api/v1", address)


def _collect_rarely() -> None:
    """Open sagas are tens of thousands of objects that live long: looking through them again and again is wasted."""
    gc.freeze()  # modules, definitions, clients: here to stay
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def _distinct(definitions: Iterable[SagaDefinition[Any, Any]]) -> tuple[SagaDefinition[Any, Any], ...]:
    found: dict[tuple[str, int], SagaDefinition[Any, Any]] = {}
    for definition in definitions:
        other = found.setdefault((definition.name, definition.version), definition)
        if other is not definition:
            raise DeclarationError(f"{definition!r} is declared twice; give one of them another version")
    return tuple(found.values())
