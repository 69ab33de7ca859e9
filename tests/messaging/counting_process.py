"""A process that owns shards of a real Kafka and counts, to be stopped and killed by a test.

python -m tests.messaging.counting_process ADDRESS DATABASE NAMESPACE
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from functools import partial

from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.subscription import Subscription
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.ownership import Ownership
from tests.messaging.clusters import real_kafka
from tests.messaging.counting_processor import Counter
from tests.messaging.shards_fixture import Shards


def owner(kafka: Kafka, shards: Shards) -> Ownership:
    """Counts NAMESPACE.in, and sends each number on to NAMESPACE.out."""
    return Ownership(
        kafka=kafka,
        database=shards.database,
        tables=shards.tables,
        subscribe=partial(Subscription, kafka, group=shards.schema, topics=[f"{shards.schema}.in"]),
        main_topic=f"{shards.schema}.in",
        processor=Counter(shards, out=f"{shards.schema}.out"),
    )


async def main(address: str, url: str, namespace: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    database = Database(url)
    ownership = owner(real_kafka(address), Shards(database, namespace))
    await ownership.start()
    print("started", flush=True)
    await stopped.wait()
    await ownership.stop()
    await database.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
