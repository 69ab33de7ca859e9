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
"""From the fault to the first saga on each shard that was started since and has ended.

A primary that falls silent while its standby is promoted takes some seven seconds. Its limit here is that of a silence:
how many waits follow one another depends on where it lands. Where a server answers, and only the connections to it are
silent, a slow statement cannot be told from one whose answer was lost.
"""


@pytest.mark.ring("faults")
@pytest.mark.parametrize(
    ("fault", "hosts", "seconds"),
    [
        (Fault.FAILOVER_READ_ONLY, 1, FAILOVER_SECONDS),
        (Fault.FAILOVER_READ_ONLY, 2, FAILOVER_SECONDS),
        (Fault.FAILOVER_CRASHED, 2, FAILOVER_SECONDS),
        (Fault.FAILOVER_SILENT, 2, SILENCE_SECONDS),
        (Fault.CONNECTIONS_SILENT, 1, SILENCE_SECONDS),
    ],
)
async def test_both_sides_go_on_after_a_failover_or_a_silence_and_nothing_is_lost(
    kafka_installation: KafkaInstallation, tmp_path: Path, fault: Fault, hosts: int, seconds: float
) -> None:
    report = await run_with(kafka_installation, tmp_path, fault, hosts)
    assert max(landed.recovery.everywhere for landed in report.landed) <= seconds


async def run_with(installation: KafkaInstallation, folder: Path, fault: Fault, hosts: int) -> Report:
    """The fault once, under a load; nothing is lost, doubled or stuck."""
    async with environment(
        installation, folder, seed=SEED, rate=RATE, most_open=MOST_OPEN, coordinators=1, participants=1, hosts=hosts
    ) as stage:
        report = await run(stage, [fault], seed=SEED, sagas=SAGAS, tell=print)
    assert not report.failed, report.failed
    assert not report.verdict.violations
    return report
