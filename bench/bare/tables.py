"""The rows of the bare engine: the schema `bare`, in the database of the product that stands beside it."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS bare;
CREATE TABLE IF NOT EXISTS bare.saga (
    id text PRIMARY KEY, shard int, definition text, status text, created_at timestamptz, result bytea);
CREATE TABLE IF NOT EXISTS bare.history (
    saga_id text, seq int, kind text, name text, payload bytea, PRIMARY KEY (saga_id, seq));
CREATE TABLE IF NOT EXISTS bare.outbox (
    shard int, id bigint, topic text, key bytea, headers bytea, payload bytea, PRIMARY KEY (shard, id));
CREATE TABLE IF NOT EXISTS bare.shard (number int PRIMARY KEY, epoch int, relayed bigint);
CREATE TABLE IF NOT EXISTS bare.inbox (id text PRIMARY KEY, reply bytea);
"""

EMPTY: Final = """
TRUNCATE bare.saga, bare.history, bare.outbox, bare.shard, bare.inbox;
INSERT INTO bare.shard SELECT number, 1, 0 FROM generate_series(0, 3) AS number;
"""

ENDED: Final = "SELECT count(*) FROM bare.saga WHERE status = 'completed'"

END_SAGAS: Final = (
    "UPDATE saga SET status = 'completed', result = ended.result "
    "FROM unnest($1::text[], $2::bytea[]) AS ended (id, result) WHERE saga.id = ended.id"
)
MOVE_ON: Final = "UPDATE shard SET relayed = $1 WHERE epoch = 1"
"""The fence and the place up to which everything is published: all shards at once, as one process owns them."""

ANSWER: Final = (
    "INSERT INTO inbox (id, reply) SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING RETURNING 1"
)
