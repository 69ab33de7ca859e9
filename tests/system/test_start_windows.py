"""At its start a service compares how long it remembers with how long Kafka keeps what it reads (P5, H2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.contracts import Service
from sagabus.coordinator.service import Coordinator
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.service.prerequisites import NotReady, coordinator_topics, participant_topics
from sagabus.messaging.settings import Settings, load_settings
from sagabus.participants import Participant

DAY_MS = 86_400_000
DELETED: Mapping[str, str] = {"retention.ms": str(30 * DAY_MS)}


@pytest.fixture
def settings(kafka: str, database: str, namespace: str) -> Settings:
    return load_settings(kafka=kafka, database=database, namespace=namespace, http="off", partitions=1)


async def test_p5_a_command_topic_that_outlives_the_inbox_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(f"s_{settings.namespace}"[:40])
    await _topics(settings, participant_topics(service, settings.namespace))
    participant = Participant(service, database=settings.database)
    engine = create_async_engine(sqlalchemy_url(settings.database))
    async with engine.begin() as connection:
        await participant.create_tables(connection)
    await engine.dispose()
    for name in ("kafka", "namespace"):
        monkeypatch.setenv(f"SAGABUS_{name.upper()}", getattr(settings, name))
    with pytest.raises(NotReady) as refusal:
        await _entered(participant.running())
    for word in (f"{service.name}.commands", "30d", "SAGABUS_RETENTION_INBOX=14d", "SAGABUS_RETENTION_INBOX=60d"):
        assert word in str(refusal.value)
    monkeypatch.setenv("SAGABUS_RETENTION_INBOX", "60d")
    await _entered(participant.running())


async def test_h2_a_requests_topic_that_outlives_the_ids_is_refused(settings: Settings) -> None:
    await migrate(settings.database, settings.namespace)
    await _topics(settings, coordinator_topics(settings.namespace))
    with pytest.raises(NotReady) as refusal:
        await _entered(Coordinator([], settings=settings).running())
    for word in (f"{settings.namespace}.requests", "30d", "SAGABUS_RETENTION_STARTED_IDS=14d"):
        assert word in str(refusal.value)
    for cure in ({"retention_started_ids": 60 * 86_400.0}, {"retention_sagas": None}):
        await _entered(Coordinator([], settings=settings.model_copy(update=cure)).running())


async def test_a_topic_without_end_is_named_in_the_log(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    await migrate(settings.database, settings.namespace)
    await _topics(settings, coordinator_topics(settings.namespace), {"retention.ms": "-1"})
    with caplog.at_level(logging.WARNING):
        await _entered(Coordinator([], settings=settings).running())
    assert f"the topic {settings.namespace}.requests keeps its records for ever" in caplog.text


async def test_what_kafka_says_of_a_topic(settings: Settings) -> None:
    kafka, name = Kafka(settings), settings.namespace
    configs = {"days": DELETED, "ever": {"retention.ms": "-1"}, "compacted": {"cleanup.policy": "compact"}, "none": {}}
    await kafka.create_topics({f"{name}.{each}": TopicSpec(1, 1, config) for each, config in configs.items()})
    found = await kafka.retention([f"{name}.{each}" for each in configs])
    assert found == {
        f"{name}.days": 30 * 86_400.0, f"{name}.ever": None, f"{name}.compacted": None, f"{name}.none": 7 * 86_400.0,
    }  # fmt: skip


async def _topics(settings: Settings, names: set[str], config: Mapping[str, str] = DELETED) -> None:
    await Kafka(settings).create_topics({name: TopicSpec(1, 1, config) for name in names})


async def _entered(running: Any) -> None:
    async with asyncio.timeout(60), running:
        pass
