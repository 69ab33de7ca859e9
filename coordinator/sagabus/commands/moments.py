"""Times and ages as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
"""From how many seconds on, the seconds of a unit, and its name."""


def moment(text: str) -> str:
    """RFC 3339 in UTC, to the millisecond, as people read it."""
    return f"{text[:23].rstrip('Z').replace('T', ' ')} UTC"


def between(earlier: datetime | str, later: datetime | str) -> str:
    """The time between, in a unit that suits it. Clocks differ: what would be negative is 0."""
    seconds = max(0, int((_read(later) - _read(earlier)).total_seconds()))
    return next(f"{seconds // size} {name}" for least, size, name in _UNITS if seconds >= least)


def _read(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at
