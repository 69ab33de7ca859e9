"""The row of a shard: the one place that reads it for a decision, and the only one that writes it.

Everybody who writes under a shard begins a transaction in one of these ways, and in no other:

    acquire                                      a new tenure; nothing else is written with it
    advance, then rows                           all rows were known before: the coordinator's turn, retention
    fence, within one statement                  the same, where little is written
    hold, then handlers and rows, then advance   what handlers send is known only after they have run: a participant's,
                                                 where a handler writes in its transaction; where none does, a `fence`

`hold` and `advance` are the fence (S1). Both lock the rows, in the order of shards, until the end of the transaction;
so after `hold`, `advance` waits for nobody. `hold` is part of its transaction's first statement (`holding`).
`forget_before` follows an `advance`. Reading may come before any of them.

Token and turn together: the token is random, because after a restored backup a counter alone would repeat; the turn is
counted, because one process may have an older transaction of its own still under way.

Who may acquire is decided by the consumer group's generation (S3); a row that somebody holds is freed by force (S4).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named, named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing.relay import Relay
from sagabus.messaging.shards.tenure import Tenure

STANDS_STILL_SECONDS: Final = 6.0
"""Without a heartbeat for so long, an older generation may acquire: six heartbeats, and Kafka's smallest session
timeout."""

ACQUIRE_LOCK_MILLISECONDS: Final = 500
"""A turn holds its rows for a few; who holds one for longer has been stopped within it."""

_LOCK_TIMEOUT: Final = named("shard_row.lock_timeout", f"SET LOCAL lock_timeout = {ACQUIRE_LOCK_MILLISECONDS}")

HOLD_LOCK_SECONDS: Final = 5.0
"""A turn waits for so long for a shard row that another session holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """By what right a shard is acquired: the group's generation in this cluster, and the number of partitions."""

    cluster: str
    generation: int
    partitions: int
    topic: str = "the topic"
    """That numbers the shards; for sentences."""


class Advance(NamedTuple):
    """What the shard row of one tenure is to become. `topics` is JSON."""

    tenure: Tenure
    next_position: int
    relay_position: int
    topics: str


class Fenced(SagabusError):
    """A shard of this turn is not ours any more. Nothing may be written, all memory of these shards is void."""


class AcquireRefused(SagabusError):
    """Another process has the better right to this shard, or its row stays locked. To be tried again."""


class PartitionsChanged(SagabusError):
    """The number of partitions is not the one by which sagas were placed. The sentence says the cure."""


async def acquire(connection: Connection, schema: str, shard: int, claim: Claim, *, token: UUID) -> Tenure:
    """Acquire a shard within this transaction; the tenure counts from its commit. token: never used before (S1).

    The tenure does not know its places in Kafka's logs yet: look at the logs after the commit, then `Tenure.locate`.
    Raises AcquireRefused (S3) or PartitionsChanged (S11), both with nothing written.
    """
    sql = _statements(schema)
    if await connection.fetchrow(sql["shard_row.look"], shard) is None:
        await check_partitions(connection, schema, claim.partitions, topic=claim.topic)
        await _add(connection, sql, shard, claim, token)
    row = await _locked(connection, sql, shard, claim)
    _check(row, claim)
    turn: int = await connection.fetchval(sql["shard_row.acquire"], shard, token, claim.cluster, claim.generation)
    return Tenure(
        shard=shard,
        token=token,
        turn=turn,
        next_position=row["next_position"],
        places=json.loads(row["places"]),
        pruned_before=row["pruned_before"],
        relay=Relay(position=row["relay_position"]),
    )


def holding(schema: str) -> str:
    """The fence of a transaction in which handlers run, as a part of its first statement: a SELECT of the shards that
    are still ours, which locks their rows. Its parameters are those of `hold_parameters`, its answer is `check_held`'s.

    The statement is to be given HOLD_LOCK_SECONDS at most: acquiring a shard again frees a row that somebody holds for
    longer (S4). What it reads beside this may be as it was before it had waited for a lock: only a transaction that has
    moved the row on can have changed it under this shard, and then this one is fenced.
    """
    return _statements(schema)["holding"]


def ours(schema: str) -> str:
    """A SELECT of the shards that are still ours, as `holding`, but without a lock: what follows may not rely on it.

    For a look before handlers that need no transaction. What they have come to is written behind a `fence`: whoever has
    written under one of these shards since the look has moved its row on.
    """
    return _statements(schema)["ours"]


def hold_parameters(tenures: Collection[Tenure]) -> tuple[list[int], list[UUID], list[int]]:
    """$1 to $3."""
    return [t.shard for t in tenures], [t.token for t in tenures], [t.turn for t in tenures]


def check_held(tenures: Collection[Tenure], held: Collection[int]) -> None:
    """Raises Fenced if one of these is not ours any more."""
    if len(held) != len(tenures) or any(tenure.ended for tenure in tenures):
        raise Fenced(f"of the shards {sorted(t.shard for t in tenures)} only {sorted(held)} are still ours")


