"""What retention does to a participant's shard: old inbox rows, dead letters, parked messages.

An inbox row goes in the transaction that tells the shard row up to when rows are gone: a command from before that, of
which there is no row, is not carried out (P5). Rows that are `started` stay, however old.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sagabus.contracts.envelope import moment
from sagabus.messaging.postgres.database import Connection
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
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.store import Inbox


class InboxRetention:
    """Of one side; `schedule` says when. clock: seconds since 1970."""

    def __init__(
        self, *, schema: str, inbox: Inbox, sessions: Sessions, retention: Retention, clock: Callable[[], float]
    ) -> None:
        self._schema = schema
        self._inbox = inbox
        self._retention = retention
        self._clock = clock
        begin = sessions.database.transaction
        self.schedule = RetentionSchedule(schema=schema, begin=begin, step=self._step, look=retention.look, clock=clock)

    async def _step(self, connection: Connection, tenure: Tenure) -> Removed:
        kept = self._retention
        rows = await self._rows(connection, tenure.shard)
        more = rows.more
        if kept.dead_letters is not None:
            more |= await remove_dead_letters(connection, self._schema, kept.dead_letters)
        if kept.parked is not None:
            more |= await remove_parked(connection, self._schema, tenure.shard, kept.parked)
        return Removed(more, rows.before)

    async def _rows(self, connection: Connection, shard: int) -> Removed:
        kept = self._retention.inbox
        if kept is None:
            return Removed(more=False)
        before = moment(round((self._clock() - kept) * 1_000_000))
        apart = timedelta(seconds=margin(kept))
        gone, pruned_before = await self._inbox.remove_old(connection, shard, before=before, margin=apart, most=ROWS)
        return Removed(gone == ROWS, pruned_before if gone else None)
