"""Log lines of the services: for people, or one JSON object a line for machines (SAGABUS_LOG)."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sagabus.commands.printable import LINES, printable, printable_json
from sagabus.messaging.settings import LogFormat, Settings

EXTRA: Final = ("saga_id", "run", "step", "attempt")
"""Fields of a line, where they are known: of which saga it is. Loggers add them with `extra`."""

NOISY: Final = ("aiokafka", "alembic", "faststream", "httpx", "uvicorn")
"""They tell of each rebalance, batch or request at INFO."""


class JsonLines(logging.Formatter):
    """Time in UTC (RFC 3339), level, logger, message, and what is known of the saga."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _fields(record)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return printable_json(line)


class TextLines(logging.Formatter):
    """A message is one line, whatever values are in it: none can forge another one. A traceback keeps its lines.

    The fields stand behind it: `[saga_id=ORD-1 step=2 attempt=1]`.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802    # its name in logging
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        message = super().formatMessage(record)
        return printable(f"{message} [{fields}]" if fields else message)

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), but=LINES)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name in EXTRA if (value := getattr(record, name, None)) is not None}


def level_of(settings: Settings) -> int:
    """As logging counts."""
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def start_logging(style: LogFormat, *, level: int = logging.INFO, file: Path | None = None) -> None:
    """For the whole process, to the error output or to a file. Called once."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style is LogFormat.JSON else TextLines())
    logging.basicConfig(level=level, handlers=[handler])
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
