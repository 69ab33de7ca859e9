"""Keeps aiokafka's log within bounds: while Kafka is away it writes the same few lines seventy times a second.

`handler.addFilter(Repeated())`, in the one place that sets up logging. Nothing that is said for the first time is lost.
"""

from __future__ import annotations

import logging
import time
from typing import Final

CLIENT: Final = "aiokafka"

WINDOW: Final = 10.0
"""Seconds in which a line is not written again. Lines are alike by their text before values are filled in."""


class Repeated(logging.Filter):
    """Lets a line of aiokafka's through once in a while; the next one says how many were left out."""

    def __init__(self, window: float = WINDOW) -> None:
        super().__init__()
        self._window = window
        self._said: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != CLIENT:
            return True
        line = (record.name, str(record.msg))
        now = time.monotonic()
        if now - self._said.get(line, -self._window) < self._window:
            self._left_out[line] = self._left_out.get(line, 0) + 1
            return False
        self._said[line] = now
        if left_out := self._left_out.pop(line, 0):
            record.msg = f"{record.getMessage()} ({left_out} more like this before)"
            record.args = ()
        return True
