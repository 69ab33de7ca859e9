"""PostgreSQL fails over, or its network falls silent, under a load: both sides go on, and the ledgers are exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka_installation import KafkaInstallation
from tests.system.environment import environment
from tests.system.fault_plan import Fault
from tests.system.run import Report, run

SEED = 20_261_129
SAGAS = 300
RATE, MOST_OPEN = 14, 120

FAILOVER_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""From the fault to the first saga on each shard that was started since and has ended."""


@pytest.mark.ring("faults")
@pytest.mark.parametrize("hosts", [1, 2], ids=["one-address", "two-hosts"])
@pytest.mark.parametrize("fault", [Fault.FAILOVER_READ_ONLY, Fault.FAILOVER_UNREACHABLE])
async def test_both_sides_go_on_at_the_promoted_standby(
    kafka_installation: KafkaInstallation, tmp_path: Path, fault: Fault, hosts: int
) -> None:
    if fault is Fault.FAILOVER_UNREACHABLE and hosts == 1:
        pytest.skip("the address leads elsewhere then: test_both_sides_notice_that_their_connections_are_silent")
    report = await run_with(kafka_installation, tmp_path, fault, hosts)
    assert max(landed.recovery.everywhere for landed in report.landed) <= FAILOVER_SECONDS


@pytest.mark.ring("faults")
async def test_both_sides_notice_that_their_connections_are_silent(
    kafka_installation: KafkaInstallation, tmp_path: Path
) -> None:
    report = await run_with(kafka_installation, tmp_path, Fault.CONNECTIONS_SILENT, 1)
    assert max(landed.recovery.everywhere for landed in report.landed) <= SILENCE_SECONDS


async def run_with(installation: KafkaInstallation, folder: Path, fault: Fault, hosts: int) -> Report:
    """The fault once, under a load; nothing is lost, doubled or stuck."""
    async with environment(
        installation, folder, seed=SEED, rate=RATE, most_open=MOST_OPEN, coordinators=1, participants=1, hosts=hosts
    ) as stage:
        report = await run(stage, [fault], seed=SEED, sagas=SAGAS, tell=print)
    assert not report.failed, report.failed
    assert not report.verdict.violations
    return report
