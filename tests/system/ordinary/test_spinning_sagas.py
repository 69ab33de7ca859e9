"""Sagas that never give the processor back: each costs the others one bounded turn, once."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from tests.support.conditions import until
from tests.support.processes import Child
from tests.system.ordinary.trial import Trial

SPINNING = 6
WAIT_SECONDS = 5.0
"""What all six together may cost the others: 1.5 s for the first, 0.25 s for each of the others, and the time until the
watchdog looks. Processor time of the coordinator's loop: on a busy machine it is less, since the watchdog also counts
by the wall, and never more."""

ORDINARY_SECONDS = 2.0
"""What a saga of one step may take when nothing is wrong: the first of a new process too."""

SETTLED_NEIGHBOURS = 100
"""Ten seconds' worth."""

HANG_SECONDS = 300.0


@pytest.mark.ring("faults")
async def test_six_spinning_sagas_cost_the_others_five_seconds_once(made: Trial) -> None:
    await made.neighbours.start()
    begun = time.monotonic()
    for number in range(SPINNING):
        made.start_saga(f"SPIN-{number}", "spin")
    await asyncio.gather(*(made.flagged(f"SPIN-{number}", within=200) for number in range(SPINNING)))
    await settled(made)
    tell(made, begun)
    for _ in range(2):
        await made.kill_and_restart()
        back = time.monotonic()
        await settled(made)
        tell(made, back)
    await made.neighbours.stop()
    first, *later = made.coordinators
    assert len(spins(first)) == SPINNING
    assert stood_still(made, first) <= WAIT_SECONDS
    assert [spins(each) for each in later] == [[], []]
    assert all(stood_still(made, each) <= ORDINARY_SECONDS for each in later)
    assert made.lost_turns() == []


async def settled(made: Trial) -> None:
    """Wait until neighbours have ended in their ordinary time for a while, one after the other."""

    def so() -> bool:
        last = list(made.neighbours.sagas.values())[-SETTLED_NEIGHBOURS:-5]
        return bool(last) and all(one.ended is not None and one.seconds < ORDINARY_SECONDS for one in last)

    await until(so, within=HANG_SECONDS, every=0.1, what="neighbours end as they did before")


def spins(coordinator: Child) -> list[float]:
    """Seconds of processor time that each of its sagas took that was interrupted, as its log says."""
    return [float(found[1]) for found in re.finditer(r"computed for ([\d.]+) s and is interrupted", coordinator.stderr)]


def stood_still(made: Trial, coordinator: Child) -> float:
    """Seconds of processor time in which its loop did nothing else."""
    return sum(stall.cpu for stall in made.stalls(coordinator))


def tell(made: Trial, since: float) -> None:
    """Figures, for who runs it with -s."""
    coordinator = made.coordinators[-1]
    print(
        f"{coordinator.name}: spins {spins(coordinator)}; its loop stood still for "
        f"{stood_still(made, coordinator):.2f} s of processor time, the neighbours for "
        f"{made.neighbours.stood_still(since):.1f} s"
    )
