"""The first statement of every transaction: is this still ours? (S1)

Token and turn together: the token is random, because after a restored backup a counter alone would repeat; the turn is
counted, because one process may have an older transaction of its own still under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards.tenure import Tenure


class Fenced(SagabusError):
    """A shard of this turn is not ours any more. Nothing may be written, all memory of these shards is void."""


class Advance(NamedTuple):
    """What the shard row of one tenure is to become. `topics` is JSON."""

    tenure: Tenure
    next_position: int
    relay_position: int
    topics: str


async def advance(connection: Connection, schema: str, advances: Sequence[Advance]) -> None:
    """Move these shard rows on, all or none. Raises Fenced; the transaction is then to be given up.

    To be called first in the transaction: it locks the rows, in the order of shards, until the end. One round trip.
    """
    if any(a.tenure.ended for a in advances):
        raise Fenced("a tenure of this turn has ended")
    ordered = sorted(advances, key=lambda a: a.tenure.shard)
    done = await connection.execute(
        _statement(schema),
        [a.tenure.shard for a in ordered],
        [a.tenure.token for a in ordered],
        [a.tenure.turn for a in ordered],
        [a.next_position for a in ordered],
        [a.relay_position for a in ordered],
        [a.topics for a in ordered],
    )
    if done != f"UPDATE {len(ordered)}":
        shards = ", ".join(str(a.tenure.shard) for a in ordered)
        raise Fenced(f"{done} instead of {len(ordered)}: another process has taken one of the shards {shards}")


@cache
def _statement(schema: str) -> str:
    # JSON goes as text: an engine of somebody else's may have a codec of its own for jsonb.
    # `held` locks in the order of shards: two processes that both believe to own several cannot deadlock.
    shard = qualified(schema, "shard")
    return named(
        "shard_row.advance",
        f"""
        WITH mine AS (
            SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
                AS mine (shard, token, turn, next_position, relay_position, topics)
        ), held AS (
            SELECT shard FROM {shard} WHERE shard = ANY ($1::int[]) ORDER BY shard FOR NO KEY UPDATE
        )
        UPDATE {shard} AS row
        SET turn = row.turn + 1, next_position = mine.next_position, relay_position = mine.relay_position,
            topics = mine.topics::jsonb, beat_at = clock_timestamp()
        FROM mine JOIN held USING (shard)
        WHERE row.shard = mine.shard AND row.token = mine.token AND row.turn = mine.turn
    """,
    )
