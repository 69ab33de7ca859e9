"""An input that validates to another value each time: what the step was sent is what its undo is sent."""

from __future__ import annotations

import pytest

from tests.system.ordinary.trial import Trial


@pytest.mark.ring("faults")
async def test_an_undo_after_a_restart_gets_the_token_that_the_step_was_sent(one_shard: Trial) -> None:
    one_shard.start_saga("HOLD-1", "tokened")
    await one_shard.entered("token_ledger", 1)
    await one_shard.kill_and_restart()
    one_shard.send("HOLD-1", {"type": "cancel", "reason": "no longer needed"})
    await one_shard.ends("HOLD-1", within=60, status="cancelled")
    rows = await one_shard.observer.fetch("SELECT what, token FROM token_ledger ORDER BY at")
    assert [row["what"] for row in rows] == ["hold", "release"]
    assert rows[0]["token"] == rows[1]["token"]
