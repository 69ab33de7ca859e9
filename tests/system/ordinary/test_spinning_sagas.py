"""Sagas that never give the processor back: each costs the others one bounded turn, once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.conditions import until
from tests.support.kafka_installation import KafkaInstallation
from tests.system.ordinary.trial import Trial, trial

SPINNING = 6
WAIT_SECONDS = 5.0
"""What all six together may cost the others, after the first restart."""

ORDINARY_SECONDS = 2.0
"""What a saga of one step may take when nothing is wrong: the first of a new process too."""

SETTLED_NEIGHBOURS = 100
"""Ten seconds' worth."""

HANG_SECONDS = 300.0


@pytest.mark.ring("faults")
async def test_six_spinning_sagas_cost_the_others_five_seconds_once(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with trial(kafka_installation, database, tmp_path) as made:
        await made.coordinator()
        await made.ready()
        await made.neighbours.start()
        spun = time.monotonic()
        for number in range(SPINNING):
            made.start_saga(f"SPIN-{number}", "spin")
        await asyncio.gather(*(made.flagged(f"SPIN-{number}", within=200) for number in range(SPINNING)))
        await settled(made)
        print(f"first: stood still for {made.neighbours.stood_still(spun):.1f} s; {len(made.lost_turns())} lost turns")
        stood_still = []
        for _ in range(2):
            killed = await made.kill_and_restart()
            back = time.monotonic()
            await settled(made)
            stood_still.append(made.neighbours.stood_still(back))
            print(f"restart: {back - killed:.1f} s; then {stood_still[-1]:.1f} s; {len(made.lost_turns())} lost turns")
        await made.neighbours.stop()
        assert stood_still[0] <= WAIT_SECONDS
        assert stood_still[1] <= ORDINARY_SECONDS
        assert made.lost_turns() == []


async def settled(made: Trial) -> None:
    """Wait until neighbours have ended in their ordinary time for a while, one after the other."""

    def so() -> bool:
        last = list(made.neighbours.sagas.values())[-SETTLED_NEIGHBOURS:-5]
        return bool(last) and all(one.ended is not None and one.seconds < ORDINARY_SECONDS for one in last)

    await until(so, within=HANG_SECONDS, every=0.1, what="neighbours end as they did before")
