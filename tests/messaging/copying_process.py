"""A process that begins a turn over shard 0 and never ends its COPY, to be stopped within it by a test.

python -m tests.messaging.copying_process DATABASE SCHEMA
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from sagabus.messaging.postgres.database import Database
from tests.messaging.shards_fixture import Given, Shards


async def main(url: str, schema: str) -> None:
    database = Database(url)
    shards = Shards(database, schema)
    tenure = await shards.take()
    turn = shards.turn({tenure: [Given(offset=0)]})
    wake = asyncio.Event()

    async def rows() -> AsyncIterator[tuple[object, ...]]:
        yield (0, 1, "ORD-1", "out", 0, b"ORD-1", b"", b"never sent", None)
        print("in the copy", flush=True)
        asyncio.get_running_loop().call_later(1, wake.set)  # counts on when the process does
        await wake.wait()

    try:
        async with database.transaction() as connection:
            await turn.write(connection)
            await connection.copy_records_to_table("outbox", schema_name=schema, records=rows())
    except Exception as error:
        print(f"not committed: {type(error).__name__}", flush=True)
    else:
        print("committed", flush=True)
    await database.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
