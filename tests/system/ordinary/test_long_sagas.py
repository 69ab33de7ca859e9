"""Sagas of thousands of steps: they survive a kill, and nobody on their shard hears of it."""

from __future__ import annotations

import time

import pytest

from tests.support.conditions import until
from tests.system.ordinary.trial import CROWD, Trial

STEPS, KILLED_AT = 6_000, 5_000
CALLS = 5_000

GOES_ON_SECONDS = 10.0
"""From the kill to the next row of history, the start of the process included."""

NEIGHBOUR_SECONDS = 2.0

MAKING_SECONDS = 0.5
"""Of processor time: 5,000 calls are made by one run of the saga's own code, which cannot be divided."""

ALIVE_SECONDS = 1.0
HANG_SECONDS = 400.0


@pytest.mark.ring("faults")
async def test_a_saga_of_6000_steps_goes_on_after_a_kill_and_delays_nobody(made: Trial) -> None:
    alive = made.heartbeat()
    await made.neighbours.start()
    alive.start()
    made.start_saga("LONG-1", "march", size=STEPS)

    async def far() -> bool:
        return await made.rows("LONG-1") >= 2 * KILLED_AT

    begun = time.monotonic()
    await until(far, within=HANG_SECONDS, every=0.2, what=f"{KILLED_AT} steps are done")
    print(f"{KILLED_AT} steps took {time.monotonic() - begun:.1f} s")
    before_kill = made.neighbours.slowest(to=time.monotonic() - NEIGHBOUR_SECONDS)
    killed, back = await killed_and_gone_on(made, "LONG-1")
    await made.ends("LONG-1", within=HANG_SECONDS)
    await made.neighbours.stop()
    await alive.stop()
    told(made, f"goes on {back - killed:.1f} s after the kill, {time.monotonic() - killed:.1f} s until the end")
    print(f"neighbours before the kill: {before_kill:.2f} s, after: {made.neighbours.slowest(back):.2f} s")
    print(f"/livez: {alive.slowest():.3f} s")
    assert back - killed <= GOES_ON_SECONDS
    assert before_kill <= NEIGHBOUR_SECONDS
    assert made.neighbours.slowest(back) <= NEIGHBOUR_SECONDS
    assert made.neighbours.slowest() <= GOES_ON_SECONDS + NEIGHBOUR_SECONDS
    assert alive.slowest() <= ALIVE_SECONDS
    undisturbed(made)


@pytest.mark.ring("faults")
async def test_a_gather_of_5000_calls_ends_and_delays_nobody(made: Trial) -> None:
    await made.deployment.participant(CROWD, "crowd")
    alive = made.heartbeat()
    await made.neighbours.start()
    alive.start()
    begun = time.monotonic()
    made.start_saga("WIDE-1", "fan", size=CALLS)
    try:
        await made.ends("WIDE-1", within=HANG_SECONDS)
    finally:
        told(made, f"{await made.rows('WIDE-1')} rows after {time.monotonic() - begun:.1f} s")
        print(f"/livez: {alive.slowest():.3f} s; neighbours: {made.neighbours.slowest():.2f} s")
    await made.neighbours.stop()
    await alive.stop()
    assert made.neighbours.slowest() <= NEIGHBOUR_SECONDS
    assert alive.slowest() <= ALIVE_SECONDS
    assert made.lost_turns() == []
    assert max((stall.cpu for stall in made.stalls(made.coordinators[0])), default=0) <= MAKING_SECONDS


async def killed_and_gone_on(made: Trial, id: str) -> tuple[float, float]:
    """The moments of the kill and of the next row of this saga."""
    made.coordinators[-1].kill()
    killed, rows = time.monotonic(), await made.rows(id)
    await made.coordinator()

    async def gone_on() -> bool:
        return await made.rows(id) > rows

    await until(gone_on, within=HANG_SECONDS, every=0.05, what=f"{id} has more than {rows} rows")
    return killed, time.monotonic()


def undisturbed(made: Trial) -> None:
    """No turn was lost, and no loop stood still."""
    assert made.lost_turns() == []
    assert [stall for child in made.coordinators for stall in made.stalls(child)] == []


def told(made: Trial, words: str) -> None:
    """Figures, for who runs it with -s."""
    print(words)
    print(f"lost turns: {len(made.lost_turns())}")
    for child in made.coordinators:
        for stall in sorted(made.stalls(child), key=lambda one: -one.cpu)[:5]:
            print(f"{child.name}: {stall.cpu:.2f} s of processor time in {stall.what}\n{stall.stack}")
