"""Keeps aiokafka's log within bounds: while Kafka is away it writes the same few lines seventy times a second.

`install` is called where clients are made. Nothing that is said for the first time is lost, and what is said again
after a minute without it is said for the first time.
"""

from __future__ import annotations

import logging
import time
from typing import Final

CLIENT: Final = "aiokafka"

QUIET_SECONDS: Final = 60.0
"""A line is written again when it has not come for so long. Lines are alike by their text before values are filled in,
and without digits."""

LINES: Final = 1_000
"""That are remembered; the oldest go."""

_WITHOUT_DIGITS: Final = str.maketrans("", "", "0123456789")


class Repeated(logging.Filter):
    """Lets a line through that is new; the next one like it says how many were left out."""

    def __init__(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        super().__init__()
        self._quiet = quiet_seconds
        self._heard: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != CLIENT:
            return True
        line = (record.name, str(record.msg).translate(_WITHOUT_DIGITS))
        now = time.monotonic()  # logging may be asked outside of any loop
        last = self._heard.pop(line, None)
        self._heard[line] = now
        if last is not None and now - last < self._quiet:
            self._left_out[line] = self._left_out.get(line, 0) + 1
            return False
        if len(self._heard) > LINES:
            oldest = next(iter(self._heard))
            del self._heard[oldest]
            self._left_out.pop(oldest, None)
        if left_out := self._left_out.pop(line, 0):
            record.msg = f"{record.getMessage()} ({left_out} more like this before)"
            record.args = ()
        return True


_installed: Final = Repeated()


def install() -> None:
    """On each logger of aiokafka's: a filter of a logger is not asked for what comes from its children. Repeatable."""
    for name in [CLIENT, *logging.root.manager.loggerDict]:
        if name.partition(".")[0] == CLIENT:
            logging.getLogger(name).addFilter(_installed)
