"""How often and after what pause an attempt is repeated. Arithmetic only: the caller brings the randomness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from math import inf
from typing import Final

from sagabus.contracts.errors import DeclarationError

Seconds = float | timedelta

_NEVER: Final = 1_000 * 365 * 86_400.0


def seconds(value: Seconds) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@lru_cache(maxsize=1_000)
def as_microseconds(value: Seconds) -> int:
    """Rounded; at most a thousand years, which stand for "never" and fit any database. Raises ValueError for NaN."""
    return round(min(seconds(value), _NEVER) * 1_000_000)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How the coordinator repeats an attempt. Left out: activity attempts=5, longest=30; undo no end, longest=300.

    first, longest: pause before the second attempt, and the longest pause. jitter: share by which a pause may differ,
    either way. attempts: how many failures end it; None is without end. give_up_after: since the first send.
    """

    first: Seconds = 1.0
    factor: float = 2.0
    longest: Seconds = 300.0
    jitter: float = 0.2
    attempts: int | None = None
    give_up_after: Seconds | None = None

    def __post_init__(self) -> None:
        try:
            wrong = [sentence for bad, sentence in self._checks() if bad]
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"RetryPolicy: {error}; give numbers, or a timedelta") from error
        if wrong:
            raise DeclarationError("RetryPolicy: " + "; ".join(wrong))

    def _checks(self) -> list[tuple[bool, str]]:
        return [
            (not 0 <= seconds(self.first) < inf, f"first={self.first}: at least 0, and finite"),
            (not 1 <= self.factor < inf, f"factor={self.factor}: at least 1, and finite"),
            (not 0 <= seconds(self.longest) < inf, f"longest={self.longest}: at least 0, and finite"),
            (not 0 <= self.jitter <= 1, f"jitter={self.jitter}: between 0 and 1"),
            (
                self.give_up_after is not None and not seconds(self.give_up_after) >= 0,
                f"give_up_after={self.give_up_after}: at least 0, or None",
            ),
            (
                self.attempts is not None and (type(self.attempts) is not int or self.attempts < 1),
                f"attempts={self.attempts}: a whole number, at least 1, or None",
            ),
        ]

    def pause(self, failures: int, chance: float) -> int:
        """Microseconds to wait after the n-th failure (from 1). chance: evenly spread in [0, 1)."""
        try:
            plain = min(seconds(self.first) * self.factor ** (failures - 1), seconds(self.longest))
        except OverflowError:
            plain = seconds(self.longest)
        return round(plain * (1 + self.jitter * (2 * chance - 1)) * 1_000_000)

    def allows(self, failures: int, elapsed: int) -> bool:
        """May another attempt be made after so many failures, so many microseconds since the first send?"""
        if self.attempts is not None and failures >= self.attempts:
            return False
        return self.give_up_after is None or elapsed < as_microseconds(self.give_up_after)

    def without_end(self) -> RetryPolicy:
        """The same pauses for an undo, which is never given up."""
        return replace(self, attempts=None, give_up_after=None)


ACTIVITY_RETRY: Final = RetryPolicy(attempts=5, longest=30.0)
UNDO_RETRY: Final = RetryPolicy(attempts=None, longest=300.0)


def policy(value: RetryPolicy | None, what: str) -> RetryPolicy | None:
    """The same. Raises DeclarationError for what is none: a number would be found out by the first failure."""
    if value is not None and not isinstance(value, RetryPolicy):
        raise DeclarationError(f"{what}: retry={value!r}: give a policy, such as RetryPolicy(attempts=3)")
    return value


def positive(value: Seconds, what: str, field: str = "resend_after") -> Seconds:
    """Raises DeclarationError, for NaN too. Without a pause the same command would be sent again in every turn."""
    try:
        enough = seconds(value) > 0
    except (TypeError, ValueError):
        enough = False
    if not enough:
        raise DeclarationError(f"{what}: {field}={value}: give more than 0 seconds")
    return value
