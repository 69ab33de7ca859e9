"""How a shard with very many open sagas is taken under a load: python -m bench.take [--sagas 300000].

All are of one shard and have a timer. Measured from the SIGKILL of the coordinator, which is started again at once:
until a new saga has ended, how long new ones take from then on, how long the loop stands still, and the memory.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.results import keep
from tests.support.kafka_broker import make_class_archive
from tests.support.kafka_installation import LASTING, find_kafka
from tests.support.postgres import PostgresServer
from tests.system.ordinary.open_shard import fill, take
from tests.system.ordinary.trial import trial

SHOWN = 3
"""Callbacks of the loop that took longest."""


async def run(options: argparse.Namespace, folder: Path) -> None:
    installation = find_kafka(LASTING)
    if not installation.class_archive.exists():
        make_class_archive(installation, folder / "training")
    with PostgresServer() as server, server.database() as database:
        async with trial(installation, database, folder, partitions=1) as made:
            await made.coordinator()
            await made.ready()
            await fill(made, options.sagas)
            taken = await take(made, options.sagas)
            keep("take", **{name: round(value, 2) for name, value in asdict(taken).items()})
            for stall in sorted(made.stalls(made.coordinators[-1]), key=lambda one: -one.cpu)[:SHOWN]:
                print(f"{stall.cpu:.2f} s of processor time in {stall.what}\n{stall.stack}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=300_000)
    with TemporaryDirectory(prefix="sagabus-take-") as folder:
        asyncio.run(run(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
