"""Which process has which shard, and what it runs: for whoever asks why a saga waits for a definition.

Written by the process that acquires a shard; read by `doctor`. Nothing is decided by it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sagabus.coordinator.store.columns import OWNER
from sagabus.coordinator.store.rows import ShardOwner
from sagabus.coordinator.store.wire import read, storable
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified


async def keep_owner(connection: Connection, schema: str, owner: ShardOwner, *, token: UUID) -> None:
    """Unless somebody else has acquired the shard meanwhile. token: of the tenure."""
    sql = _statements(schema)["shard_owner.keep"]
    host, instance = storable(owner.host), storable(owner.instance)
    await connection.execute(sql, owner.shard, host, owner.process, instance, owner.definitions, token)


async def owners(connection: Connection, schema: str) -> list[ShardOwner]:
    """Of all shards that were ever acquired, by number. The process may be gone."""
    rows = await connection.fetch(_statements(schema)["shard_owner.list"])
    return [ShardOwner(*row) for row in rows]


_CHANGES: Final = ", ".join(f"{name} = excluded.{name}" for name in OWNER if name != "shard")


@named_statements
def _statements(schema: str) -> dict[str, str]:
    table, shard = qualified(schema, "shard_owner"), qualified(schema, "shard")
    return {
        "shard_owner.keep": f"""
            INSERT INTO {table} (shard, host, process, instance, definitions)
            SELECT row.shard, $2, $3, $4, convert_from($5::bytea, 'UTF8')::jsonb FROM {shard} AS row
            WHERE row.shard = $1 AND row.token = $6
            ON CONFLICT (shard) DO UPDATE SET {_CHANGES}, acquired_at = clock_timestamp()""",
        "shard_owner.list": f"SELECT {read(OWNER, 'row')} FROM {table} AS row ORDER BY row.shard",
    }
