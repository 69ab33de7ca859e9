"""Recorded histories from files and from a database, and what a replay with the code at hand says of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sagabus.commands.check.finding import Finding, Severity
from sagabus.commands.modules import Definition
from sagabus.commands.origin import shown_line
from sagabus.commands.subcommand import Exit, Failed
from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.core.saga.recorded import HistoryUnreadable, Recorded
from sagabus.coordinator.core.saga.rehearsal import Stopped, rehearse
from sagabus.coordinator.core.saga.status import CLOSED
from sagabus.coordinator.store.rows import SagaKey
from sagabus.coordinator.store.samples import SampleReads
from sagabus.messaging.postgres.database import Connection, Database, DatabaseUnreachable

AT_A_TIME: Final = 20
"""Sagas whose histories are read by one statement."""

PAGE: Final = 1_000
"""Ids of open sagas that are read by one statement."""

SHOWN: Final = 20
"""Sagas of one version that are named one by one. The others are counted."""

PROGRESS_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
"""To wait for a database that does not answer."""

T = TypeVar("T")

Progress = Callable[[str], None]


@dataclass
class Tally:
    """Of one version of a definition. stopped: of how many open sagas the code goes another way; closed ones beside."""

    open: int = 0
    closed: int = 0
    stopped: int = 0
    closed_stopped: int = 0
    has_code: bool = True

    @property
    def follows(self) -> int:
        return self.open - self.stopped if self.has_code else 0

    def as_json(self) -> dict[str, object]:
        stop = self.stopped if self.has_code else self.open
        return {
            "open": self.open, "follow": self.follows, "stop": stop, "closed": self.closed,
            "closed_stop": self.closed_stopped, "has_code": self.has_code,
        }  # fmt: skip


@dataclass
class Rehearsals:
    """Grows history by history. strict: a history of a closed saga has to be followed too."""

    definitions: Sequence[Definition]
    strict: bool
    tallies: dict[tuple[str, int], Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _named: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._code = {(one.name, one.version): one for one in self.definitions}
        for one in sorted(self.definitions, key=lambda each: each.version):
            self._code[one.name, 0] = one  # version 0 waits for its definition, and takes the newest

    @property
    def count(self) -> int:
        return sum(one.open + one.closed for one in self.tallies.values())

    def take(self, one: Recorded, *, file: str = "") -> None:
        """file: where it stands, if it came from one."""
        head = one.head
        key, closed = (head.saga, head.version), head.status in CLOSED
        tally = self.tallies.setdefault(key, Tally(has_code=key in self._code))
        if closed:
            tally.closed += 1
        else:
            tally.open += 1
        if not tally.has_code:
            self._without_code(one, tally, file)
            return
        stopped = rehearse(one, self._code[key])
        if stopped is not None:
            self._stopped(one, stopped, tally, closed, file)

    def _stopped(self, one: Recorded, stopped: Stopped, tally: Tally, closed: bool, file: str) -> None:
        if closed:
            tally.closed_stopped += 1
        else:
            tally.stopped += 1
        key = one.head.saga, one.head.version
        self._named[key] += 1
        if self._named[key] > SHOWN:
            return
        what = f"{stopped.said}{f' ({file})' if file else ''}"
        severity = Severity.WARNING if closed and not self.strict else Severity.ERROR
        self.findings.append(
            Finding(
                code=f"history.{stopped.kind}", severity=severity, what=what, cure=_cure(closed), id=one.head.id,
                saga=f"{key[0]} version {key[1]}", row=stopped.row, place=_place(stopped.place),
            )
        )  # fmt: skip

    def _without_code(self, one: Recorded, tally: Tally, file: str) -> None:
        """Once for each version."""
        name, version = one.head.saga, one.head.version
        self.findings = [
            f for f in self.findings if (f.code, f.saga) != ("history.no_code", f"{name} version {version}")
        ]
        has = ", ".join(f"{one} version {number}" for one, number in sorted(self._code) if number) or "none"
        those = f"{tally.open} open and {tally.closed} closed saga{'s' if tally.open + tally.closed != 1 else ''}"
        self.findings.append(
            Finding(
                code="history.no_code", severity=Severity.ERROR if tally.open or self.strict else Severity.WARNING,
                what=f"{those} of {name} version {version}, which these modules do not have; they have {has}",
                cure="keep that version beside the new one until none is open, or name its module too",
                saga=f"{name} version {version}", id=one.head.id,
            )
        )  # fmt: skip

    def not_named(self) -> Iterator[str]:
        """Sentences about those that were counted only."""
        for (name, version), count in sorted(self._named.items()):
            if count > SHOWN:
                yield f"{name} version {version}: {count - SHOWN} more that do not follow are not listed"


def _cure(closed: bool) -> str:
    if closed:
        return "this one is left alone, and an open one like it would stop: give the changed saga a new version"
    return "give the changed saga a new version, beside this one, or undo the change"


def _place(place: str) -> str:
    file, _, line = place.rpartition(":")
    return shown_line(file, int(line)) if file and line.isdigit() else place


def of_folder(folder: str) -> Iterator[tuple[str, Recorded]]:
    """Each file `*.jsonl` in it and below, by name; or of a file, that one. Raises Failed."""
    path = Path(folder)
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    if not files:
        what = "holds no file *.jsonl" if path.is_dir() else "is not there"
        raise Failed(Exit.USAGE, f"--histories: {folder} {what}: write one with `sagabus show ID --export FILE`")
    for file in files:
        try:
            with file.open("rb") as written:
                yield str(file), recorded.read(written, what=str(file))
        except HistoryUnreadable as error:
            raise Failed(Exit.USAGE, str(error)) from error
        except OSError as error:
            raise Failed(Exit.USAGE, f"--histories: {file} cannot be read: {error.strerror}") from error


class DatabaseHistories:
    """Of one namespace. Reads only, a few sagas at a time, each time in a transaction of its own that may not write."""

    def __init__(self, url: str, namespace: str) -> None:
        self._database = Database(url, connections=1)
        self._reads = SampleReads(namespace)

    async def reachable(self) -> None:
        """Raises DatabaseUnreachable."""
        await self._database.wait_until_reachable(patience=ANSWER_SECONDS)

    async def stop(self) -> None:
        await self._database.stop()

    async def sample(self, most: int) -> list[SagaKey]:
        """At most so many open sagas of each version, and as many that have closed."""

        async def look(connection: Connection) -> list[SagaKey]:
            are_open = await self._reads.open_sample(connection, most=most)
            return [*are_open, *await self._reads.closed_sample(connection, most=most)]

        return await self._read(look)

    async def open_sample(self, most: int) -> list[SagaKey]:
        return await self._read(partial(self._reads.open_sample, most=most))

    async def all_open(self) -> AsyncIterator[list[SagaKey]]:
        """Page by page. One that closes meanwhile may be among them."""
        after = ""
        while keys := await self._read(partial(self._reads.open_page, after=after, most=PAGE)):
            yield keys
            after = keys[-1].id

    async def recorded(self, keys: Sequence[SagaKey]) -> AsyncIterator[Recorded]:
        for first in range(0, len(keys), AT_A_TIME):
            for one in await self._read(partial(self._reads.recorded, keys=keys[first : first + AT_A_TIME])):
                yield one

    async def _read(self, reading: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            return await reading(connection)


class Pace:
    """Says how far long work is, every few seconds."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._next = time.monotonic() + PROGRESS_SECONDS

    def at(self, rehearsals: Rehearsals) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._tell(f"{rehearsals.count} histories replayed so far")


__all__ = ["DatabaseHistories", "DatabaseUnreachable", "Pace", "Rehearsals", "Tally", "of_folder"]
