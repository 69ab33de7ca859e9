"""The coordinator as a service: the one place where its parts are put together.

Kafka -> Subscription -> Ownership -> SagaProcessor -> core -> Turn -> PostgreSQL -> Relay -> Kafka
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from sagabus.contracts import names
from sagabus.contracts.envelope import Message
from sagabus.coordinator import http
from sagabus.coordinator.definition import SagaDefinition, distinct
from sagabus.coordinator.guard import guarded
from sagabus.coordinator.routing.route_processor import RouteProcessor
from sagabus.coordinator.routing.routes import Routes
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.identity import ProcessIdentity
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.retention import SagaRetention
from sagabus.coordinator.shard.saga_processor import SagaProcessor
from sagabus.coordinator.store.migrations import migrate, schema_is_current
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.route_tables import make_route_tables, route_tables, route_tables_missing
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.coordinator.store.write import Store
from sagabus.coordinator.watchdog import Watchdog
from sagabus.messaging.background import Supervisor
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.bus.subscription import Subscription, SubscriptionListener
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.counters import Counters
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Database, DatabaseUnreachable
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.service.backing import Backing, find_backing
from sagabus.messaging.service.garbage import collect_rarely
from sagabus.messaging.service.prerequisites import NotReady, check_encoding, coordinator_topics, with_servers
from sagabus.messaging.service.readiness import Readiness
from sagabus.messaging.service.window import check_topics, check_window
from sagabus.messaging.setting_choices import Guard
from sagabus.messaging.settings import Settings
from sagabus.messaging.shards.lanes import Lanes
from sagabus.messaging.shards.ownership import Ownership
from sagabus.messaging.shards.retention import Retention

logger = logging.getLogger(__name__)

LANES: Final = Lanes(most=3, worth=100)
"""Three of the four connections to the database: the API has the fourth."""

PROBE_SECONDS: Final = 2.0
"""Seconds that a probe waits for the database."""


class Coordinator:
    """Runs definitions. Several processes of one namespace share its shards."""

    def __init__(
        self, definitions: Sequence[SagaDefinition[Any, Any]], *, settings: Settings, kafka: Kafka | None = None
    ) -> None:
        """kafka: where the caller has it already. Raises DeclarationError, and SettingsError where no host runs."""
        self._definitions = distinct(definitions)
        self._routes = Routes(self._definitions, namespace=settings.namespace)
        backing = Backing(settings) if kafka is not None else find_backing(settings)
        self._settings = backing.settings
        self._kafka = kafka or backing.kafka
        self._database = Database(self._settings.database)
        self._ownership: Ownership | None = None
        self._shards = 1
        self._open = False
        self._end_polls: Callable[[], None] = lambda: None
        self.closings = http.Closings()
        self.answers = http.RequestAnswers()
        self.readiness = Readiness()
        self.counters = Counters()
        self._supervisor = Supervisor(self.readiness.dies)
        self.watchdog = Watchdog()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Entering waits for Kafka and PostgreSQL without end, and joins the group; leaving drains.

        Probes are answered from first to last. Raises NotReady, CannotListen, PartitionsChanged, KafkaRefused; PartDied
        when a part of it has died, after draining.
        """
        namespace = self._settings.namespace
        async with self._supervisor, AsyncExitStack() as stack:
            stack.enter_context(self.watchdog.running())
            if self._settings.guard is Guard.ON:
                stack.enter_context(guarded())
            producer = self._kafka.producer()
            await self._serve(stack, producer)
            stack.push_async_callback(self._database.stop)
            stack.push_async_callback(producer.stop)
            stack.callback(self._close)
            owners, processor = await with_servers(self._kafka, self._database, self.readiness, self._begun)
            for owner in owners:
                stack.push_async_callback(owner.stop)
            self._open = True
            self.readiness.runs(*owners)
            collect_rarely()
            logger.info("the coordinator of %s runs %s", namespace, ", ".join(map(repr, self._definitions)))
            stack.callback(self._drain)  # before all else that leaving does
            yield
            logger.info("the coordinator of %s drains; records: %s", namespace, dict(processor.counts))

    async def _begun(self) -> tuple[Sequence[Ownership], SagaProcessor]:
        """Once both servers answer; nothing is left of it when it raises. The shards of sagas first."""
        namespace = self._settings.namespace
        await self._check_schema(namespace)
        partitions = await self._partitions(namespace)
        ownership, processor = self._wire(namespace, partitions)
        owners = [ownership]
        if self._routes.topics:
            await self._find_outside_topics()
            owners.append(self._wire_routes(namespace, partitions))
        async with AsyncExitStack() as undo:
            for owner in owners:
                await owner.start()
                undo.push_async_callback(owner.stop)
            undo.pop_all()
        self._ownership, self._shards = ownership, partitions
        return owners, processor

    def _wire(self, namespace: str, partitions: int) -> tuple[Ownership, SagaProcessor]:
        identity = ProcessIdentity.of_this_process(self._settings.instance)
        definitions = Definitions(self._definitions, namespace=namespace, identity=identity)
        loading = Loading(namespace=namespace, reads=Reads(namespace), definitions=definitions)
        processor = SagaProcessor(
            database=self._database,
            store=Store(namespace),
            loading=loading,
            dead_letters=DeadLetters(topic=names.dead_letters_topic(namespace), by=names.OWN_SERVICE),
            partitions=partitions,
            counters=self.counters,
            closed=self.closings.closed,
            answered=self.answers.answered,
            retention=SagaRetention(database=self._database, schema=namespace, retention=Retention.of(self._settings)),
        )
        ownership = Ownership(
            kafka=self._kafka,
            database=self._database,
            tables=coordinator_tables(namespace),
            subscribe=self._subscription,
            main_topic=names.requests_topic(namespace),
            processor=processor,
            supervisor=self._supervisor,
            counters=self.counters,
            lanes=LANES,
        )
        return ownership, processor

    def _wire_routes(self, namespace: str, partitions: int) -> Ownership:
        processor = RouteProcessor(
            routes=self._routes,
            database=self._database,
            namespace=namespace,
            dead_letters=DeadLetters(topic=names.dead_letters_topic(namespace), by=names.OWN_SERVICE),
            shards=partitions,
            counters=self.counters,
        )
        listed = "|".join(map(re.escape, self._routes.topics))
        return Ownership(
            kafka=self._kafka,
            database=self._database,
            tables=route_tables(namespace),
            subscribe=partial(self._subscribed, group=names.routes_schema(namespace), pattern=f"^({listed})$"),
            main_topic=None,
            processor=processor,
            supervisor=self._supervisor,
            counters=self.counters,
        )

    def _subscription(self, *, listener: SubscriptionListener) -> Subscription:
        namespace = self._settings.namespace
        return self._subscribed(group=namespace, pattern=names.coordinator_pattern(namespace), listener=listener)

    def _subscribed(self, *, group: str, pattern: str, listener: SubscriptionListener) -> Subscription:
        return Subscription(
            self._kafka,
            group=group,
            pattern=pattern,
            listener=listener,
            instance=self._settings.instance or None,
            supervisor=self._supervisor,
            counters=self.counters,
        )

    async def _check_schema(self, namespace: str) -> None:
        if self._kafka.embedded:
            await migrate(self._settings.database, namespace)
            if self._routes.topics:
                await make_route_tables(self._settings.database, namespace)
        async with self._database.transaction() as connection:
            check_encoding(await condition.encoding(connection))
            if not await schema_is_current(connection, namespace):
                raise NotReady(f"the schema {namespace!r} is missing or behind; run `sagabus migrate`")
            if self._routes.topics and await route_tables_missing(connection, namespace):
                schema = names.routes_schema(namespace)
                raise NotReady(f"the schema {schema!r} of routes is missing or behind; run `sagabus migrate`")

    async def _partitions(self, namespace: str) -> int:
        wanted = coordinator_topics(namespace)
        if self._kafka.embedded:
            await self._kafka.create_topics({topic: TopicSpec(self._settings.partitions) for topic in wanted})
        found = await self._kafka.topics(wanted)
        missing = sorted(wanted - found.keys())
        if missing:
            raise NotReady(f"topics are missing: {', '.join(missing)}; run `sagabus topics`")
        check_topics(await self._kafka.policies(wanted - {names.dead_letters_topic(namespace)}))
        await self._check_retention(names.requests_topic(namespace))
        return found[names.requests_topic(namespace)].partitions

    async def _find_outside_topics(self) -> None:
        """On the embedded bus they are made; elsewhere they are somebody's, who may make them later."""
        wanted = self._routes.topics
        if self._kafka.embedded:
            await self._kafka.create_topics({topic: TopicSpec(self._settings.partitions) for topic in wanted})
            return
        found = await self._kafka.topics(wanted)
        for topic in wanted:
            if topic not in found:
                logger.warning("the topic %s, which a route reads, is not there yet; it is read once it is", topic)

    async def _check_retention(self, requests: str) -> None:
        """Without retention, every start is known for ever (H2). Raises NotReady."""
        if self._settings.retention_sagas is None:
            return
        for topic, kept in (await self._kafka.retention([requests])).items():
            loss = "starts are refused, since they might be copies"
            check_window(topic, kept, "retention_started_ids", self._settings.retention_started_ids, loss=loss)

    async def _serve(self, stack: AsyncExitStack, producer: BatchProducer) -> None:
        """Raises CannotListen, and SettingsError for an address that others reach without a token."""
        if self._settings.http_address is None:
            return

        async def publish(message: Message) -> None:
            await producer.publish([message])

        app = http.application(
            database=self._database,
            settings=self._settings,
            publish=publish,
            closings=self.closings,
            answers=self.answers,
            definitions=self._definitions,
            why_not=self._why_not,
            owns=self._owns,
            accepts=lambda: self._open,
        )
        self._end_polls = app.state.drain
        serving = http.serving(app, self._settings.http_address, supervisor=self._supervisor)
        address = await stack.enter_async_context(serving)
        logger.info("the API is at http://%s/api/v1", address)

    def _owns(self, saga_id: str) -> bool:
        return self._ownership is not None and partition_of(saga_id.encode(), self._shards) in self._ownership.tenures

    async def _why_not(self) -> str:
        """Who has no shards does not hear from the database by itself, and has to ask."""
        if self.readiness.on_standby:
            try:
                async with asyncio.timeout(PROBE_SECONDS), self._database.transaction():
                    pass
            except (DatabaseUnreachable, TimeoutError) as error:
                return str(error) or f"PostgreSQL at {self._database.address} does not answer"
        return self.readiness.why_not

    def _drain(self) -> None:
        self.readiness.drains()
        self._end_polls()

    def _close(self) -> None:
        self._open = False