async def advance(connection: Connection, schema: str, advances: Sequence[Advance]) -> None:
    """Move these shard rows on, all or none. Raises Fenced; the transaction is then to be given up. One round trip."""
    arguments = advance_arguments(advances)
    done = await connection.execute(_statements(schema)["shard_row.advance"], *arguments)
    check_advanced(int(done.removeprefix("UPDATE ")), arguments)


def advance_arguments(advances: Sequence[Advance]) -> tuple[list[Any], ...]:
    """Columns, in the order of shards. Raises Fenced if a tenure has ended."""
    if any(a.tenure.ended for a in advances):
        raise Fenced("a tenure of this turn has ended")
    ordered = sorted(advances, key=lambda a: a.tenure.shard)
    return (
        [a.tenure.shard for a in ordered],
        [a.tenure.token for a in ordered],
        [a.tenure.turn for a in ordered],
        [a.next_position for a in ordered],
        [a.relay_position for a in ordered],
        [a.topics for a in ordered],
    )


def check_advanced(done: int, arguments: Sequence[list[Any]]) -> None:
    """Raises Fenced if not all of them have been."""
    shards = arguments[0]
    if done != len(shards):
        listed = ", ".join(map(str, shards))
        raise Fenced(f"{done} instead of {len(shards)}: another process has acquired one of the shards {listed}")


def fence(schema: str, *, unless: str = "false", lock_timeout: str = "") -> str:
    """The beginning of a statement that advances shard rows and writes with them: as `advance`, by its arguments.

    SQL after WITH. What is written asks `fence.may`: whether all rows are still ours, and `unless`, SQL of a boolean,
    is false. Nothing is advanced otherwise. `fence.held`: how many are ours. lock_timeout: of the
    statement, where the session is somebody else's, in PostgreSQL's words.
    """
    table = qualified(schema, "shard")
    limit = f" WHERE set_config('lock_timeout', '{lock_timeout}', true) IS NOT NULL" if lock_timeout else ""
    return f"""
        mine AS ({_MINE}{limit}), held AS (
            SELECT row.shard FROM {table} AS row JOIN mine USING (shard)
            WHERE row.token = mine.token AND row.turn = mine.turn ORDER BY row.shard FOR NO KEY UPDATE OF row
        ), fence AS (
            SELECT held, known, held = cardinality($1::int[]) AND NOT known AS may
            FROM (SELECT (SELECT count(*) FROM held) AS held, {unless} AS known) AS seen
        ), advanced AS (
            UPDATE {table} AS row SET {_ADVANCED} FROM mine, fence WHERE fence.may AND row.shard = mine.shard
        )"""


ADVANCE_ARGUMENTS: Final = 6
"""How many `advance_arguments` gives."""

_MINE: Final = """
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
        AS mine (shard, token, turn, next_position, relay_position, topics)"""

_ADVANCED: Final = """
    turn = row.turn + 1, next_position = mine.next_position, relay_position = mine.relay_position,
    topics = mine.topics::jsonb, beat_at = clock_timestamp()"""


async def forget_before(connection: Connection, schema: str, shard: int, moment: datetime) -> datetime:
    """What is older than this may be gone from here on (P5, H2). Never moves back; gives what the row says then."""
    before: datetime = await connection.fetchval(_statements(schema)["shard_row.forget_before"], shard, moment)
    return before


async def check_partitions(connection: Connection, schema: str, partitions: int, *, topic: str = "the topic") -> None:
    """Raises PartitionsChanged if any shard was stored with another number (S11). For the start, and before a new row.

    Rows of shards that a topic with this number does not have are left from one with more, and say nothing.
    """
    stored = await connection.fetchval(_statements(schema)["shard_row.partitions"], partitions)
    if stored is not None:
        _same_partitions(stored, partitions, topic)


async def _add(connection: Connection, sql: dict[str, str], shard: int, claim: Claim, token: UUID) -> None:
    """Waits for a session that has added the same row and not committed it. Nobody can see whose it is, and end it: the
    server does so, when it has been idle for too long."""
    try:
        await connection.execute(sql["shard_row.add"], shard, token, claim.cluster, claim.generation, claim.partitions)
    except asyncpg.LockNotAvailableError as error:
        raise AcquireRefused(f"the row of shard {shard} is being added by another session") from error


