"""Tells what happens, in order, one line a happening, with who speaks."""

from __future__ import annotations

import logging
import time
from typing import Final

from sagabus.commands.subcommand import say

WIDTH: Final = 12
"""Of the column that says who speaks."""

ACTIVITY: Final = "sagabus.activity"
"""Where handlers log: `sagabus.activity.<service>.<activity>`."""


class Narrator(logging.Handler):
    """Lines with the seconds since the beginning. As a log handler it lets services speak for themselves."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def heading(self, sentence: str) -> None:
        say("")
        say(sentence)

    def tell(self, who: str, what: object) -> None:
        say(f"{self.seconds:6.2f} s  {who:<{WIDTH}} {what}")

    def emit(self, record: logging.LogRecord) -> None:
        service = record.name.removeprefix(f"{ACTIVITY}.").partition(".")[0]
        self.tell(service, record.getMessage())

    def __enter__(self) -> Narrator:
        logger = logging.getLogger(ACTIVITY)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(ACTIVITY).removeHandler(self)
