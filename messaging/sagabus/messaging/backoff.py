"""Pauses between tries that double up to a longest one, and waiting for a server with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.loop_time import monotonic

log = logging.getLogger(__name__)


class Backoff:
    """The pauses of one row of failures. `seconds` is the next one."""

    __slots__ = ("_first", "_longest", "seconds")

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first = self.seconds = first_seconds
        self._longest = longest_seconds

    def next(self) -> float:
        """The pause after this failure, in seconds; the one after it is twice as long."""
        pause, self.seconds = self.seconds, min(self._longest, self.seconds * 2)
        return pause

    def reset(self) -> None:
        """It has worked."""
        self.seconds = self._first

    async def pause(self) -> None:
        await asyncio.sleep(self.next())


class Reasons:
    """Lets each new reason be logged once, until it works again."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = ""

    def new(self, error: BaseException) -> bool:
        """Whether this is another reason than the last one."""
        said = f"{type(error).__name__}: {error}"
        new, self.last = said != self.last, said
        return new

    def over(self) -> bool:
        """It works. Whether it had failed before."""
        failed, self.last = bool(self.last), ""
        return failed


async def until_reachable(
    reach: Callable[[], Awaitable[None]],
    *,
    unreachable: type[SagabusError],
    server: str,
    backoff: Backoff,
    patience_seconds: float | None,
) -> None:
    """Try until `reach` raises no `unreachable` any more. Each new reason is logged once.

    Raises the last `unreachable` when the patience is used up (None: never), and whatever else `reach` raises.
    """
    end = None if patience_seconds is None else monotonic() + patience_seconds
    reasons = Reasons()
    while True:
        try:
            await reach()
            break
        except unreachable as error:
            if end is not None and monotonic() + backoff.seconds > end:
                raise
            if reasons.new(error):
                log.warning("%s: %s; retrying until it answers", server, error)
        await backoff.pause()
    if reasons.over():
        log.info("%s answers", server)
