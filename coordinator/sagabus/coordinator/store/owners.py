"""Which process has which shard, and what it runs: for whoever asks why a saga waits for a definition.

Written by the process that acquires a shard; read by `doctor`. Beside it stands what is left to be done after a loss of
the bus.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sagabus.contracts import codec
from sagabus.coordinator.store.columns import OWNER
from sagabus.coordinator.store.rows import ShardOwner
from sagabus.coordinator.store.wire import read
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.postgres.text import storable


async def keep_owner(
    connection: Connection, schema: str, owner: ShardOwner, *, token: UUID, lost_records: Sequence[str] | None
) -> list[str] | None:
    """Unless somebody else has acquired the shard meanwhile. token: of the tenure.

    lost_records: topics of which records were lost; not None after any loss of the bus (S6). Kept beside the owner
    until a turn says that it is over (`Writes.ended_losses`). Returns what is to be made good now: this loss, or one
    that an earlier owner has not finished.
    """
    host, instance = storable(owner.host), storable(owner.instance)
    lost = None if lost_records is None else codec.encode_value([*lost_records])
    stored: str | None = await connection.fetchval(
        _statements(schema)["shard_owner.keep"],
        owner.shard, host, owner.process, instance, owner.definitions, lost, token,
    )  # fmt: skip
    return None if stored is None else [str(topic) for topic in json.loads(stored)]


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
            INSERT INTO {table} AS row (shard, host, process, instance, definitions, lost_records)
            SELECT $1, $2, $3, $4, convert_from($5::bytea, 'UTF8')::jsonb, convert_from($6::bytea, 'UTF8')::jsonb
            FROM {shard} AS owned WHERE owned.shard = $1 AND owned.token = $7
            ON CONFLICT (shard) DO UPDATE SET {_CHANGES}, acquired_at = clock_timestamp(),
                lost_records = coalesce(excluded.lost_records, row.lost_records)
            RETURNING row.lost_records::text""",
        "shard_owner.list": f"SELECT {read(OWNER, 'row')} FROM {table} AS row ORDER BY row.shard",
    }
