"""An input that validates to another value each time: what the step was sent is what its undo is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka_installation import KafkaInstallation
from tests.system.ordinary.trial import trial


@pytest.mark.ring("faults")
async def test_an_undo_after_a_restart_gets_the_token_that_the_step_was_sent(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with trial(kafka_installation, database, tmp_path, partitions=1) as made:
        await made.coordinator()
        made.start_saga("HOLD-1", "tokened")
        await made.entered("token_ledger", 1)
        await made.kill_and_restart()
        made.send("HOLD-1", {"type": "cancel", "reason": "no longer needed"})
        await made.ends("HOLD-1", within=60, status="cancelled")
        rows = await made.observer.fetch("SELECT what, token FROM token_ledger ORDER BY at")
        assert [row["what"] for row in rows] == ["hold", "release"]
        assert rows[0]["token"] == rows[1]["token"]
