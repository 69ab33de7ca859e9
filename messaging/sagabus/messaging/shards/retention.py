"""Bounded growth, for both sides: how long things are kept, and when a shard is pruned.

Pruning goes step by step. A step is a transaction of its own over a few hundred rows of one shard. It begins with the
fence of the shard's tenure (S1), it never waits long for a lock, and it comes after a turn and never within one. A step
that fails before its commit has changed nothing, and costs the shard nothing either: it is tried again later.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Final

from sagabus.messaging.background import trace
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named, named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.settings import Settings
from sagabus.messaging.shards import shard_row
from sagabus.messaging.shards.shard_row import Advance, Fenced
from sagabus.messaging.shards.tenure import Tenure

log = logging.getLogger(__name__)

ROWS: Final = 500
"""Rows of one table that a step deletes: 2 to 10 ms here, so that the turn behind it hardly notices."""

LOOK_PAUSE_SECONDS: Final = 60.0
"""Between two looks at a shard that had nothing to prune. A look is a transaction, and shards are idle at night."""

REST_FACTOR: Final = 4
"""Times as long as steps take, they are not done: at most a fifth of a process's time goes into pruning."""

LONGEST_STEPS_SECONDS: Final = 0.1
"""Steps behind one turn, for which the next turn waits. One step is done in any case."""

MOST_STEPS: Final = 50
"""Steps behind one turn, whatever the clock says of them."""

CLOCKS_APART_SECONDS: Final = 3_600.0
"""Seconds by which the clocks of two services may differ without a copy being taken for something new."""

LOCK_TIMEOUT_MILLISECONDS: Final = 500
"""Who holds an old row, by hand, holds up the pruning and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind of row is kept, in seconds; None: for ever. What the settings `SAGABUS_RETENTION_…` say."""

    sagas: float | None = None
    started_ids: float | None = None
    inbox: float | None = None
    dead_letters: float | None = None
    parked: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        return cls(**{each.name: getattr(settings, f"retention_{each.name}") for each in fields(cls)})

    @property
    def look(self) -> float:
        """Seconds between two looks: a tenth of the shortest retention, LOOK_PAUSE_SECONDS at most."""
        kept: list[float | None] = [getattr(self, each.name) for each in fields(self)]
        return min([LOOK_PAUSE_SECONDS, *(seconds / 10 for seconds in kept if seconds is not None)])


def margin(kept: float) -> float:
    """Seconds for clocks that differ. Never so much of what is kept that something new would be taken for old."""
    return min(CLOCKS_APART_SECONDS, kept / 2)


Begin = Callable[[], AbstractAsyncContextManager[Connection]]
"""A transaction, committed on leaving."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was done. more: there may be more to do. before: the shard row's `pruned_before`, if it has moved."""

    more: bool
    before: datetime | None = None


RemovalStep = Callable[[Connection, Tenure], Awaitable[Removed]]
"""Deletes what is due in this shard, up to `ROWS` of each kind."""


