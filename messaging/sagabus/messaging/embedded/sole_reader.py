"""One reader for each group of the embedded bus, which has no groups: two would take every shard from each other.

It holds a lock on a file in the host's folder, and that goes with its process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from sagabus.contracts.errors import SagabusError


class AnotherReader(SagabusError):
    """Another process reads this group from the embedded bus."""


class SoleReader:
    """`take` and `give_back` may be repeated. folder: the host's."""

    def __init__(self, folder: Path, group: str) -> None:
        self._group = group
        self._path = folder / f"reader-{group}.lock"
        self._held: IO[str] | None = None

    def take(self) -> None:
        """Raises AnotherReader."""
        if self._held is not None:
            return
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                other = file.read().strip()
            raise AnotherReader(
                f"process {other or '?'} reads the group {self._group} from the embedded bus, which has no consumer "
                "groups: two would take every shard from each other. Stop it first; several processes of one service "
                "need a real Kafka, named by SAGABUS_KAFKA"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._held = file

    def give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()
