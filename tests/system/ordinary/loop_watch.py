"""Writes down every callback of a service's event loop that ran for long, with what it was doing then.

It is imported by the modules that a service is started with, and works where the environment names a folder for it.
What is counted is processor time: on a busy machine a callback that does little may still take long.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "TRIAL_STALLS"
LONG_SECONDS = 0.05
"""What is written down. A loop that does something else for 100 ms stands still, says docs/rules.md."""

SAMPLE_SECONDS = 0.02
"""Between two looks at what runs."""


@dataclass(frozen=True)
class Stall:
    """One callback. at: seconds since 1970 at its end. stack: where it was when it had run for long."""

    at: float
    wall: float
    cpu: float
    what: str
    stack: str


class LoopWatch:
    """One a process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._main = threading.get_ident()
        self._began = 0.0
        self._stack = ""

    def install(self) -> None:
        handles: Any = asyncio.Handle
        run = handles._run

        def timed(handle: Any) -> None:
            if self._began or threading.get_ident() != self._main:  # within another one, or of another loop
                run(handle)
                return
            self._stack, self._began, cpu = "", time.perf_counter(), time.thread_time()
            try:
                run(handle)
            finally:
                wall, cpu = time.perf_counter() - self._began, time.thread_time() - cpu
                self._began = 0.0
                if wall > LONG_SECONDS:
                    self._keep(Stall(time.time(), wall, cpu, _name(handle), self._stack))

        handles._run = timed
        threading.Thread(target=self._sample, name="loop watch", daemon=True).start()

    def _sample(self) -> None:
        while True:
            time.sleep(SAMPLE_SECONDS)
            if self._began and not self._stack and time.perf_counter() - self._began > LONG_SECONDS:
                frame = sys._current_frames().get(self._main)
                self._stack = "".join(traceback.format_stack(frame)[-12:])

    def _keep(self, stall: Stall) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(stall)) + "\n")


def install_if_asked() -> None:
    """Once a process."""
    folder = os.environ.pop(FOLDER_VARIABLE, "")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        LoopWatch(Path(folder) / f"{os.getpid()}.jsonl").install()


def stalls(folder: Path, pid: int) -> list[Stall]:
    """Of this process, in the order in which they were."""
    file = folder / f"{pid}.jsonl"
    return [Stall(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def _name(handle: Any) -> str:
    task = getattr(handle._callback, "__self__", None)
    return f"task {task.get_name()}" if isinstance(task, asyncio.Task) else repr(handle._callback)[:200]
