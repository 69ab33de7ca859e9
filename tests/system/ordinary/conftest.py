"""Deployments that most of these tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.kafka_installation import KafkaInstallation
from tests.system.ordinary.trial import Trial, trial


@pytest.fixture
async def made(kafka_installation: KafkaInstallation, database: str, tmp_path: Path) -> AsyncIterator[Trial]:
    """A coordinator that is ready, and a participant."""
    async with trial(kafka_installation, database, tmp_path) as made:
        await made.coordinator()
        await made.ready()
        yield made


@pytest.fixture
async def one_shard(kafka_installation: KafkaInstallation, database: str, tmp_path: Path) -> AsyncIterator[Trial]:
    """The same with one partition, so that what stops a saga's shard stops all sagas."""
    async with trial(kafka_installation, database, tmp_path, partitions=1) as made:
        await made.coordinator()
        await made.ready()
        yield made
