"""Kafka is unreachable for a minute: probes say so at once, and the log says each reason once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.conditions import until
from tests.support.kafka_installation import KafkaInstallation
from tests.support.processes import Child
from tests.system.ordinary.heartbeat import Heartbeat
from tests.system.ordinary.trial import trial

AWAY_SECONDS = 60.0
READINESS_SECONDS = 5.0
"""Until a probe hears of it."""

BACK_SECONDS = 30.0
LINES = 30
"""Of a service's log in all that time; a reason is one line, and its end another."""


@pytest.mark.ring("faults")
async def test_kafka_away_for_a_minute_is_few_lines_and_not_ready_at_once(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with trial(kafka_installation, database, tmp_path, health_file=tmp_path / "health") as made:
        coordinator = await made.coordinator()
        await made.ready()
        made.start_saga("ONE-1", "one")
        await made.ends("ONE-1", within=60)
        services = [coordinator, made.participant]
        before = [lines(child) for child in services]
        ready = made.heartbeat("/readyz")
        ready.start()
        await asyncio.to_thread(made.broker.stop)
        away = time.monotonic()
        reason = await until(lambda: not_ready(ready, away), within=AWAY_SECONDS, what="/readyz says why")
        told_after = ready.answers[-1].asked - away
        file = tmp_path / "health"
        theirs = await until(file.read_text, within=AWAY_SECONDS, what="its file says why")
        participant_after = time.monotonic() - away
        await until(lambda: time.monotonic() > away + AWAY_SECONDS, within=2 * AWAY_SECONDS, what="a minute is over")
        await asyncio.to_thread(made.broker.start)
        back = time.monotonic()
        await made.ready(within=120)
        await until(lambda: not file.read_text(), within=120, what="the participant is ready")
        made.start_saga("ONE-2", "one")
        await made.ends("ONE-2", within=120)
        await ready.stop()
        said = [lines(child)[len(earlier) :] for child, earlier in zip(services, before, strict=True)]
        print(f"/readyz after {told_after:.1f} s: {reason!r}; participant after {participant_after:.1f} s: "
              f"{theirs!r}; back after {time.monotonic() - back:.1f} s; {list(map(len, said))} lines")  # fmt: skip
        for each in said:
            print(*each[:40], sep="\n")
        assert told_after <= READINESS_SECONDS
        assert participant_after <= READINESS_SECONDS
        for words in (reason, theirs):
            assert "Kafka" in words
            assert made.broker.address in words
        assert all(len(each) <= LINES for each in said)


def not_ready(ready: Heartbeat, since: float) -> str | None:
    return next((one.reason for one in ready.answers if one.asked > since and one.reason), None)


def lines(child: Child) -> list[str]:
    return (child.stdout + child.stderr).splitlines()
