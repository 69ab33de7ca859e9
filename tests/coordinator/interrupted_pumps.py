"""Pumps that end at about the moment when a watchdog interrupts them, again and again.

    python -m tests.coordinator.interrupted_pumps PUMPS [--traced]

A thread interrupts whatever pump it finds, as fast as it can, with Python changing threads as often as it can. An
interrupt that reached anything but the saga's code would end this process. How the pumps ended is printed as JSON.
Traced, as under a debugger or a measurement of coverage, Python runs other code of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from asyncio.events import _get_running_loop
from collections import Counter
from random import Random

from sagabus.coordinator.core.loop.loop import PumpInterrupted, SagaLoop
from sagabus.coordinator.core.loop.watch import WATCH
from sagabus.coordinator.watchdog import Watchdog

ENOUGH = 50
"""Interrupts. On a busy machine the thread that interrupts may come to its turn late: there are more pumps then."""

MOST_TIMES = 20
"""So many times the pumps that were asked for, at most."""


async def computes(turns: int) -> int:
    for turn in range(turns):
        await asyncio.sleep(0) if turn % 7 == 0 else None
    return turns


async def swallows(turns: int) -> int:
    for _ in range(turns):
        try:
            await asyncio.sleep(0)
        except BaseException:
            continue
    return turns


def attack(watchdog: Watchdog, end: threading.Event) -> None:
    while not end.is_set():
        pump = WATCH.pumps
        if WATCH.loop is not None:
            watchdog._interrupt(pump, "interrupted")


def outside(turns: int) -> int:
    """Stands for the coordinator: what comes between two pumps."""
    return sum(number for number in range(turns))


def pump(random: Random, counts: Counter[str]) -> None:
    saga = (computes, swallows)[random.randrange(2)]
    loop = SagaLoop()
    task = loop.start(saga(random.randrange(600)))
    loop.pump(0)
    if isinstance(loop.failure, PumpInterrupted):
        counts["interrupted"] += 1
        assert str(loop.failure) == "interrupted", "it has its words"
    else:
        counts["ended"] += 1
        assert task.done()
        assert task.result() >= 0
    loop.evict()
    assert (loop.tasks(), WATCH.loop, WATCH.words) == ([], None, "")


async def main(pumps: int) -> None:
    counts: Counter[str] = Counter()
    random, watchdog, end, here = Random(1), Watchdog(spin_seconds=3600), threading.Event(), _get_running_loop()
    sys.setswitchinterval(1e-6)
    with watchdog.running():
        thread = threading.Thread(target=attack, args=(watchdog, end))
        thread.start()
        try:
            for number in range(pumps * MOST_TIMES):
                if number >= pumps and counts["interrupted"] >= ENOUGH:
                    break
                pump(random, counts)
                outside(random.randrange(30))
                assert _get_running_loop() is here
                assert asyncio.current_task() is not None
        finally:
            end.set()
            thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    if "--traced" in sys.argv:
        sys.settrace(lambda *_: None)
    asyncio.run(main(int(sys.argv[1])))
