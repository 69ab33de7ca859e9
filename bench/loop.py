"""What the deterministic loop costs, in µs a saga, beside a plain coroutine driven by `send()` in the same run.

    python bench/loop.py [sagas]

A saga is: loop made, main task started, three futures resolved one pump each, evicted. Rows: "plain" awaits three
times; "gather, timeout" awaits two of the three together under `asyncio.timeout`. "in asyncio" does the same from
inside a task of a running asyncio loop, as the coordinator does. Each figure is the best of several rounds, taken in
turns. It measures the loop alone: no history, no commands.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from time import perf_counter
from typing import Any

from sagabus.coordinator.core.loop.loop import SagaLoop

ROUNDS = 7


class Step:
    """The least that can be awaited: suspends once, comes back with what was sent."""

    def __await__(self) -> Generator[None, int, int]:
        return (yield)


async def floor_saga() -> int:
    return await Step() + await Step() + await Step()


def floor() -> None:
    saga = floor_saga()
    saga.send(None)
    saga.send(1)
    saga.send(2)
    with suppress(StopIteration):
        saga.send(3)


async def plain_saga(loop: SagaLoop, futures: list[asyncio.Future[int]]) -> int:
    total = 0
    for _ in range(3):
        futures.append(loop.create_future())
        total += await futures[-1]
    return total


async def parallel_saga(loop: SagaLoop, futures: list[asyncio.Future[int]]) -> int:
    futures.extend(loop.create_future() for _ in range(2))
    async with asyncio.timeout(60):
        first, second = await asyncio.gather(*futures)
    futures.append(loop.create_future())
    return first + second + await futures[-1]


def on_loop(saga: Callable[..., Any]) -> None:
    loop = SagaLoop()
    futures: list[asyncio.Future[int]] = []
    task = loop.start(saga(loop, futures))
    loop.pump(0)
    for step in (1, 2, 3):
        loop.resolve(futures[step - 1], step)
        loop.pump(step)
    assert task.result() == 6
    loop.evict()


def timed(run: Callable[[], None], sagas: int) -> float:
    gc.collect()
    begin = perf_counter()
    for _ in range(sagas):
        run()
    return (perf_counter() - begin) / sagas * 1e6


def main() -> None:
    sagas = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rows: dict[str, Callable[[], None]] = {
        "floor: send()": floor,
        "plain": lambda: on_loop(plain_saga),
        "gather, timeout": lambda: on_loop(parallel_saga),
    }
    best = dict.fromkeys((*rows, "plain, in asyncio", "gather, timeout, in asyncio"), float("inf"))

    async def inside(name: str) -> float:
        return timed(rows[name], sagas)

    for _ in range(ROUNDS):
        for name, run in rows.items():
            best[name] = min(best[name], timed(run, sagas))
            if run is not floor:
                best[f"{name}, in asyncio"] = min(best[f"{name}, in asyncio"], asyncio.run(inside(name)))
    lowest = best["floor: send()"]
    print(f"Python {sys.version.split()[0]}, {sagas} sagas a round, best of {ROUNDS}")
    for name, cost in best.items():
        print(f"{name:<30} {cost:7.2f} µs a saga {cost / lowest:7.1f} × floor")


if __name__ == "__main__":
    main()
