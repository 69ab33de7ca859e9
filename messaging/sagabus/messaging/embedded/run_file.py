"""DIR/run.json: where the embedded bus and database of a running host are, for other processes on this machine.

The host writes it when all is up and removes it when it ends. A reader believes it only while that very host lives: its
process id and its start time must both fit, since ids are used again. Nothing here starts or stops anything.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

NAME: Final = "run.json"

START_TOLERANCE: Final = 2.0
"""Seconds by which two readings of one start time may differ: it is told from the boot time, which the clock moves."""


class Run(BaseModel):
    """What a host tells. `http` is None where the coordinator's endpoint is off."""

    model_config = ConfigDict(frozen=True)

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
            file.write(run.model_dump_json(indent=2) + "\n")
        return Path(name).replace(folder / NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_run(folder: Path) -> Run | None:
    """What the live host of `folder` tells. None without one: no file, a dead host's, or one that makes no sense."""
    try:
        run = Run.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return run if run.live else None


def remove_run(folder: Path) -> None:
    """Take back this process's own run.json; another host's stays."""
    with suppress(OSError, ValidationError):
        run = Run.model_validate_json((folder / NAME).read_bytes())
        if run.host_pid == os.getpid():
            (folder / NAME).unlink()
