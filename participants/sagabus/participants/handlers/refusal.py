"""What a handler raises to say no, or not now. Any other exception is a failed attempt."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from pydantic import JsonValue

from sagabus.contracts.errors import Refused, SagabusError
from sagabus.contracts.retry import Seconds, seconds

__all__ = ["Refused", "TryAgain"]


class TryAgain(SagabusError):
    """Not now: the coordinator asks again, and does not count this as a failure. What was written is undone.

    after: seconds until the next attempt, at least; the coordinator's own pause where it is longer.
    """

    def __init__(
        self, message: str, /, *, code: str = "try_again", after: Seconds | None = None, **details: JsonValue
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.after = 0.0 if after is None else max(0.0, seconds(after))
        if not isfinite(self.after):
            raise ValueError(f"TryAgain(after={after}): give seconds, or a timedelta")
        self.details: Mapping[str, JsonValue] = details
