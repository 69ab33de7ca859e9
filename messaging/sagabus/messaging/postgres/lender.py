"""Lends the connections of one engine, and keeps the last one that comes back for a moment.

What a pool of SQLAlchemy's does to give a connection out and to take it back costs more than a statement of ours, and a
turn has two or three. So a connection that comes back is kept for whoever comes next; KEPT_SECONDS after the pool gave
it out it goes back there. So its owner's events, limits and settings of the pool hold, a moment later.

It must never keep what another one might have to wait for: a small pool lends for one statement only.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sqlalchemy import QueuePool, event
from sqlalchemy.ext.asyncio import AsyncEngine

from sagabus.messaging.postgres.borrowed import Borrowed
from sagabus.messaging.postgres.engine import is_to_be_replaced

LEFT: Final = 4
"""Connections that a pool has at least beside the one that is kept."""


class Lender:
    """Of one engine, in one event loop. `return_kept` before the engine is disposed of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._kept: Borrowed | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()
        event.listen(engine.sync_engine, "engine_disposed", self._forget)

    async def borrow(self) -> Borrowed:
        """Raises what `Borrowed.of` raises."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if not (kept.driver.is_closed() or is_to_be_replaced(kept.info, self._engine.sync_engine.pool)):
                return kept
            await kept.drop()
        return await Borrowed.of(self._engine)

    async def give_back(self, borrowed: Borrowed) -> None:
        """Of use, and in no transaction. Raises nothing but a cancellation."""
        if self._kept is None and self._may_keep(borrowed):
            self._keep(borrowed)
        else:
            await borrowed.give_back()

    async def return_kept(self) -> None:
        """What is kept now goes back to its pool."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.give_back()
        await asyncio.gather(*self._returning)

    def _may_keep(self, borrowed: Borrowed) -> bool:
        pool = self._engine.sync_engine.pool
        roomy = isinstance(pool, QueuePool) and (pool._max_overflow < 0 or pool.size() + pool._max_overflow > LEFT)
        return roomy and borrowed.until > asyncio.get_running_loop().time()

    def _keep(self, borrowed: Borrowed) -> None:
        self._kept = borrowed
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(borrowed.until, self._due)

    def _due(self) -> None:
        """One timer, however often a connection has come and gone since it was set."""
        self._timer = None
        kept = self._kept
        if kept is None:
            return
        loop = asyncio.get_running_loop()
        if kept.until > loop.time():
            self._timer = loop.call_at(kept.until, self._due)
            return
        self._kept = None
        task = loop.create_task(kept.give_back(), name="sagabus gives a connection back")
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    def _forget(self, _: Any) -> None:
        """The engine is being disposed of: this is called within SQLAlchemy's greenlet, where it may be waited."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.driver.terminate()
            kept.record.invalidate()
