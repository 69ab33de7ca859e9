"""Every kind of fault, on one real broker and one real PostgreSQL, while orders and approvals go on being made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka_installation import KafkaInstallation
from tests.system.environment import COMPENSATING, OPEN, environment
from tests.system.fault_plan import ONE_OF_EACH, schedule
from tests.system.run import run

SEED = 20_261_122
SAGAS = 1_500
RATE, MOST_OPEN = 14, 120
"""Items a second, and what may be open before they become fewer: so the run ends soon on a busy machine too."""


@pytest.mark.ring("faults")
@pytest.mark.filterwarnings("error")
async def test_no_fault_loses_doubles_reorders_or_stops_a_saga(
    kafka_installation: KafkaInstallation, tmp_path: Path
) -> None:
    faults = schedule(SEED, ONE_OF_EACH)
    async with environment(
        kafka_installation, tmp_path, seed=SEED, rate=RATE, most_open=MOST_OPEN, coordinators=2
    ) as stage:
        report = await run(stage, faults, seed=SEED, sagas=SAGAS, tell=print)
    assert not report.failed, report.failed
    assert not report.verdict.violations
    assert [landed.fault for landed in report.landed] == faults
    assert all(landed.load.open >= OPEN and landed.load.compensating >= COMPENSATING for landed in report.landed)
    assert report.verdict.sagas == report.fed >= SAGAS
    assert min(report.verdict.by_status[status] for status in ("completed", "compensated", "cancelled")) > SAGAS / 50
    assert report.verdict.escalated > SAGAS / 100
