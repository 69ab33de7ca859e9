"""Processor time of processes by kind, what has ended included.

A process's own time and that of all that it has waited for, and the same of its descendants that live: a session of
PostgreSQL that has ended is counted by the postmaster. Linux counts in steps of 10 ms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ALL = "all"

Kinds = Mapping[str, Sequence[int]]
"""A kind of process to the ids of its processes."""


def seconds_of(pid: int) -> float:
    """Since the process began. 0 if there is none."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]  # the parent last: what ends meanwhile is counted twice,
    except psutil.NoSuchProcess:  # and not never
        return 0.0
    return sum(map(_own_seconds, family))


def seconds(kinds: Kinds) -> dict[str, float]:
    """Of all processes of each kind, since they began."""
    return {kind: sum(map(seconds_of, pids)) for kind, pids in kinds.items()}


def milliseconds_each(spent: Mapping[str, float], count: int) -> dict[str, float]:
    """Seconds by kind, as milliseconds for one of `count`, with the sum of all kinds."""
    each = {kind: round(1_000 * value / count, 3) for kind, value in spent.items()}
    return {**each, ALL: round(1_000 * sum(spent.values()) / count, 3)}


class Reading:
    """Processor time and time from now on."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._begun = time.perf_counter()
        self._before = seconds(kinds)

    @property
    def passed(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._begun

    def spent(self) -> dict[str, float]:
        """Seconds of processor time by kind."""
        now = seconds(self._kinds)
        return {kind: now[kind] - before for kind, before in self._before.items()}


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    waited_for = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + waited_for)


def compiling_seconds(pid: int) -> float:
    """Of a Java process, what its compilers have taken since it began. 0 if there is none.

    They go on for minutes after the work that they compile for, whatever the process does meanwhile.
    """
    try:
        threads = psutil.Process(pid).threads()
    except psutil.NoSuchProcess:
        return 0.0
    return sum(one.user_time + one.system_time for one in threads if "Compiler" in _thread_name(pid, one.id))


def _thread_name(pid: int, thread: int) -> str:
    """Empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/task/{thread}/comm").read_text()
    except OSError:
        return ""
