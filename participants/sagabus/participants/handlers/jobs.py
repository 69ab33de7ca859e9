"""The external jobs of one tenure: those in memory, and how far the rows `started` beyond them have been read.

The inbox is the queue. A row `started` is a job to be run; at most JOBS_IN_MEMORY of a shard are in memory, the others
wait as rows, and are read a page at a time, oldest first, when there is room. A command is therefore always taken in:
external handlers that take hours hold back no other command of their shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from sagabus.contracts.names import CommandId
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.outcome import HandlerOutcome
from sagabus.participants.received import Key, ReceivedCommand

JOBS_IN_MEMORY: Final = 500
"""External jobs of one shard, running or waiting for their turn to run. Each has its command in memory, and a task."""

JOBS_OF_A_PAGE: Final = 250
"""Rows `started` that are read at least, once there is room for so many: a page costs one statement."""


@dataclass(eq=False, slots=True)
class Job:
    """settles: who wants to know how it ends. outcome: set when it has ended."""

    tenure: Tenure
    handler: Handler
    command: ReceivedCommand
    settles: dict[CommandId, ReceivedCommand] = field(default_factory=dict)
    attempt: int = 0
    """The highest of a command that came while it runs: the outcome counts for this one too (P1)."""
    outcome: HandlerOutcome | None = None
    written: asyncio.Event | None = None
    """Set when the outcome is committed, for one that waits for that."""


class Position(NamedTuple):
    """Of a row `started`, in the order in which they are read: by the moment of its last write, then by its key."""

    at: datetime | None
    source: str
    id: str


FRONT: Final = Position(None, "", "")


class Jobs:
    """Of one tenure. unread: rows `started` may be waiting that are not in memory."""

    def __init__(self) -> None:
        self.unread = True
        """At the beginning the inbox has not been looked at."""
        self.after = FRONT
        """Rows up to here have been read."""
        self._again = False
        self._known: dict[Key, Job] = {}
        self._ended: dict[Job, None] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._known.values())

    @property
    def ended(self) -> Iterator[Job]:
        """Whose outcomes are to be written, in the order of their ends."""
        return iter(self._ended)

    @property
    def wanted(self) -> int:
        """How many rows are to be read now; mostly none."""
        room = JOBS_IN_MEMORY - len(self._known)
        return room if self.unread and room >= JOBS_OF_A_PAGE else 0

    def admits(self, begun: int) -> bool:
        """Whether one more may run now, with so many begun beside. Those that wait as rows come first."""
        return not self.unread and len(self._known) + begun < JOBS_IN_MEMORY

    def find(self, key: Key) -> Job | None:
        return self._known.get(key)

    def add(self, job: Job) -> None:
        self._known[job.command.key] = job

    def end(self, job: Job, outcome: HandlerOutcome) -> None:
        job.outcome = outcome
        if self._known.get(job.command.key) is job:
            self._ended[job] = None

    def forget(self, job: Job) -> None:
        """The same command may have begun again since: a later attempt is another job."""
        self._ended.pop(job, None)
        if self._known.get(job.command.key) is job:
            del self._known[job.command.key]

    def left_waiting(self) -> None:
        """A row `started` was written and has no job. It stands behind what was read, unless a clock went back."""
        self._again = self.unread
        self.unread = True

    def read(self, after: Position, *, all: bool) -> None:
        """Rows up to there were read. all: those are all; what was left waiting meanwhile is looked for once more."""
        self.after = FRONT if all else after
        if all:
            self.unread, self._again = self._again, False
