"""Handlers that raise what no handler should: it is an attempt that failed, or the end of the process, said aloud."""

from __future__ import annotations

import pytest

from sagabus.contracts.errors import ExitCode
from tests.system.ordinary.trial import PARTICIPANTS, Trial
from tests.system.ordinary.trial_sagas import BRIEF

pytestmark = pytest.mark.ring("faults")

BOTH_KINDS = pytest.mark.parametrize("saga", ["odd", "odd_outside"])
"""Of handlers: transactional and external."""

HANG_SECONDS = 120.0


@BOTH_KINDS
async def test_a_panic_and_a_text_that_is_no_utf8_are_failed_attempts_and_the_shard_goes_on(
    one_shard: Trial, saga: str
) -> None:
    one_shard.start_saga("PANIC-1", saga, kind="panic")
    one_shard.start_saga("ODD-1", saga, kind="surrogate")
    one_shard.start_saga("ONE-1", "one")
    await one_shard.ends("ONE-1", within=HANG_SECONDS)
    await one_shard.ends("ODD-1", within=HANG_SECONDS, status="compensated")
    await one_shard.ends("PANIC-1", within=HANG_SECONDS, status="compensated")
    error = (await one_shard.row("ODD-1"))["error"].decode()
    assert "ValueError" in error
    assert "bad" in error
    assert "Panic" in (await one_shard.row("PANIC-1"))["error"].decode()
    assert "Panic" in one_shard.participant.stderr
    assert one_shard.lost_turns() == []
    one_shard.participant.terminate()
    assert await one_shard.participant.ended() == 0


@BOTH_KINDS
async def test_a_handler_that_raises_system_exit_ends_its_process_aloud_and_no_other_saga_waits_for_it(
    one_shard: Trial, saga: str
) -> None:
    one_shard.start_saga("EXIT-1", saga, kind="exit")
    one_shard.start_saga("ONE-1", "one")
    ended = one_shard.participant
    for attempt in range(1, 1 + (BRIEF.attempts or 0)):  # each attempt ends one process
        assert await ended.ended(within=HANG_SECONDS) == ExitCode.OUR_FAULT
        assert "raised SystemExit: this process ends (saga EXIT-1, command EXIT-1:" in ended.stderr
        assert f"attempt {attempt})" in ended.stderr
        ended = await one_shard.deployment.participant(PARTICIPANTS[0], f"participant-{attempt}")
    await one_shard.ends("EXIT-1", within=HANG_SECONDS, status="compensated")
    await one_shard.ends("ONE-1", within=HANG_SECONDS)
    error = (await one_shard.row("EXIT-1"))["error"].decode()
    assert "the handler ended its process: SystemExit 7" in error
