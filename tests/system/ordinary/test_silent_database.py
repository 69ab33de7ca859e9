"""PostgreSQL does not answer any more and closes nothing: probes name it, and all goes on when it is back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.conditions import until
from tests.support.kafka_installation import KafkaInstallation
from tests.support.postgres import PostgresServer
from tests.support.tcp_proxy import TcpProxy
from tests.system.ordinary.trial import trial

WORD = "PostgreSQL"
NAMED_SECONDS = 45.0
"""Until the silence is noticed, and the next connection has been tried in vain."""

BACK_SECONDS = 30.0
NEW_LINES = 120
"""Of both logs together, while nothing answers."""


@pytest.mark.ring("faults")
async def test_a_database_that_falls_silent_is_named_and_waited_for(
    kafka_installation: KafkaInstallation, postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    async with TcpProxy(postgres.port) as proxy:
        url = database.replace(f":{postgres.port}/", f":{proxy.port}/")
        async with trial(kafka_installation, url, tmp_path, health_file=file) as made:
            await made.observer.turn_to(database)
            coordinator = await made.coordinator()
            await made.ready()
            ready = made.heartbeat("/readyz")
            ready.start()
            made.start_saga("ONE-1", "one")
            await made.ends("ONE-1", within=60)
            proxy.go_silent()
            silent = time.monotonic()
            reason = await until(
                lambda: next((one.reason for one in ready.answers if WORD in (one.reason or "")), None),
                within=2 * NAMED_SECONDS, what="/readyz says why",
            )  # fmt: skip
            ours = time.monotonic() - silent
            theirs = await until(
                lambda: named(file.read_text()), within=2 * NAMED_SECONDS, what="the participant's file says why"
            )
            print(f"{ours:.1f} s: {reason!r}; {time.monotonic() - silent:.1f} s: {theirs!r}")
            assert time.monotonic() - silent <= NAMED_SECONDS
            made.start_saga("ONE-2", "one")
            proxy.speak()
            back = time.monotonic()
            await made.ends("ONE-2", within=120)
            print(f"back after {time.monotonic() - back:.1f} s")
            assert time.monotonic() - back <= BACK_SECONDS
            await ready.stop()
            assert len((coordinator.stderr + made.participant.stderr).splitlines()) <= NEW_LINES


def named(reason: str) -> str:
    """A reason that says who does not answer; else nothing."""
    return reason if WORD in reason else ""
