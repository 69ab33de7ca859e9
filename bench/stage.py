"""A real broker, a real PostgreSQL and the services as processes, for measurements."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.kafka_broker import KafkaBroker, make_class_archive
from tests.support.kafka_installation import LASTING, find_kafka
from tests.support.postgres import PostgresServer
from tests.system.deployment import Deployment

RESULTS = Path(__file__).parent / "results.jsonl"
LEAN = ("bench.lean_shop",)
SHOP = ("sagabus.shop.inventory", "sagabus.shop.payment", "sagabus.shop.shipping")
SERVICES = ("inventory", "payment", "shipping")


@dataclass(frozen=True)
class Stage:
    kafka: str
    database: str
    deployment: Deployment


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a broker and of a fresh database."""
    installation = find_kafka(LASTING)
    if not installation.class_archive.exists():
        make_class_archive(installation, folder / "training")
    with KafkaBroker(installation, folder / "kafka") as broker, PostgresServer() as server:
        with server.database() as url:
            yield broker.address, url


@asynccontextmanager
async def stage(
    participants: Sequence[str], *, partitions: int = 12, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Topics and tables are made; no service runs yet."""
    with TemporaryDirectory(prefix="sagabus-bench-") as name:
        folder = Path(name)
        with servers(folder) as (kafka, database):
            async with Deployment(
                kafka=kafka, database=database, folder=folder / "services", participants=participants,
                services=SERVICES, settings={"SAGABUS_PARTITIONS": str(partitions), **(settings or {})},
            ) as deployment:  # fmt: skip
                yield Stage(kafka, database, deployment)


def keep(name: str, **figures: float | int | str) -> None:
    """Print the figures, and append them with commit, machine and time."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    row = {"bench": name, "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit.stdout.strip()}
    line = json.dumps({**row, "machine": machine, **figures})
    print(line)
    with RESULTS.open("a") as file:
        file.write(line + "\n")
