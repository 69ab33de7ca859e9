"""One client that is shared by ten thousand tasks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import asyncpg
import pytest

from sagabus.client import SagaClient
from tests.system.deployment import until_all_ended
from tests.system.ordinary.trial import Trial
from tests.system.ordinary.trial_sagas import Size, one

STARTS = 10_000


@pytest.mark.ring("faults")
async def test_ten_thousand_concurrent_starts_on_one_client_are_as_many_sagas(made: Trial, database: str) -> None:
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
