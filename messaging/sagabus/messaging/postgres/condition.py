"""How the tables of one schema stand, for whoever looks for faults: rights, shards, what waits and what was refused.

Reads only, in the caller's transaction. For the coordinator's schema and for a service's alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import MetaData

from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified

RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""What a service does with each of its tables."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows: committed and not published; parked; of dead letters."""

    unpublished: int
    parked: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class ShardState:
    """partitions: as stored at first use. still: seconds without a beat."""

    shard: int
    partitions: int
    still: float


async def missing(connection: Connection, wanted: MetaData) -> list[str]:
    """Tables, and `table.column`s, that are not there; those that we may not read are."""
    rows = await connection.fetch(
        "SELECT relname, array_agg(attname::text) AS columns FROM pg_class "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN pg_attribute ON attrelid = pg_class.oid "
        "WHERE nspname = $1 AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped GROUP BY relname",
        wanted.schema,
    )
    there = {row["relname"]: set(row["columns"]) for row in rows}
    gone = [table.name for table in wanted.sorted_tables if table.name not in there]
    known = [table for table in wanted.sorted_tables if table.name in there]
    gone += [f"{table.name}.{each.name}" for table in known for each in table.c if each.name not in there[table.name]]
    return sorted(gone)


async def schemas_with(connection: Connection, table: str) -> list[str]:
    """Of this database, by name; those that we may not read too."""
    rows = await connection.fetch(
        "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE relname = $1 AND relkind IN ('r', 'p') ORDER BY nspname",
        table,
    )
    return [row["nspname"] for row in rows]


async def may_make_schemas(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')"))


async def missing_rights(connection: Connection, schema: str, wanted: Collection[str]) -> list[str]:
    """`USAGE on the schema`, `INSERT on saga` …: what the role of this connection may not do with these tables."""
    if not await connection.fetchval("SELECT has_schema_privilege($1, 'USAGE')", schema):
        return ["USAGE on the schema"]
    rows = await connection.fetch(
        "SELECT relname, right_ FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "CROSS JOIN unnest($3::text[]) AS right_ WHERE nspname = $1 AND relname = ANY ($2::text[]) "
        "AND NOT has_table_privilege(pg_class.oid, right_) ORDER BY relname, right_",
        schema, list(wanted), list(RIGHTS),
    )  # fmt: skip
    return [f"{row['right_']} on {row['relname']}" for row in rows]


async def untouchable_roles(connection: Connection, schema: str) -> list[str]:
    """Roles that hold shards of this schema now, and whose sessions the role of this connection may not end (S4)."""
    rows = await connection.fetch(_statements(schema)["shard_row.untouchable_roles"])
    return [row["usename"] for row in rows]


async def role(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT current_user"))


async def encoding(connection: Connection) -> str:
    """In which the database holds text."""
    return str(await connection.fetchval("SHOW server_encoding"))


async def schemas(connection: Connection, wanted: Collection[str]) -> set[str]:
    """Those of these schemas that have tables."""
    rows = await connection.fetch(
        "SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE relkind IN ('r', 'p') AND nspname = ANY ($1::text[])",
        list(wanted),
    )
    return {row["nspname"] for row in rows}


async def clock(connection: Connection) -> float:
    """The database's, in seconds since 1970."""
    return float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))


async def shards(connection: Connection, schema: str) -> list[ShardState]:
    rows = await connection.fetch(_statements(schema)["shard_row.list"])
    return [ShardState(*row) for row in rows]


async def backlog(connection: Connection, schema: str) -> Backlog:
    row = await connection.fetchrow(_statements(schema)["outbox.backlog"])
    assert row is not None
    return Backlog(*row)


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    shard, outbox, parked, letters = (
        qualified(schema, name) for name in ("shard", "outbox", "outbox_parked", "dead_letter")
    )
    return {
        "shard_row.list": f"""
            SELECT shard, partitions, extract(epoch FROM clock_timestamp() - beat_at)::float8 FROM {shard}
            ORDER BY shard""",
        "outbox.backlog": f"""
            SELECT (SELECT count(*) FROM {outbox} AS row JOIN {shard} AS own USING (shard)
                    WHERE row.position > own.relay_position),
                (SELECT count(*) FROM {parked}), (SELECT count(*) FROM {letters})""",
        # As pg_terminate_backend judges: one's own role, or one whose rights one has; and nobody but a superuser ends a
        # superuser's session.
        "shard_row.untouchable_roles": f"""
            SELECT DISTINCT other.usename FROM {shard} AS row
            JOIN pg_stat_activity AS other ON other.pid = row.backend_pid AND other.datname = current_database()
            JOIN pg_roles AS its ON its.oid = other.usesysid
            WHERE NOT pg_has_role(other.usesysid, 'USAGE')
                AND (its.rolsuper OR NOT pg_has_role('pg_signal_backend', 'USAGE')) ORDER BY other.usename""",
    }
