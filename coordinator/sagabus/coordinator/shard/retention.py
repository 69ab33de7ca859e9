"""What retention does to a coordinator's shard: one step over everything that grows there.

A saga's row goes and its id stays, in one transaction, so that an equal start never makes a second saga (H2). When the
id goes too, the shard row says from when on starts are known: an older one is refused as it might be a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sagabus.coordinator.store.retention import RetentionStatements
from sagabus.coordinator.store.wire import LATEST
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.shards.retention import (
    ROWS,
    Removed,
    Retention,
    RetentionSchedule,
    margin,
    remove_dead_letters,
    remove_parked,
)
from sagabus.messaging.shards.tenure import Tenure

SAGAS_OF_A_STEP: Final = 100
"""Sagas that a step removes: about a thousand rows of history, 10 ms here."""

MICROSECONDS: Final = 1_000_000


class SagaRetention:
    """Of one side; `schedule` says when. clock: seconds since 1970."""

    def __init__(
        self, *, database: Database, schema: str, retention: Retention, clock: Callable[[], float] = time.time
    ) -> None:
        self._statements = RetentionStatements(schema)
        self._schema = schema
        self._retention = retention
        self._clock = clock
        self.schedule = RetentionSchedule(
            schema=schema, begin=database.transaction, step=self._step, look=retention.look, clock=clock
        )

    def remembered_until(self, now: int) -> int:
        """For an id whose row goes now, or that is started again. Microseconds since 1970, as `now` is."""
        kept = self._retention.started_ids
        return LATEST if kept is None else now + round(kept * MICROSECONDS)

    async def _step(self, connection: Connection, tenure: Tenure) -> Removed:
        now = round(self._clock() * MICROSECONDS)
        more = await self._sagas(connection, tenure.shard, now)
        forgotten = await self._started_ids(connection, tenure.shard, now)
        kept = self._retention
        if kept.dead_letters is not None:
            more |= await remove_dead_letters(connection, self._schema, kept.dead_letters)
        if kept.parked is not None:
            open_saga = self._statements.has_open_saga
            more |= await remove_parked(connection, self._schema, tenure.shard, kept.parked, unless=open_saga)
        return Removed(more or forgotten.more, forgotten.before)

    async def _sagas(self, connection: Connection, shard: int, now: int) -> bool:
        kept = self._retention.sagas
        if kept is None:
            return False
        before, until = now - round(kept * MICROSECONDS), self.remembered_until(now)
        most = SAGAS_OF_A_STEP
        return await self._statements.sagas(connection, shard, before=before, until=until, most=most) == most

    async def _started_ids(self, connection: Connection, shard: int, now: int) -> Removed:
        kept = self._retention.started_ids
        if kept is None:
            return Removed(more=False)
        horizon = round((kept - margin(kept)) * MICROSECONDS)
        gone, before = await self._statements.started_ids(connection, shard, now=now, horizon=horizon, most=ROWS)
        return Removed(gone == ROWS, before if gone else None)
