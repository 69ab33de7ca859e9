"""One client that is shared by ten thousand tasks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from sagabus.client import SagaClient
from tests.support.kafka_installation import KafkaInstallation
from tests.system.deployment import until_all_ended
from tests.system.ordinary.trial import trial
from tests.system.ordinary.trial_sagas import Size, one

STARTS = 10_000


@pytest.mark.ring("faults")
async def test_ten_thousand_concurrent_starts_on_one_client_are_as_many_sagas(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with trial(kafka_installation, database, tmp_path) as made:
        await made.coordinator()
        begun = time.monotonic()
        async with SagaClient(made.broker.address) as client:
            starts = (client.start(one.of(Size(size=number)), id=f"ORD-{number}") for number in range(STARTS))
            done = await asyncio.gather(*starts, return_exceptions=True)
        failures = Counter(f"{type(each).__name__}: {each}"[:80] for each in done if isinstance(each, BaseException))
        print(f"{STARTS} starts in {time.monotonic() - begun:.1f} s; failures: {failures}")
        assert not failures
        connection = await asyncpg.connect(database)
        await until_all_ended(connection, STARTS, within=300)
        await connection.close()
        print(f"all ended after {time.monotonic() - begun:.1f} s")