class RetentionSchedule:
    """Of one side, which calls `after` behind each of its turns. clock: seconds since 1970.

    Two processes cannot prune the same shard: the second one is fenced, and writes nothing.
    """

    def __init__(
        self, *, schema: str, begin: Begin, step: RemovalStep, look: float, clock: Callable[[], float]
    ) -> None:
        self._schema = schema
        self._begin = begin
        self._step = step
        self._look = look
        self._clock = clock
        self._next: dict[Tenure, float] = {}
        self._ended = self._rest_until = clock()
        self._under_way = False

    def forget(self, tenure: Tenure) -> None:
        """It has ended."""
        self._next.pop(tenure, None)

    async def after(self, tenures: Iterable[Tenure]) -> None:
        """Steps for those of these tenures that are due, in turns, as far as there is time for them.

        Only those that have caught up: what waited in the topics while nobody was here is taken in first, and is not
        to be refused because of what is pruned. Nothing while steps of another turn are under way. Raises Fenced, or
        what a commit raises, whose outcome is unknown then.
        """
        begun = self._clock()
        if self._under_way or 0 < self._rest_until - begun < 60:  # later than that: somebody has set the clock
            return
        self._under_way = True
        try:
            await self._steps(tenures, begun)
        finally:
            self._under_way = False

    async def _steps(self, tenures: Iterable[Tenure], begun: float) -> None:
        due = [tenure for tenure in tenures if tenure.caught_up and self._is_due(tenure, begun)]
        queue = deque(sorted(due, key=lambda one: self._next.get(one, 0.0)))
        end = begun + min(LONGEST_STEPS_SECONDS, max(0.0, begun - self._ended) / REST_FACTOR)
        for _ in range(MOST_STEPS):
            if not queue:
                break
            tenure = queue.popleft()
            more = await self._tried(tenure)
            now = self._clock()
            self._next[tenure] = now if more else now + self._look
            if more:
                queue.append(tenure)
            self._ended, self._rest_until = now, now + REST_FACTOR * (now - begun)
            if now >= end:
                break

    def _is_due(self, tenure: Tenure, now: float) -> bool:
        return not now < self._next.get(tenure, now) <= now + self._look

    async def _tried(self, tenure: Tenure) -> bool:
        """Whether there may be more."""
        leaving = False
        try:
            async with self._begin() as connection:
                await shard_row.advance(connection, self._schema, [_standing(tenure)])
                await connection.execute(_LOCAL)
                removed = await self._step(connection, tenure)
                leaving = True
        except Fenced:
            if not tenure.ended:
                raise
            return False  # its relay has failed meanwhile: that ends this tenure, and no other of the turn
        except Exception as error:
            if leaving:
                raise
            log.warning("shard %s is not pruned now: %s", tenure.shard, error, exc_info=trace(error))
            return False
        tenure.turn += 1
        tenure.pruned_before = removed.before or tenure.pruned_before
        return removed.more


_LOCAL: Final = named(
    "retention.settings",
    f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}; "
    "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off",
)
"""The oldest rows are read off an index until the batch is full. Sorted instead, all that are old are read for each
batch: 10 ms with a thousand sagas in a shard, and more with each thousand."""


def _standing(tenure: Tenure) -> Advance:
    """The shard row as it is, a turn later: what the relay has done meanwhile is for the next turn to store."""
    return Advance(tenure, tenure.next_position, tenure.relay_stored, tenure.places_after({}))


async def remove_dead_letters(connection: Connection, schema: str, seconds: float) -> bool:
    """The oldest ones, of whatever shard: ids rise with time, so those of the lowest ids are looked at.

    May be done by several processes at once. Whether there may be more.
    """
    done = await connection.execute(_statements(schema)["dead_letter.retention"], seconds, ROWS)
    return done == f"DELETE {ROWS}"


async def remove_parked(connection: Connection, schema: str, shard: int, seconds: float, *, unless: str = "") -> bool:
    """Parked rows of this shard. unless: SQL about `row`; where it holds, the row stays. Whether there may be more."""
    stays = f"AND NOT ({unless})" if unless else ""
    done = await connection.execute(
        _statements(schema)["outbox_parked.retention"].format(stays=stays), shard, seconds, ROWS
    )
    if done != "DELETE 0":
        log.error("shard %s: parked messages that nobody has released in time are deleted: %s", shard, done)
    return done == f"DELETE {ROWS}"


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    letters, parked = qualified(schema, "dead_letter"), qualified(schema, "outbox_parked")
    # Both are stamped by the database's clock, hence judged by it.
    old = "clock_timestamp() - {} * interval '1 second'"
    return {
        "dead_letter.retention": f"""
            DELETE FROM {letters} WHERE id = ANY (ARRAY(
                SELECT id FROM {letters} WHERE id = ANY (ARRAY(SELECT id FROM {letters} ORDER BY id LIMIT $2))
                AND at < {old.format("$1")} FOR UPDATE SKIP LOCKED))""",
        "outbox_parked.retention": f"""
            DELETE FROM {parked} WHERE shard = $1 AND position = ANY (ARRAY(
                SELECT position FROM {parked} AS row WHERE row.shard = $1 AND row.parked_at < {old.format("$2")}
                    AND row.released_at IS NULL {{stays}}
                ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED))""",
    }
