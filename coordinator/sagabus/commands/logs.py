"""Log lines of the services: for people, or one JSON object a line for machines (SAGABUS_LOG)."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sagabus.messaging.settings import LogFormat

EXTRA: Final = ("saga_id", "step", "attempt")
"""What loggers of sagas and handlers add to their records."""

NOISY: Final = ("aiokafka", "alembic", "faststream", "httpx", "uvicorn")
"""They tell of each rebalance, batch or request at INFO."""


class JsonLines(logging.Formatter):
    """Time in UTC (RFC 3339), level, logger, message, and what is known of the saga."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= {name: getattr(record, name) for name in EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def start_logging(style: LogFormat, *, level: int = logging.INFO, file: Path | None = None) -> None:
    """For the whole process, to the error output or to a file. Called once."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style is LogFormat.JSON else text)
    logging.basicConfig(level=level, handlers=[handler])
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
