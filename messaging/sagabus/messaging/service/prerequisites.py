"""What must be there before a service can run: its servers, topics and tables, and what to say when they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sagabus.contracts import names
from sagabus.contracts.activity import Service
from sagabus.contracts.errors import ExitCode, SagabusError
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.postgres.database import Database, DatabaseUnreachable
from sagabus.messaging.service.readiness import Readiness

T = TypeVar("T")

log = logging.getLogger(__name__)

START_PAUSE_SECONDS: Final = 0.5
"""Until a start goes on that a server has interrupted. The waiting before it has a backoff of its own."""


class NotReady(SagabusError):
    """What `sagabus migrate` or `sagabus topics` makes is missing, or does not fit. The sentence says the cure."""

    exit_code = ExitCode.USAGE


def check_encoding(encoding: str) -> None:
    """Whatever holds no text of all languages would stop a shard at the first word that it lacks. Raises NotReady."""
    if encoding != "UTF8":
        raise NotReady(
            f"the database holds text as {encoding}, which lacks most characters; make another with CREATE DATABASE "
            "… ENCODING 'UTF8' TEMPLATE template0, and set SAGABUS_DATABASE to it"
        )


def coordinator_topics(namespace: str) -> set[str]:
    """What a coordinator reads and writes, the services' own topics aside."""
    return {
        names.requests_topic(namespace),
        names.events_topic(namespace),
        names.dead_letters_topic(namespace),
        names.replies_topic(namespace, names.OWN_SERVICE),
    }


def participant_topics(service: Service, namespace: str) -> set[str]:
    """What a participant of this service reads and writes."""
    events = {event.topic for event in service.events.values() if event.topic is not None}
    commands, replies = names.commands_topic(service.name), names.replies_topic(namespace, service.name)
    return {commands, replies, names.dead_letters_topic(namespace), *events}


async def with_servers(kafka: Kafka, database: Database, readiness: Readiness, work: Callable[[], Awaitable[T]]) -> T:
    """Wait for Kafka and PostgreSQL without end, then do this part of a start; again, if one of them leaves meanwhile.

    A service that gave up would only be started again by whoever runs it, and wait there. The work is to leave nothing
    behind when it raises KafkaUnreachable or DatabaseUnreachable. Raises everything else that it raises, and
    KafkaRefused, where waiting does not help.
    """
    while True:
        readiness.waits(f"it waits for Kafka at {kafka.address}")
        await kafka.wait_until_reachable()
        readiness.waits(f"it waits for PostgreSQL at {database.address}")
        await database.wait_until_reachable()
        readiness.waits("it is being started")
        try:
            return await work()
        except (KafkaUnreachable, DatabaseUnreachable) as error:
            log.warning("the start has to wait: %s", error)
        await asyncio.sleep(START_PAUSE_SECONDS)
