"""DIR/run.json: where the embedded bus and database of a running host are, for other processes on this machine.

The host writes it when all is up and removes it when it ends. A reader believes it only while that very host lives: its
process id and its start time must both fit, since ids are used again. Nothing here starts or stops anything.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

NAME: Final = "run.json"

START_TOLERANCE: Final = 2.0
"""Seconds by which two readings of one start time may differ: it is told from the boot time, which the clock moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a host tells. `http` is None where the coordinator's endpoint is off."""

    host_pid: int
    host_started: float
    kafka: str
    bus: str
    database: str
    http: str | None = None

    @classmethod
    def of_this_process(cls, *, kafka: str, bus: str, database: str, http: str | None = None) -> Run:
        """With the calling process as the host. `bus` is `EmbeddedKafka.id`, `database` a URL."""
        host = psutil.Process()
        return cls(
            host_pid=host.pid, host_started=host.create_time(), kafka=kafka, bus=bus, database=database, http=http
        )

    @property
    def live(self) -> bool:
        """Whether the host that wrote this still runs."""
        try:
            host = psutil.Process(self.host_pid)
            same = abs(host.create_time() - self.host_started) <= START_TOLERANCE
            return same and host.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def write_run(folder: Path, run: Run) -> Path:
    """Put `folder`/run.json in place in one step: a reader sees the old one, none, or this one. Owner's eyes only."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{NAME}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run), indent=2) + "\n")
        return Path(name).replace(folder / NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_run(folder: Path) -> Run | None:
    """What the live host of `folder` tells. None without one: no file, a dead host's, or one that makes no sense."""
    try:
        run = _read(folder / NAME)
    except (OSError, ValueError):
        return None
    return run if run.live else None


def remove_run(folder: Path) -> None:
    """Take back this process's own run.json; another host's stays."""
    with suppress(OSError, ValueError):
        run = _read(folder / NAME)
        if run.host_pid == os.getpid():
            (folder / NAME).unlink()


def _read(file: Path) -> Run:
    """Fields that a later version has added are left out. Raises OSError, and ValueError for what is no run.json."""
    told = json.loads(file.read_bytes())
    if not isinstance(told, dict) or not all(isinstance(told.get(name), kind) for name, kind in _KINDS.items()):
        raise ValueError(f"{file} is not a run.json of this version")
    return Run(**{name: told[name] for name in _KINDS if name in told})


_KINDS: Final = {
    "host_pid": int,
    "host_started": int | float,
    "kafka": str,
    "bus": str,
    "database": str,
    "http": str | None,
}
"""By field. Of http, one that is not there counts as None."""
