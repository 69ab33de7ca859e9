"""How a process that serves is told to end: SIGTERM or Ctrl-C drains it, a second Ctrl-C ends it at once.

A drain takes no new work and finishes what is under way. It is bounded: who does not end in time is ended by force.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from sagabus.commands.force import end_at_once, end_by_force
from sagabus.commands.subcommand import Exit

DRAIN_SECONDS: Final = 25.0
"""From SIGTERM to an end by force. Kubernetes sends its SIGKILL, which explains nothing, after thirty."""


@contextmanager
def ended_by_signals(task: asyncio.Task[Any], *, serves: bool) -> Iterator[None]:
    """While inside, SIGTERM cancels the task, so that every block it is in is left in order, within bounds.

    serves: so does Ctrl-C, with words; else it interrupts, as it does any program.
    """
    end = _Ending(task)
    task.get_loop().add_signal_handler(signal.SIGTERM, end.drain)
    before = signal.signal(signal.SIGINT, end.interrupted) if serves else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


class _Ending:
    """Of one task. Ctrl-C is heard also while the loop is held up by code that blocks it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = task.get_loop()
        self._interrupts = 0

    def drain(self) -> None:
        end_by_force(self._loop, after=DRAIN_SECONDS, exit=Exit.WAITED)
        self._task.cancel()

    def interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            _tell(
                f"Ctrl-C: no new work is taken, what is under way is finished, within {DRAIN_SECONDS:g} s; "
                "a second Ctrl-C ends it at once"
            )
            self._loop.call_soon_threadsafe(self.drain)
        else:
            _tell("Ctrl-C again: ended at once. Nothing is lost: what was under way is carried out again")
            end_at_once(Exit.INTERRUPTED)


def _tell(sentence: str) -> None:
    """Past the stream's buffer: a signal may come while that is being written."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"sagabus: {sentence}\n".encode())
