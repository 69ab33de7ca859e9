"""What retention removes: closed sagas with all that is theirs, and later the memory of their ids (H2).

Deletes in small batches, by indexes, in the transaction of the caller, who has begun it with the fence. A row that
somebody else holds is passed over.
"""

from __future__ import annotations

from datetime import datetime

from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.coordinator.store.wire import TIME
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards import shard_row


class RetentionStatements:
    """Of one schema. Times in microseconds since 1970."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = _statements(schema)

    async def sagas(self, connection: Connection, shard: int, *, before: int, until: int, most: int) -> int:
        """Remove sagas that closed before that time, with history and timers; how many.

        Their ids are remembered until `until`. A saga stays while a person should look at it, while the saga whose step
        it is is open (it may have to be undone yet), and while messages of its are parked.
        """
        gone: int = await connection.fetchval(self._sql["saga.retention"], shard, before, until, most)
        return gone

    async def started_ids(
        self, connection: Connection, shard: int, *, now: int, horizon: int, most: int
    ) -> tuple[int, datetime | None]:
        """Forget ids whose time is up; how many, and from when on all starts of this shard are known again.

        The last copy of a start that has been forgotten is older than its `until` by at least `horizon` microseconds.
        The shard's `pruned_before` says so in the same transaction; None: nothing has been forgotten here yet.
        """
        gone, last = await connection.fetchrow(self._sql["started_id.retention"], shard, now, horizon, most) or (
            0,
            None,
        )
        if last is None:
            return 0, None
        return gone, await shard_row.forget_before(connection, self._schema, shard, last)

    @property
    def has_open_saga(self) -> str:
        """SQL about a message `row`: whether its saga is open."""
        return self._sql["open"]


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, history, timer, started, parked = (
        qualified(schema, name) for name in ("saga", "history", "timer", "started_id", "outbox_parked")
    )
    moment = TIME.write.format
    return {
        # Each of the deletes finds its rows by the first columns of a key.
        "saga.retention": f"""
            WITH old AS MATERIALIZED (
                SELECT row.id, row.run FROM {saga} AS row
                WHERE row.shard = $1 AND row.closed_at < {moment("$2::bigint")} AND NOT row.{IS_OPEN}
                    AND row.attention IS NULL
                    AND NOT EXISTS (
                        SELECT FROM {saga} AS parent
                        WHERE parent.id = row.parent_id AND parent.run = row.parent_run AND parent.{IS_OPEN})
                    AND NOT EXISTS (
                        SELECT FROM {parked} AS message WHERE message.shard = $1 AND message.saga_id = row.id)
                ORDER BY row.closed_at LIMIT $4 FOR UPDATE OF row SKIP LOCKED
            ), gone AS (
                DELETE FROM {saga} AS row USING old WHERE row.id = old.id AND row.run = old.run
                RETURNING row.id, row.run, row.input_hash, row.closed_at, row.status
            ), steps AS (
                DELETE FROM {history} AS row USING old WHERE row.id = old.id AND row.run = old.run
            ), alarms AS (
                DELETE FROM {timer} AS row USING old WHERE row.shard = $1 AND row.id = old.id AND row.run = old.run
            ), kept AS (
                INSERT INTO {started} (id, run, input_hash, until, shard)
                SELECT DISTINCT ON (id) id, run, input_hash, {moment("$3::bigint")}, $1
                FROM gone ORDER BY id, closed_at DESC, status = '{SagaStatus.CONTINUED}'
                ON CONFLICT (id) DO UPDATE
                SET run = excluded.run, input_hash = excluded.input_hash, until = excluded.until, shard = excluded.shard
            )
            SELECT count(*) FROM gone""",
        "started_id.retention": f"""
            WITH gone AS (
                DELETE FROM {started} WHERE id = ANY (ARRAY(
                    SELECT row.id FROM {started} AS row
                    WHERE row.shard = $1 AND row.until < {moment("$2::bigint")}
                    ORDER BY row.until LIMIT $4 FOR UPDATE SKIP LOCKED))
                RETURNING until
            )
            SELECT count(*) AS gone, max(until) - $3::bigint * interval '1 microsecond' AS last FROM gone""",
        "open": f"EXISTS (SELECT FROM {saga} AS saga WHERE saga.id = row.saga_id AND saga.{IS_OPEN})",
    }
