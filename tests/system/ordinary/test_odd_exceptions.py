"""Handlers that raise what no handler should: it is an attempt that failed, or the end of the process, said aloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka_installation import KafkaInstallation
from tests.system.ordinary.trial import trial

HANG_SECONDS = 120.0


@pytest.mark.ring("faults")
@pytest.mark.parametrize("saga", ["odd", "odd_outside"])
async def test_a_panic_and_a_text_that_is_no_utf8_are_failed_attempts_and_the_shard_goes_on(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path, saga: str
) -> None:
    async with trial(kafka_installation, database, tmp_path, partitions=1) as made:
        await made.coordinator()
        made.start_saga("PANIC-1", saga, kind="panic")
        made.start_saga("ODD-1", saga, kind="surrogate")
        made.start_saga("ONE-1", "one")
        await made.ends("ONE-1", within=HANG_SECONDS)
        await made.ends("ODD-1", within=HANG_SECONDS, status="compensated")
        await made.ends("PANIC-1", within=HANG_SECONDS, status="compensated")
        error = (await made.row("ODD-1"))["error"].decode()
        assert "ValueError" in error
        assert "bad" in error
        assert "Panic" in (await made.row("PANIC-1"))["error"].decode()
        assert "Panic" in made.participant.stderr
        assert made.lost_turns() == []
        made.participant.terminate()
        assert await made.participant.ended() == 0


@pytest.mark.ring("faults")
@pytest.mark.parametrize("saga", ["odd", "odd_outside"])
async def test_a_handler_that_raises_system_exit_ends_its_process_aloud(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path, saga: str
) -> None:
    async with trial(kafka_installation, database, tmp_path, partitions=1) as made:
        await made.coordinator()
        made.start_saga("EXIT-1", saga, kind="exit")
        code = await made.participant.ended(within=HANG_SECONDS)
        assert code != 0
        assert "SystemExit" in made.participant.stderr
        assert "trial.strange" in made.participant.stderr
