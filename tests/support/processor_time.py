"""Processor time of a piece of work: what a busy machine does not change, and what else is in memory neither."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import fmean


@contextmanager
def collector_off() -> Iterator[None]:
    """A look for garbage in cycles goes through all that a test run has in memory: that is not the work's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of processor time of this process."""
    with collector_off():
        begun = time.process_time()
        work()
        return time.process_time() - begun


def seconds_of_one(work: Callable[[int], object], numbers: Iterable[int]) -> float:
    """The mean of many equal pieces without the slowest twentieth: one that was interrupted, and found its caches
    empty, does not count; a cost that comes with each tenth piece does."""
    times = []
    with collector_off():
        for number in numbers:
            begun = time.process_time()
            work(number)
            times.append(time.process_time() - begun)
    return fmean(sorted(times)[: len(times) - len(times) // 20])
