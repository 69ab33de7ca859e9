"""A running participant: the one place where its parts are put together.

Kafka -> Subscription -> Ownership -> CommandProcessor -> Turn -> PostgreSQL -> Relay -> Kafka
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from sagabus.contracts.activity import Service
from sagabus.contracts.names import commands_topic, service_schema
from sagabus.messaging.background import Supervisor
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.subscription import Subscription, SubscriptionListener
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.counters import Counters
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.engine import dispose, distrust, make_engine
from sagabus.messaging.postgres.engine_database import EngineDatabase
from sagabus.messaging.service.backing import Backing, find_backing
from sagabus.messaging.service.prerequisites import NotReady, check_encoding, participant_topics, with_servers
from sagabus.messaging.service.window import check_topics, check_window
from sagabus.messaging.settings import Settings, load_settings
from sagabus.messaging.shards.ownership import Ownership
from sagabus.messaging.shards.retention import Retention
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables, participant_tables

if TYPE_CHECKING:
    from sagabus.participants.participant import Participant

DRAIN_SECONDS: Final = 10.0
"""Seconds that a stop waits for external handlers; what has not ended then, the next owner runs again."""

CONNECTIONS: Final = 10
"""Of an engine of ours: one for the turn, the others for handlers' own transactions."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(participant: Participant[Any], *, kafka: str | None = None) -> AsyncIterator[None]:
    """See `Participant.running`."""
    counters = Counters()
    async with Supervisor(participant.readiness.dies) as supervisor, AsyncExitStack() as stack:
        backing, sessions = _surroundings(participant, kafka, stack)
        database = sessions.database
        stack.push_async_callback(database.stop)
        bus, readiness = backing.kafka, participant.readiness
        await with_servers(bus, database, readiness, lambda: _ready(participant.service, backing, database))
        resources = None if participant.lifespan is None else await stack.enter_async_context(participant.lifespan())
        processor = CommandProcessor(
            service=participant.service.name, namespace=backing.settings.namespace, handlers=participant.handlers,
            sessions=sessions, resources=resources, retention=Retention.of(backing.settings), counters=counters,
            supervisor=supervisor,
        )  # fmt: skip
        stack.push_async_callback(processor.externals.stop)

        async def begun() -> Ownership:
            ownership = _ownership(participant, backing, sessions, processor, supervisor, counters)
            await ownership.start()
            return ownership

        ownership = await with_servers(bus, database, readiness, begun)
        stack.push_async_callback(ownership.stop)
        readiness.runs(ownership)
        stack.push_async_callback(processor.externals.drain, DRAIN_SECONDS)
        _tell(participant)
        stack.callback(readiness.drains)  # the first thing that a leaving does
        yield


def _surroundings(participant: Participant[Any], kafka: str | None, stack: AsyncExitStack) -> tuple[Backing, Sessions]:
    """Raises SettingsError. An engine that is made here is disposed of with the stack."""
    given = participant.database
    if isinstance(given, AsyncEngine | async_sessionmaker):
        sessions = Sessions.of(given)
        distrust(sessions.engine)  # connections from before have no limits: they are replaced when they are next used
        return find_backing(load_settings(require=("kafka",), kafka=kafka)), sessions
    backing = find_backing(load_settings(kafka=kafka, database=given))
    engine = make_engine(backing.settings.database, connections=CONNECTIONS)
    stack.push_async_callback(dispose, engine)
    return backing, Sessions.of(engine)


async def _ready(service: Service, backing: Backing, database: EngineDatabase) -> None:
    """See that all is there, or on a host make it. Raises NotReady, KafkaUnreachable, DatabaseUnreachable."""
    async with database.session_transaction() as connection:
        if backing.run is not None:
            await create_tables(connection, service.name)
    async with database.transaction() as plain:
        check_encoding(await condition.encoding(plain))
        if missing := await condition.missing(plain, participant_tables(service.name)):
            schema = service_schema(service.name)
            raise NotReady(f"missing in the schema {schema}: {', '.join(missing)}; run `sagabus migrate`")
    await _topics(service, backing.kafka, backing.settings)


async def _topics(service: Service, kafka: Kafka, settings: Settings) -> None:
    wanted = participant_topics(service, settings.namespace)
    if kafka.embedded:
        await kafka.create_topics({name: TopicSpec(settings.partitions) for name in wanted})
    missing = wanted - (await kafka.topics(wanted)).keys()
    if missing:
        raise NotReady(f"topics are missing: {', '.join(sorted(missing))}; run `sagabus topics`")
    commands = commands_topic(service.name)
    check_topics(await kafka.policies([commands]))
    for topic, kept in (await kafka.retention([commands])).items():
        loss = "those not carried out yet are refused, each before a person"
        check_window(topic, kept, "retention_inbox", settings.retention_inbox, loss=loss)


def _ownership(
    participant: Participant[Any],
    backing: Backing,
    sessions: Sessions,
    processor: CommandProcessor,
    supervisor: Supervisor,
    counters: Counters,
) -> Ownership:
    service = participant.service
    commands = commands_topic(service.name)
    group, instance = service_schema(service.name), backing.settings.instance or None

    def subscribe(*, listener: SubscriptionListener) -> Subscription:
        return Subscription(
            backing.kafka, group=group, topics=[commands], listener=listener, instance=instance, supervisor=supervisor,
            counters=counters,
        )  # fmt: skip

    return Ownership(
        kafka=backing.kafka, database=sessions.database, tables=participant_tables(service.name),
        subscribe=subscribe, main_topic=commands, processor=processor, supervisor=supervisor,
        counters=counters,
    )  # fmt: skip


def _tell(participant: Participant[Any]) -> None:
    names = participant.service.activities.keys()
    logger.info("participant %s runs: %s", participant.service.name, ", ".join(sorted(participant.handlers)))
    for name in sorted(names - participant.handlers.keys()):
        logger.warning("%s has no handler: its commands are answered with sagabus.no_handler", name)
