"""Waiting until a saga has closed.

The process that owns a saga's shard says at once when it has closed. For all others, and for a start that is still on
its way, the row is read again and again, the more rarely the longer it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sagabus.coordinator.store.rows import SagaRow

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 0.5
"""Between two looks at a saga of another process."""

OWN_PAUSE_SECONDS: Final = 5.0
"""Between two looks at a saga of this process. We hear of its end, unless its shard moves away meanwhile."""


class Closings:
    """Who waits for which saga in this process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def closed(self, ids: Iterable[str]) -> None:
        """These sagas have closed, and the transaction is committed. Costs nothing while nobody waits."""
        if self._waiting:
            for id in ids:
                self._wake(id)

    def wake_all(self) -> None:
        """Everybody who waits looks again."""
        for id in self._waiting:
            self._wake(id)

    def _wake(self, id: str) -> None:
        for signal in self._waiting.get(id, ()):
            signal.set()

    @contextmanager
    def awaited(self, id: str) -> Iterator[asyncio.Event]:
        """A signal that is set when this saga closes. What closed before must be looked up, after this has begun."""
        signal = asyncio.Event()
        signals = self._waiting.setdefault(id, set())
        signals.add(signal)
        try:
            yield signal
        finally:
            signals.discard(signal)
            if not signals:
                self._waiting.pop(id, None)

    async def wait(
        self,
        id: str,
        look: Callable[[], Awaitable[SagaRow | None]],
        *,
        seconds: float,
        owned: Callable[[], bool],
        given_up: Callable[[], Awaitable[bool]],
    ) -> SagaRow | None:
        """What `look` gives once the saga has closed, the seconds have passed, or it is `given_up`."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + seconds, FIRST_PAUSE_SECONDS
        with self.awaited(id) as signal:
            while True:
                signal.clear()
                row = await look()
                left = end - loop.time()
                if left <= 0 or (row is not None and row.is_closed) or await given_up():
                    return row
                await set_within(signal, min(left, OWN_PAUSE_SECONDS if owned() else pause))
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


async def set_within(signal: asyncio.Event, seconds: float) -> None:
    """Returns when it is set, or after these seconds."""
    try:
        async with asyncio.timeout(seconds):
            await signal.wait()
    except TimeoutError:
        pass
