"""A running participant: the one place where its parts are put together.

Kafka -> Subscription -> Ownership -> CarryOut -> Turn -> PostgreSQL -> Relay -> Kafka
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from sagabus.contracts.activity import Service
from sagabus.contracts.names import commands_topic, service_schema
from sagabus.messaging.backing import Backing, find_backing
from sagabus.messaging.database import CONNECT_TIMEOUT, Database
from sagabus.messaging.kafka import Kafka
from sagabus.messaging.ownership import Ownership
from sagabus.messaging.prerequisites import NotReady, participant_topics
from sagabus.messaging.settings import Settings, load_settings
from sagabus.messaging.subscription import Subscription, SubscriptionListener
from sagabus.messaging.topic_admin import TopicSpec
from sagabus.participants.carry_out import CarryOut
from sagabus.participants.session import Sessions
from sagabus.participants.tables import create_tables, missing_tables, participant_tables

if TYPE_CHECKING:
    from sagabus.participants.participant import Participant

PATIENCE: Final = 30.0
"""Seconds that a start waits for Kafka and for PostgreSQL."""

DRAIN: Final = 10.0
"""Seconds that a stop waits for handlers with transaction=False; what has not ended then, the next owner runs again."""

CONNECTIONS: Final = 10
"""Of an engine of ours: one for the turn, the others for handlers' own transactions."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(participant: Participant[Any], *, kafka: str | None = None) -> AsyncIterator[None]:
    """See `Participant.running`."""
    async with AsyncExitStack() as stack:
        backing, sessions = _surroundings(participant, kafka, stack)
        await _ready(participant.service, backing, sessions)
        resources = None if participant.lifespan is None else await stack.enter_async_context(participant.lifespan())
        side = CarryOut(
            service=participant.service.name, namespace=backing.settings.namespace, handlers=participant.handlers,
            sessions=sessions, resources=resources,
        )  # fmt: skip
        stack.push_async_callback(side.externals.stop)
        ownership = _ownership(participant.service, backing, sessions, side)
        await ownership.start()
        stack.push_async_callback(ownership.stop)
        stack.push_async_callback(side.externals.drain, DRAIN)
        _tell(participant)
        yield


def _surroundings(participant: Participant[Any], kafka: str | None, stack: AsyncExitStack) -> tuple[Backing, Sessions]:
    """Raises SettingsError. An engine that is made here is disposed of with the stack."""
    given = participant.database
    if isinstance(given, AsyncEngine | async_sessionmaker):
        return find_backing(load_settings(require=("kafka",), kafka=kafka)), Sessions.of(given)
    backing = find_backing(load_settings(kafka=kafka, database=given))
    engine = create_async_engine(
        backing.settings.sqlalchemy_url, pool_size=CONNECTIONS, connect_args={"timeout": CONNECT_TIMEOUT}
    )
    stack.push_async_callback(engine.dispose)
    return backing, Sessions.of(engine)


async def _ready(service: Service, backing: Backing, sessions: Sessions) -> None:
    """Wait until Kafka and PostgreSQL answer, and see that all is there."""
    kafka = backing.kafka
    await kafka.wait_until_reachable(patience=PATIENCE)
    await Database.of_engine(sessions.engine).wait_until_reachable(patience=PATIENCE)
    async with sessions.engine.begin() as connection:
        if backing.run is not None:
            await create_tables(connection, service.name)
        if missing := await missing_tables(connection, service.name):
            schema = service_schema(service.name)
            raise NotReady(f"tables are missing in the schema {schema}: {', '.join(missing)}; run `sagabus migrate`")
    await _topics(service, kafka, backing.settings)


async def _topics(service: Service, kafka: Kafka, settings: Settings) -> None:
    wanted = participant_topics(service, settings.namespace)
    if kafka.embedded:
        await kafka.create_topics({name: TopicSpec(settings.partitions) for name in wanted})
    missing = wanted - (await kafka.topics(wanted)).keys()
    if missing:
        raise NotReady(f"topics are missing: {', '.join(sorted(missing))}; run `sagabus topics`")


def _ownership(service: Service, backing: Backing, sessions: Sessions, side: CarryOut) -> Ownership:
    commands = commands_topic(service.name)
    group, instance = service_schema(service.name), backing.settings.instance or None

    def subscribe(*, listener: SubscriptionListener) -> Subscription:
        return Subscription(backing.kafka, group=group, topics=[commands], listener=listener, instance=instance)

    ownership = Ownership(
        kafka=backing.kafka, database=Database.of_engine(sessions.engine), tables=participant_tables(service.name),
        subscribe=subscribe, main_topic=commands, side=side,
    )  # fmt: skip
    side.externals.wake = ownership.wake
    return ownership


def _tell(participant: Participant[Any]) -> None:
    names = participant.service.activities.keys()
    logger.info("participant %s runs: %s", participant.service.name, ", ".join(sorted(participant.handlers)))
    for name in sorted(names - participant.handlers.keys()):
        logger.warning("%s has no handler: its commands are answered with sagabus.no_handler", name)
