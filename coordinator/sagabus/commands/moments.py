"""Times and ages as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
"""From how many seconds on, the seconds of a unit, and its name. A span is never less than two of its unit, but for
seconds, so that to round it makes it a quarter longer or shorter at most."""


def moment(text: str) -> str:
    """RFC 3339 in UTC, to the millisecond, as people read it."""
    return f"{text[:23].rstrip('Z').replace('T', ' ')} UTC"


def second(text: str) -> str:
    """The same to the second, under a heading that says UTC."""
    return text[:19].replace("T", " ")


def between(earlier: datetime | str, later: datetime | str) -> str:
    """The time between, rounded to a unit that suits it. Clocks differ: what would be negative is 0."""
    return span(max(0.0, (_read(later) - _read(earlier)).total_seconds()))


def span(seconds: float) -> str:
    """So long, rounded: what is nearly three days is `3 d`."""
    whole = round(seconds)
    return next(f"{round(seconds / size)} {name}" for least, size, name in _UNITS if whole >= least)


def _read(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at
