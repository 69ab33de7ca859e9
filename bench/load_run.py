"""One measured run: so many sagas are sent at once, and it lasts until the last one has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.processor_time import Kinds, Reading, milliseconds_each
from tests.support.conditions import until

COORDINATORS: Final = "coordinators"
PARTICIPANTS: Final = "participants"
KAFKA: Final = "kafka"
POSTGRESQL: Final = "postgresql"

LONGEST: Final = 1_800.0
"""Seconds after which a run counts as hung."""

LOOK: Final = 0.025
"""Seconds between two looks: the error of a run's time."""


@dataclass(frozen=True)
class Run:
    """spent: seconds of processor time by kind of process."""

    sagas: int
    seconds: float
    spent: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Sagas a second."""
        return self.sagas / self.seconds

    @property
    def figures(self) -> dict[str, float]:
        """sagas_per_s, and cpu_ms.KIND: milliseconds of processor time a saga."""
        each = milliseconds_each(self.spent, self.sagas)
        return {"sagas_per_s": round(self.rate, 1), **{f"cpu_ms.{kind}": value for kind, value in each.items()}}


async def measured(
    kinds: Kinds, sagas: int, send: Callable[[], Awaitable[object]], ended: Callable[[], Coroutine[Any, Any, bool]]
) -> Run:
    """From the first request to the last end."""
    reading = Reading(kinds)
    await send()
    await until(ended, within=LONGEST, every=LOOK, what=f"{sagas} sagas have ended")
    return Run(sagas, reading.passed, reading.spent())
