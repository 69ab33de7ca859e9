"""A saga to be run in several processes and on several Pythons; what it prints has to be alike.

    python tests/core/loop_program.py CHAPTER

It needs nothing but the standard library: the packages above the loop are stood in for, since theirs may be missing.
Each process fills its memory differently first, so that addresses, and with them the hashes of plain objects, differ.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import types
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

COORDINATOR = Path(__file__).parents[2] / "coordinator"


def stand_in(name: str) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(COORDINATOR / name.replace(".", "/"))]
    sys.modules[name] = package


if __name__ == "__main__":
    for name in ("sagabus", "sagabus.coordinator", "sagabus.coordinator.core"):
        stand_in(name)

from sagabus.coordinator.core.loop.loop import SagaLoop  # noqa: E402
from sagabus.coordinator.core.saga.call import Call  # noqa: E402

Saga = Callable[["Stage"], Coroutine[Any, Any, None]]


class Stage:
    """A loop whose owner answers every step with its number and fires every timer."""

    def __init__(self) -> None:
        self.loop = SagaLoop()
        self.log: list[object] = []
        self.steps: list[asyncio.Future[int]] = []

    def call(self) -> Call[int]:
        self.loop.check()
        self.steps.append(self.loop.create_future())
        self.log.append(f"step {len(self.steps)}")
        return Call(len(self.steps), self.steps[-1])

    def play(self, saga: Saga) -> None:
        main, answered, now = self.loop.start(saga(self)), 0, 0
        self.loop.pump(now)
        while not main.done():
            if answered < len(self.steps):
                answered += 1
                self.loop.resolve(self.steps[answered - 1], answered)
            else:
                number, now = next(iter(self.loop.timers().items()))
                self.loop.fire(number)
            self.loop.pump(now)
        main.result()


async def quick(number: int) -> int:
    return number


async def tasks(stage: Stage) -> None:
    """Whatever asyncio keeps in sets: TaskGroup, wait, as_completed, and the sets of users."""
    log = stage.log

    async def waiter(number: int) -> None:
        try:
            await asyncio.sleep(1000 + number)
        finally:
            log.append(f"cancelled {number}")

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(waiter(number))
            await asyncio.sleep(1)
            raise ValueError
    except* ValueError:
        log.append("group over")
    done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(5, number)) for number in range(20)])
    log.append([task.result() for task in done])
    done, _ = await asyncio.wait([asyncio.create_task(quick(n)) for n in range(20)], return_when="FIRST_COMPLETED")
    log.append([(task.get_name(), task.result()) for task in done])
    sleeping = [asyncio.create_task(asyncio.sleep(5, number)) for number in range(20)]
    log.append([await first for first in asyncio.as_completed(sleeping)])
    log.append(await asyncio.gather(*{asyncio.create_task(quick(number)) for number in range(20)}))
    futures = {stage.loop.create_future() for _ in range(20)}
    for number, future in enumerate(futures):
        future.set_result(number)
    log.append([future.result() for future in sorted(futures, key=hash)])


async def calls(stage: Stage) -> None:
    """All that takes a coroutine takes a Call, and walks a set of them alike."""
    log = stage.log
    log.append(await stage.call())
    log.append(await asyncio.create_task(stage.call()))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stage.call())
    log.append(task.result())
    log.append(await asyncio.gather(stage.call(), stage.call()))
    log.append([await first for first in asyncio.as_completed([stage.call() for _ in range(12)])])
    log.append(await asyncio.gather(*{stage.call() for _ in range(8)}))
    async with asyncio.timeout(9):
        log.append(await asyncio.wait_for(stage.call(), 3))
    log.append(await asyncio.shield(stage.call()))


async def stubborn(stage: Stage) -> None:
    while True:
        try:
            await asyncio.sleep(stage.call().number)
        except BaseException:
            stage.log.append("swallowed") if "swallowed" not in stage.log else None


def evict(stage: Stage) -> None:
    """A saga that would swallow its own eviction for ever comes to an end, and sends nothing on the way."""
    stage.loop.start(stubborn(stage))
    stage.loop.pump(0)
    stage.loop.evict()
    stage.log.append(f"{len(stage.steps)} steps, dead: {stage.loop.dead}")


def eager(stage: Stage) -> None:
    """Python 3.12 can start a task before its loop hears of it; a plain one hashes by its address."""
    options: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

    async def saga() -> None:
        coroutine = quick(1)
        try:
            await asyncio.Task(coroutine, loop=stage.loop, **options)
        except RuntimeError as error:
            stage.log.append(str(error))
        coroutine.close()

    stage.loop.start(saga())
    stage.loop.pump(0)


def noise() -> list[object]:
    """Fills memory differently in each process."""
    things: list[Any] = [[] for _ in range(random.randrange(2_000, 6_000))]
    coroutines = [quick(number) for number in range(1_000)]
    random.shuffle(coroutines)
    for coroutine in coroutines:
        coroutine.close()
    loop = SagaLoop()
    kept = [loop.create_future() for _ in range(2_000)]
    random.shuffle(kept)
    return things[::2] + coroutines[::3] + kept[::3]


CHAPTERS: dict[str, Callable[[Stage], None]] = {
    "tasks": lambda stage: stage.play(tasks),
    "calls": lambda stage: stage.play(calls),
    "evict": evict,
    "eager": eager,
}

if __name__ == "__main__":
    noises = noise()
    gc.collect()
    chosen = Stage()
    CHAPTERS[sys.argv[1]](chosen)
    print(*chosen.log, sep="\n")
