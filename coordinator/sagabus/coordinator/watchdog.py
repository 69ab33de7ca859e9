"""Looks on while sagas' code runs: names what does not end, and interrupts what spins in Python (rule L10).

Theory of operation. One thread looks a few times a second at `core.loop.watch`, where the loop says which pump runs. It
measures the processor time that the pumping thread has spent since it first saw that pump: a process that was stopped
spends none. Beyond the limit, which is a shorter one for code that has spun before, `PumpInterrupted` is raised in that
thread, at the very place where it stands, as long as that is in the saga's own code: never half-way through logging or
an import, which would leave a lock behind. What keeps it inside the pump is told in `core.loop.watch`.

A pump that lasts and spends no processor time is blocked in a call of C, which nothing can interrupt: it is named in
the log and counted. So is one that computes in C; the interrupt meets it when that call returns. As long as such a call
keeps hold of the interpreter, this thread stands still too.

It must never touch a saga, and never wait for the pumping thread.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from sagabus.coordinator.core.loop.watch import PLACE, WATCH, PumpInterrupted, Watch
from sagabus.coordinator.frames import OURS, frames_of_pump, is_in, place

logger = logging.getLogger(__name__)

SPIN_SECONDS: Final = 1.5
"""Of processor time in one pump. Honest sagas take milliseconds; after six seconds another process takes the shard, and
no heartbeat goes out meanwhile."""

SPUN_BEFORE_SECONDS: Final = 0.25
"""The same for code that has been interrupted once in this process: five more sagas of it cost little."""

WALL_TIMES: Final = 2
"""Times as long by the wall, whatever a busy machine has left of it for this process."""

BLOCK_SECONDS: Final = 3.0
"""Of one pump, while it spends no processor time."""

IDLE_SHARE: Final = 10
"""A blocked pump spends less than this part of its time. One that is short of processors still gets more."""

LOOK_SECONDS: Final = 0.1
"""Between two looks."""

AIM_SECONDS: Final = 0.005
"""Between two looks at a pump that is to be interrupted, until it stands in the saga's own code."""

AIMS: Final = 200
"""Looks after which it is interrupted wherever it stands: about two seconds more."""

SPUN: Final = "saga.spun"
BLOCKS: Final = "saga.blocks"

_LOCKING: Final = ("logging", "threading", "importlib", "_frozen_importlib", "_frozen_importlib_external")


class Watchdog:
    """Of the thread in which it is entered. counts: pumps that were interrupted, and pumps that were found blocked."""

    def __init__(
        self,
        *,
        watch: Watch = WATCH,
        counts: Counter[str] | None = None,
        spin_seconds: float = SPIN_SECONDS,
        spun_before_seconds: float = SPUN_BEFORE_SECONDS,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._watch = watch
        self._spin = spin_seconds
        self._spun_before = min(spun_before_seconds, spin_seconds)
        self._spun: set[str] = set()
        """Code that was interrupted."""
        self._block = block_seconds
        self._interrupting = threading.Lock()
        self._end = threading.Event()
        self._pump = 0
        self._spent = self._lasted = 0.0
        self._named: set[str] = set()
        self._aims = 0
        self._thread = 0
        self._clock: Callable[[], float] = time.process_time

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the pumps of this thread. Leaving waits for the last look; nothing is on its way then."""
        self._thread = threading.get_ident()
        self._clock = _processor_time(self._thread)
        self._watch.withdraw = self._withdraw
        self._end.clear()
        thread = threading.Thread(target=self._run, name="sagabus-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._end.wait(pause):
            try:
                pause = self.look(pause)
            except Exception:  # without this thread, a saga that spins would stop all others for good
                logger.exception("the watchdog failed to look at a running saga; it goes on")
                pause = LOOK_SECONDS

    def look(self, since: float) -> float:
        """One look, `since` seconds after the last. Returns the seconds until the next."""
        watch, pump = self._watch, self._watch.pumps
        if watch.loop is None or pump != self._pump:
            self._pump, self._spent, self._lasted = pump, self._clock(), 0.0
            self._named, self._aims = set(), 0
            return LOOK_SECONDS
        spent = self._clock() - self._spent
        self._lasted += since  # and not by a clock: while this process is stopped nobody is late
        limit = self._limit()
        if spent >= limit or (self._lasted >= WALL_TIMES * limit and spent >= self._lasted / IDLE_SHARE):
            return self._aim(pump, spent)
        if self._lasted >= self._block and spent < self._lasted / IDLE_SHARE:
            self._name(BLOCKS, f"waits in a call for {self._lasted:.1f} s, which cannot be interrupted", self._frames())
        return LOOK_SECONDS

    def _limit(self) -> float:
        """Seconds of processor time for the present pump."""
        loop = self._watch.loop
        return self._spun_before if loop is not None and loop.code in self._spun else self._spin

    def _aim(self, pump: int, spent: float) -> float:
        frames = self._frames()
        self._aims += 1
        if not frames or (self._aims < AIMS and _guarded(frames)):
            return AIM_SECONDS
        words = (
            f"the saga's code computed for more than {self._limit():g} s and did not come to rest{PLACE}{place(frames)}"
        )
        if self._interrupt(pump, words):
            self._name(SPUN, f"has computed for {spent:.1f} s and is interrupted", frames)
            if spent >= 2 * self._spin:  # of the longer limit: the shorter one is short
                self._name(BLOCKS, "does not react to it: it catches the interrupt, or computes in a call of C", frames)
        self._aims = 0
        return LOOK_SECONDS

    def _interrupt(self, pump: int, words: str) -> bool:
        """Unless that pump is over. The order is the protocol of `core.loop.watch`."""
        watch = self._watch
        with self._interrupting:
            watch.interrupting = True
            loop = watch.loop
            if loop is None or watch.pumps != pump:
                watch.interrupting = False
                return False
            watch.words = words
            if loop.code:
                self._spun.add(loop.code)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(PumpInterrupted))
            return True

    def _withdraw(self) -> None:
        """In the pumping thread. Raises what is on its way; having returned, nothing is.

        Taking it back instead, by setting None, would leave Python 3.11's flag for such exceptions set: it then takes
        the long way at every call, and under a tracer it never leaves the first instruction of the next function.
        """
        with self._interrupting:  # nobody is just sending one
            _look_up()
            self._watch.interrupting = False

    def _name(self, word: str, what: str, frames: list[FrameType]) -> None:
        """Once for each pump."""
        loop = self._watch.loop
        if word not in self._named and loop is not None:
            self._named.add(word)
            self.counts[word] += 1
            logger.warning(
                "saga %s delays all others of this process: it %s; its code is at %s", loop.name, what, place(frames)
            )

    def _frames(self) -> list[FrameType]:
        """Of the pump, the innermost first. Empty if that thread is not in one."""
        return frames_of_pump(sys._current_frames().get(self._thread))


def _look_up() -> None:
    """Python raises what waits for this thread where a function begins."""


def _processor_time(thread: int) -> Callable[[], float]:
    """Seconds. Where a thread has no clock of its own (macOS) the process's stands in: others hardly compute then."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _guarded(frames: list[FrameType]) -> bool:
    """An interrupt here could leave a lock, or a table of ours, behind in the wrong state."""
    return is_in(frames[0], OURS) or any(is_in(frame, _LOCKING) for frame in frames)
