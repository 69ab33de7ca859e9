"""Questions that many ask at once, and that are asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Generic, TypeVar, cast

from sagabus.messaging.bus.kafka_connection import KafkaUnreachable

T = TypeVar("T")

STOPPED: Final = "the producer was stopped before the answer"


class Lookups:
    """Who asks for what is being looked up already waits for the same answer. It ends when nobody waits any more."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Lookup[Any]] = {}

    async def ask(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        lookup = self._running.get(key)
        if lookup is None:
            lookup = self._running[key] = _Lookup(look)
        lookup.waiting += 1
        try:
            return cast("T", await lookup.answer())
        finally:
            lookup.waiting -= 1
            if self._running.get(key) is lookup and (lookup.task.done() or not lookup.waiting):
                del self._running[key]
            if not lookup.waiting:
                lookup.task.cancel()

    def cancel(self) -> None:
        for lookup in self._running.values():
            lookup.task.cancel()


class _Lookup(Generic[T]):
    """waiting: how many do."""

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self.waiting = 0
        self.task: asyncio.Task[T] = asyncio.ensure_future(_coroutine(look))
        self.task.add_done_callback(heard)

    async def answer(self) -> T:
        try:
            return await asyncio.shield(self.task)
        except KafkaUnreachable as error:
            raise KafkaUnreachable(str(error)) from error  # each of them one of its own
        except asyncio.CancelledError:
            if self.task.cancelled():
                raise KafkaUnreachable(STOPPED) from None
            raise


async def _coroutine(look: Callable[[], Awaitable[T]]) -> T:
    return await look()


def heard(future: asyncio.Future[Any]) -> None:
    """A failure of which nobody asks, because its callers were cancelled, is no news for the log."""
    if not future.cancelled():
        future.exception()
