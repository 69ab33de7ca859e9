"""One measured run: so many sagas are sent at once, and it lasts until the last one has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from bench.processor_time import Kinds, Reading, milliseconds_each
from tests.support.conditions import until

COORDINATORS: Final = "coordinators"
PARTICIPANTS: Final = "participants"
KAFKA: Final = "kafka"
POSTGRESQL: Final = "postgresql"

LONGEST: Final = 1_800.0
"""Seconds after which a run counts as hung."""

LOGGED: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"

LOOK: Final = 0.025
"""Seconds between two looks: the error of a run's time."""


@dataclass(frozen=True)
class Run:
    """spent: seconds of processor time by kind of process. wal: bytes that PostgreSQL has logged."""

    sagas: int
    seconds: float
    spent: Mapping[str, float]
    wal: float = 0

    @property
    def rate(self) -> float:
        """Sagas a second."""
        return self.sagas / self.seconds

    @property
    def figures(self) -> dict[str, float]:
        """sagas_per_s; cpu_ms.KIND, milliseconds of processor time a saga; wal_kib, of PostgreSQL's log a saga."""
        each = {f"cpu_ms.{kind}": value for kind, value in milliseconds_each(self.spent, self.sagas).items()}
        return {"sagas_per_s": round(self.rate, 1), **each, "wal_kib": round(self.wal / self.sagas / 1024, 2)}


async def measured(
    kinds: Kinds,
    connection: asyncpg.Connection[asyncpg.Record],
    sagas: int,
    send: Callable[[], Awaitable[object]],
    ended: Callable[[], Coroutine[Any, Any, bool]],
) -> Run:
    """From the first request to the last end."""
    logged = await connection.fetchval(LOGGED)
    reading = Reading(kinds)
    await send()
    await until(ended, within=LONGEST, every=LOOK, what=f"{sagas} sagas have ended")
    passed, spent = reading.passed, reading.spent()
    return Run(sagas, passed, spent, await connection.fetchval(LOGGED) - logged)
