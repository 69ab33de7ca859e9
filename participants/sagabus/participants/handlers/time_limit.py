"""How long a handler may run: it is cancelled when its time is over, and its attempt has failed (P9)."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Final

from sagabus.contracts.errors import SagabusError

AGAIN_SECONDS: Final = 10.0
"""A handler that goes on after it was cancelled is cancelled again after so long. Its `finally` has that much time."""

logger = logging.getLogger(__name__)


class HandlerTimedOut(SagabusError):
    """The handler ran for longer than its `time_limit` and was cancelled. limit: seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"the handler ran for longer than its time limit of {limit:g} s, and was cancelled")
        self.limit = limit


class TimeLimit:
    """`async with`: raises HandlerTimedOut on leaving if the time was over, whatever the handler did then.

    A cancellation from outside goes its way. limit: seconds; None for no limit. which: names the handler and its
    command in the log.
    """

    __slots__ = ("_cancels", "_limit", "_task", "_timer", "_which")

    def __init__(self, limit: float | None, which: str) -> None:
        self._limit = limit
        self._which = which
        self._cancels = 0
        """Times that it has been cancelled by this."""
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> TimeLimit:
        if self._limit is not None:
            self._task = asyncio.current_task()
            self._timer = asyncio.get_running_loop().call_later(self._limit, self._over)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._cancels or self._limit is None or self._task is None:
            return
        others = self._task.cancelling()
        for _ in range(self._cancels):
            others = self._task.uncancel()
        ends_process = error is not None and not isinstance(error, Exception | asyncio.CancelledError)
        if not (others or ends_process):
            raise HandlerTimedOut(self._limit) from error

    def _over(self) -> None:
        assert self._task is not None
        if self._cancels:
            logger.warning("%s goes on after its time limit; it is cancelled again", self._which)
        self._cancels += 1
        self._task.cancel()
        self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._over)
