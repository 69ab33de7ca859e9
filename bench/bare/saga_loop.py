"""A loop for the code of one saga: callbacks in the order in which they were asked for, and no clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class SagaLoop:
    """What tasks and futures ask of a loop, and no more. `pump` runs what is ready."""

    __slots__ = ("_loop", "ready")

    def __init__(self) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self._loop: Any = self  # asyncio.AbstractEventLoop to the type checker, which wants all of its methods

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._loop, context)
        self.ready.append(handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise RuntimeError(context)

    def future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._loop)

    def task(self, code: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.Task(code, loop=self._loop)

    def pump(self) -> None:
        """Until the saga waits for an answer, or has ended."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self._loop)
        try:
            while self.ready:
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(outer)
