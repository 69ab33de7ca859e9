"""Taking a shard: a new token on its row, after which whoever had it before can no longer write.

Who may take is decided by the consumer group's generation (S3); a row that somebody holds is freed by force (S4).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Final
from uuid import UUID

import asyncpg

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named, named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing.relay import Relay
from sagabus.messaging.shards.tenure import Tenure

STANDS_STILL: Final = 6.0
"""Seconds without a beat after which an older generation may take: six beats, and Kafka's smallest session timeout."""

LOCK_TIMEOUT: Final = 500
"""Milliseconds. A turn holds its rows for a few; who holds one for longer has been stopped within it."""

_LOCK_TIMEOUT: Final = named("shard_row.lock_timeout", f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """By what right a shard is taken: the group's generation in this cluster, and the number of partitions."""

    cluster: str
    generation: int
    partitions: int


class TakeRefused(SagabusError):
    """Another process has the better right to this shard, or its row stays locked. To be tried again."""


class PartitionsChanged(SagabusError):
    """The number of partitions is not the one by which sagas were placed. The sentence says the cure."""


async def take(connection: Connection, schema: str, shard: int, claim: Claim, *, token: UUID) -> Tenure:
    """Take a shard within this transaction; the tenure counts from its commit. token: never used before (S1).

    The tenure does not know its places in Kafka's logs yet: look at the logs after the commit, then `Tenure.locate`.
    Raises TakeRefused (S3) or PartitionsChanged (S11), both with nothing written.
    """
    sql = _statements(schema)
    if (
        await connection.fetchrow(sql["shard_row.look"], shard) is None
    ):  # ON CONFLICT would wait for whoever holds the row
        await connection.execute(sql["shard_row.add"], shard, token, claim.cluster, claim.generation, claim.partitions)
    row = await _locked(connection, sql, shard, claim)
    _check(row, claim)
    turn: int = await connection.fetchval(sql["shard_row.take"], shard, token, claim.cluster, claim.generation)
    return Tenure(
        shard=shard,
        token=token,
        turn=turn,
        next_position=row["next_position"],
        places=json.loads(row["places"]),
        pruned_before=row["pruned_before"],
        relay=Relay(position=row["relay_position"]),
    )


async def check_partitions(connection: Connection, schema: str, partitions: int) -> None:
    """Raises PartitionsChanged unless this is the number of the first use (S11). For the start of a service."""
    stored = await connection.fetchval(_statements(schema)["shard_row.partitions"])
    if stored is not None:
        _same_partitions(stored, partitions)


async def _locked(connection: Connection, sql: dict[str, str], shard: int, claim: Claim) -> asyncpg.Record:
    try:
        return await _lock(connection, sql, shard)
    except asyncpg.LockNotAvailableError:
        _check(await _row(connection, sql["shard_row.look"], shard), claim)  # who has no right to the shard ends nobody
        await _end_holder(connection, sql, shard)
    try:
        return await _lock(connection, sql, shard)
    except asyncpg.LockNotAvailableError as error:
        raise TakeRefused(f"the row of shard {shard} stays locked by another session") from error


async def _lock(connection: Connection, sql: dict[str, str], shard: int) -> asyncpg.Record:
    async with connection.transaction():  # a savepoint: the transaction outlives the timeout
        await connection.execute(_LOCK_TIMEOUT)
        return await _row(connection, sql["shard_row.lock"], shard)


async def _row(connection: Connection, statement: str, shard: int) -> asyncpg.Record:
    row = await connection.fetchrow(statement, shard)
    if row is None:
        raise TakeRefused(f"the row of shard {shard} was deleted just now")
    return row


async def _end_holder(connection: Connection, sql: dict[str, str], shard: int) -> None:
    """S4. The row's xmax is the transaction that holds it; its session is found by the lock on its own id.

    Not by the stored process id: with a pool, or an engine of a participant's, the turn that hangs may run on another
    connection than the one that took the shard.
    """
    try:
        async with connection.transaction():
            await connection.execute(sql["shard_row.end_holder"], shard)
    except asyncpg.InsufficientPrivilegeError as error:
        raise TakeRefused(f"the row of shard {shard} is locked by a session of another role") from error


def _check(row: asyncpg.Record, claim: Claim) -> None:
    _same_partitions(row["partitions"], claim.partitions)
    older = row["cluster"] == claim.cluster and row["generation"] > claim.generation
    if older and row["still"] < STANDS_STILL:
        raise TakeRefused(
            f"shard {row['shard']} was taken in generation {row['generation']}, after ours ({claim.generation}), "
            f"and its owner was alive {row['still']:.1f} s ago"
        )


def _same_partitions(stored: int, now: int) -> None:
    if stored != now:
        raise PartitionsChanged(
            f"the topic has {now} partitions, but sagas were placed by {stored}: put the topic back with {stored} "
            "partitions, or begin a new namespace and let this one finish beside it"
        )


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    table = qualified(schema, "shard")
    look = f"""
            SELECT *, topics::text AS places, extract(epoch FROM clock_timestamp() - beat_at)::float8 AS still
            FROM {table} WHERE shard = $1"""
    return {
        "shard_row.add": f"""
            INSERT INTO {table}
                (shard, token, turn, cluster, generation, partitions, topics, next_position, relay_position)
            VALUES ($1, $2, 0, $3, $4, $5, '{{}}', 1, 0) ON CONFLICT DO NOTHING""",
        "shard_row.look": look,
        "shard_row.lock": f"{look} FOR NO KEY UPDATE",
        "shard_row.take": f"""
            UPDATE {table} SET token = $2, turn = turn + 1, cluster = $3, generation = $4,
                backend_pid = pg_backend_pid(),
                backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
                beat_at = clock_timestamp()
            WHERE shard = $1 RETURNING turn""",
        "shard_row.end_holder": f"""
            SELECT pg_terminate_backend(lock.pid)
            FROM {table} AS row JOIN pg_locks AS lock ON lock.transactionid = row.xmax
            WHERE row.shard = $1 AND lock.locktype = 'transactionid' AND lock.granted AND lock.mode = 'ExclusiveLock'
                AND lock.pid <> pg_backend_pid()""",
        "shard_row.partitions": f"SELECT partitions FROM {table} LIMIT 1",
    }
