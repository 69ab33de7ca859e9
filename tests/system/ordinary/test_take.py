"""A shard with tens of thousands of open sagas is taken under a load: nobody waits for them."""

from __future__ import annotations

import pytest

from tests.system.ordinary.open_shard import fill, take
from tests.system.ordinary.trial import STALL_SECONDS, Trial

OPEN_SAGAS = 30_000
FIRST_SECONDS = 30.0
"""Hangs apart: most of it is the start of a process on a busy machine."""

NEIGHBOUR_SECONDS = 2.0
ALIVE_SECONDS = 1.0


@pytest.mark.ring("faults")
async def test_a_shard_of_30000_open_sagas_is_taken_without_a_pause(one_shard: Trial) -> None:
    await fill(one_shard, OPEN_SAGAS)
    taken = await take(one_shard, OPEN_SAGAS)
    print(taken)
    for stall in one_shard.stalls(one_shard.coordinators[-1])[:5]:
        print(f"{stall.cpu:.2f} s of processor time in {stall.what}\n{stall.stack}")
    assert taken.lost_turns == 0
    assert taken.first <= FIRST_SECONDS
    assert taken.slowest <= NEIGHBOUR_SECONDS
    assert taken.alive <= ALIVE_SECONDS
    assert taken.stall <= STALL_SECONDS
