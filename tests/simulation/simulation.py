"""Runs of the simulation: one seed, many seeds, and the shortest schedule that still shows a violation."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Final

from tests.simulation.checker import check, kind_of
from tests.simulation.plan import Schedule, schedule
from tests.simulation.world import World

PORTION: Final = 50
"""Runs that a process is given at a time."""


@dataclass(frozen=True)
class Run:
    """What came of a schedule. digest: of all that was published; equal for equal runs. rounds: a measure of work."""

    schedule: Schedule
    violations: tuple[str, ...]
    digest: str
    statuses: tuple[str, ...]
    rounds: int
    commits: int
    injected: tuple[str, ...]

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(map(kind_of, self.violations))


def simulate(wanted: Schedule) -> Run:
    """Run it. Never raises because of what the run does."""
    logging.disable(logging.CRITICAL)
    world = World(wanted)
    try:
        stuck = world.run()
        found = tuple(check(world, stuck))
    finally:
        logging.disable(logging.NOTSET)
    digest = hashlib.sha256()
    for record in world.bus.published:
        digest.update(repr((record.topic, record.partition, record.offset, record.key, record.value)).encode())
        digest.update(repr(record.headers).encode())
    statuses = tuple(sorted(row["status"] + ("!" if row["attention"] else "") for row in world.sagas()))
    injected = tuple(fault.kind for fault in world.injected)
    run = Run(wanted, found, digest.hexdigest(), statuses, world.engine.rounds, world.server.commits, injected)
    del world
    return run


def simulated(seeds: Sequence[int], *, must: tuple[str, ...] = ()) -> Iterator[Run]:
    """One after the other. Garbage is collected between runs."""
    for number, seed in enumerate(seeds):
        yield simulate(schedule(seed, must=must))
        if number % 20 == 19:
            gc.collect()


@dataclass(frozen=True)
class Ended:
    """A run as it is handed from process to process."""

    seed: int
    violations: tuple[str, ...]
    statuses: tuple[str, ...]
    injected: tuple[str, ...]


def portion(first: int, count: int) -> list[Ended]:
    """So many runs, in this process."""
    seeds = range(first, first + count)
    return [Ended(run.schedule.seed, run.violations, run.statuses, run.injected) for run in simulated(seeds)]


def everywhere(first: int, seeds: int, *, workers: int | None = None) -> Iterator[list[Ended]]:
    """All runs, on all cores, in portions as they end."""
    starts = range(first, first + seeds, PORTION)
    with many_processes(workers) as pool:
        parts = [pool.submit(portion, at, min(PORTION, first + seeds - at)) for at in starts]
        for part in as_completed(parts):
            yield part.result()


def many_processes(workers: int | None = None) -> ProcessPoolExecutor:
    """One a core, if nothing is said. They end with this process, however that ends."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_the_parent)


def _end_with_the_parent() -> None:
    """A pool whose process was killed would work off what it was given."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def shrunk(run: Run, *, most: int = 400) -> Run:
    """Leave out whatever can be left out while a violation of the same kind remains."""
    wanted, best, tries = run.kinds, run, 0
    changed = True
    while changed and tries < most:
        changed = False
        number = best.schedule.size
        while number > 0 and tries < most:
            number -= 1
            tries += 1
            smaller = simulate(best.schedule.without(number))
            if smaller.kinds & wanted:
                best, changed = smaller, True
    return best
