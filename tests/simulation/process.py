"""A simulated process: a loop, a clock that may be wrong, and what it runs. It can be killed at any boundary.

A boundary is a point between two effects: before and after each statement, commit, append and poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Protocol

from tests.simulation.bus import SESSION, Stream
from tests.simulation.engine import Engine, SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.world import World

START = 1_800_000_000.0
"""Seconds since 1970 when a run begins, by a clock that is right."""

FAR_AWAY = 1 << 60


class ProcessDied(BaseException):
    """Code of a process that is dead ran on: nothing of it may take effect."""


class Program(Protocol):
    """What a process runs: made anew for each life."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def bury(self) -> None:
        """Drop what it remembers without running any of it."""


class SimulatedProcess:
    """One process of a deployment, through several lives."""

    def __init__(
        self, world: World, name: str, make: Callable[[SimulatedProcess], Program], random: Random, *, skew: float
    ) -> None:
        self.name = name
        self.skew = skew
        self.streams: list[Stream] = []
        self.boundaries = 0
        self.kill_at = FAR_AWAY
        self.commits: dict[int, str] = {}
        """Number of a commit to its fate."""
        self.publications: dict[int, float] = {}
        """Number of a publication to the share of it that arrives."""
        self._world = world
        self._engine: Engine = world.engine
        self._make = make
        self._random = random
        self.committed = self.published = 0
        self.loop: SimulatedLoop = self._engine.loop(name)
        self.loop.alive = False
        self.program: Program | None = None

    @property
    def alive(self) -> bool:
        return self.loop.alive

    @property
    def monotonic(self) -> float:
        return self._engine.now

    def clock(self) -> float:
        """Seconds since 1970, as this machine believes."""
        return self._world.wall() + self.skew

    def boot(self) -> None:
        if self.alive:
            return
        self._engine.forget(self.loop)
        self.loop = self._engine.loop(self.name)
        self.loop.create_task(self._live())

    def kill(self) -> None:
        """SIGKILL: the kernel closes its sockets; the group waits for a session's length."""
        if not self.alive:
            return
        self.loop.alive = False
        for backend in list(self._world.server.backends):
            if backend.process is self:
                backend.end()
        streams, self.streams = self.streams, []
        for stream in streams:
            self._world.later(SESSION, stream.expire)
        self._world.died(self.loop, self.program)
        self.program = None

    def stop(self) -> None:
        """SIGSTOP. Its sockets stay open, and so do its transactions."""
        if self.alive and not self.loop.stopped:
            self.loop.stopped = True
            self._world.later(SESSION, self._silent)

    def go_on(self) -> None:
        self.loop.stopped = False

    async def terminate(self) -> None:
        """SIGTERM, to be run on this process's loop. A second one changes nothing."""
        program, self.program = self.program, None
        if program is not None:
            await program.stop()
            self.program = program
            self.kill()

    async def boundary(self, _: str) -> None:
        """Some time passes; the process may die here."""
        if not self.alive:
            raise ProcessDied
        self.boundaries += 1
        if self.boundaries >= self.kill_at:
            self.kill_at = FAR_AWAY
            self._world.killed(self)
            await asyncio.get_running_loop().create_future()
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.choice((0.0, 0.0005, 0.002, 0.02)))

    def commit_fate(self) -> str:
        """known, or lost on the way back: it "really" happened, or "never"."""
        self.committed += 1
        return self.commits.get(self.committed, "known")

    def publish_fate(self, messages: int) -> int:
        """How many of them arrive before it fails; more than there are: it does not fail."""
        self.published += 1
        share = self.publications.get(self.published)
        return messages + 1 if share is None else round(share * messages)

    def _silent(self) -> None:
        if self.loop.stopped:
            for stream in list(self.streams):
                stream.expire()

    async def _live(self) -> None:
        """A supervisor starts it again until it starts."""
        while True:
            self.program = self._make(self)
            try:
                await self.program.start()
                return
            except Exception:
                with suppress(Exception):
                    await self.program.stop()
            await asyncio.sleep(0.5)


Work = Callable[[], Awaitable[None]]