async def _locked(connection: Connection, sql: dict[str, str], shard: int, claim: Claim) -> asyncpg.Record:
    """Waits for the lock in a savepoint, gives that up, and locks the row again outside of it.

    PostgreSQL gives a savepoint a transaction id of its own. A row that was locked in one, and is changed after it,
    bears an id made of both (a MultiXact), which `pg_locks` does not show. If this session stood still then, nobody
    could find it to end it (S4).
    """
    if not await _comes_free(connection, sql, shard):
        _check(await _row(connection, sql["shard_row.look"], shard), claim)  # who has no right to the shard ends nobody
        await _end_holder(connection, sql, shard)
        if not await _comes_free(connection, sql, shard):
            raise AcquireRefused(f"the row of shard {shard} stays locked by another session")
    try:
        return await _row(connection, sql["shard_row.lock"], shard)
    except asyncpg.LockNotAvailableError as error:
        raise AcquireRefused(f"the row of shard {shard} was locked by another session just now") from error


async def _comes_free(connection: Connection, sql: dict[str, str], shard: int) -> bool:
    """Whether the lock is to be had in time. Asked in a savepoint, which the transaction outlives if it is not."""
    try:
        async with connection.transaction():
            await connection.execute(_LOCK_TIMEOUT)
            await _row(connection, sql["shard_row.lock"], shard)
            raise _Unlocked
    except _Unlocked:
        return True
    except asyncpg.LockNotAvailableError:
        return False


class _Unlocked(Exception):
    """Gives up a savepoint, and the lock with it."""


async def _row(connection: Connection, statement: str, shard: int) -> asyncpg.Record:
    row = await connection.fetchrow(statement, shard)
    if row is None:
        raise AcquireRefused(f"the row of shard {shard} was deleted just now")
    return row


async def _end_holder(connection: Connection, sql: dict[str, str], shard: int) -> None:
    """S4. The row's xmax is the transaction that holds it; its session is found by the lock on its own id.

    Not by the stored process id: with a pool, or an engine of a participant's, the turn that hangs may run on another
    connection than the one that acquired the shard.
    """
    try:
        async with connection.transaction():
            await connection.execute(sql["shard_row.end_holder"], shard)
    except asyncpg.InsufficientPrivilegeError as error:
        raise AcquireRefused(f"the row of shard {shard} is locked by a session of another role") from error


def _check(row: asyncpg.Record, claim: Claim) -> None:
    _same_partitions(row["partitions"], claim.partitions, claim.topic)
    older = row["cluster"] == claim.cluster and row["generation"] > claim.generation
    if older and row["still"] < STANDS_STILL_SECONDS:
        raise AcquireRefused(
            f"shard {row['shard']} was acquired in generation {row['generation']}, after ours ({claim.generation}), "
            f"and its owner was alive {row['still']:.1f} s ago"
        )


def _same_partitions(stored: int, now: int, topic: str) -> None:
    if stored != now:
        raise PartitionsChanged(
            f"{topic} has {now} partitions, but its shards are stored with {stored}: put the topic back with {stored} "
            f"partitions (delete it once it has been read to its end, then `SAGABUS_PARTITIONS={stored} sagabus topics`"
            "; what is unanswered is sent again); or begin a new namespace and let this one finish beside it"
        )


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    table = qualified(schema, "shard")
    look = f"""
        SELECT *, topics::text AS places, extract(epoch FROM clock_timestamp() - beat_at)::float8 AS still
        FROM {table} WHERE shard = $1"""
    ours = f"""
        SELECT held.shard FROM {table} AS held
        JOIN unnest($1::int[], $2::uuid[], $3::bigint[]) AS mine (shard, token, turn)
            ON held.shard = mine.shard AND held.token = mine.token AND held.turn = mine.turn"""
    return {
        "shard_row.add": f"""
            INSERT INTO {table}
                (shard, token, turn, cluster, generation, partitions, topics, next_position, relay_position)
            VALUES ($1, $2, 0, $3, $4, $5, '{{}}', 1, 0) ON CONFLICT DO NOTHING""",
        "shard_row.look": look,
        "shard_row.lock": f"{look} FOR NO KEY UPDATE",
        "shard_row.acquire": f"""
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
        "holding": f"({ours} ORDER BY held.shard FOR NO KEY UPDATE OF held)",
        "ours": f"({ours})",
        # JSON goes as text: an engine of somebody else's may have a codec of its own for jsonb.
        # `held` locks in the order of shards: two processes that both believe to own several cannot deadlock.
        "shard_row.advance": f"""
            WITH mine AS ({_MINE}), held AS (
                SELECT shard FROM {table} WHERE shard = ANY ($1::int[]) ORDER BY shard FOR NO KEY UPDATE
            )
            UPDATE {table} AS row SET {_ADVANCED} FROM mine JOIN held USING (shard)
            WHERE row.shard = mine.shard AND row.token = mine.token AND row.turn = mine.turn""",
        "shard_row.forget_before": f"""
            UPDATE {table} SET pruned_before = greatest(pruned_before, $2) WHERE shard = $1 RETURNING pruned_before""",
        "shard_row.partitions": f"""
            SELECT partitions FROM {table} WHERE shard BETWEEN 0 AND $1 - 1 AND partitions <> $1 LIMIT 1""",
    }
