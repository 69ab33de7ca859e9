"""A real broker, a real PostgreSQL and the services as processes, for measurements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.kafka_broker import KafkaBroker, make_class_archive
from tests.support.kafka_installation import LASTING, find_kafka
from tests.support.postgres import PostgresServer
from tests.system.deployment import SAGAS, Deployment

LEAN = ("bench.lean_shop",)
SHOP = ("sagabus.shop.inventory", "sagabus.shop.payment", "sagabus.shop.shipping")
SERVICES = ("inventory", "payment", "shipping")
PARTITIONS = 12
"""As by default."""


@dataclass(frozen=True)
class Commits:
    """How long a commit of PostgreSQL takes. delay_us counts with fsync only: PostgreSQL sees to that."""

    fsync: bool = False
    delay_us: int = 0

    @property
    def settings(self) -> dict[str, str]:
        if not self.fsync:
            return {}
        delay = {"commit_delay": str(self.delay_us), "commit_siblings": "0"} if self.delay_us else {}
        return {"fsync": "on", "full_page_writes": "on", **delay}

    @property
    def figures(self) -> dict[str, bool | int]:
        return {"fsync": self.fsync, "commit_delay_us": self.delay_us}


@dataclass(frozen=True)
class Stage:
    broker: KafkaBroker
    server: PostgresServer
    database: str
    deployment: Deployment
    partitions: int = PARTITIONS
    """Of each of the product's topics."""

    @property
    def kafka(self) -> str:
        return self.broker.address


@contextmanager
def servers(folder: Path, commits: Commits) -> Iterator[tuple[KafkaBroker, PostgresServer]]:
    """Both run when this is entered."""
    installation = find_kafka(LASTING)
    if not installation.class_archive.exists():
        make_class_archive(installation, folder / "training")
    with KafkaBroker(installation, folder / "kafka") as broker, PostgresServer(commits.settings) as server:
        yield broker, server


@asynccontextmanager
async def stage(
    participants: Sequence[str],
    *,
    partitions: int = PARTITIONS,
    sagas: Sequence[str] = SAGAS,
    services: Sequence[str] = SERVICES,
    settings: Mapping[str, str] | None = None,
    commits: Commits = Commits(),
) -> AsyncIterator[Stage]:
    """Topics and tables are made; no service runs yet. All of it is gone on leaving."""
    with TemporaryDirectory(prefix="sagabus-bench-") as name:
        folder = Path(name)
        with servers(folder, commits) as (broker, server), server.database() as database:
            async with Deployment(
                kafka=broker.address, database=database, folder=folder / "services", sagas=sagas,
                participants=participants, services=services,
                settings={"SAGABUS_PARTITIONS": str(partitions), **(settings or {})},
            ) as deployment:  # fmt: skip
                yield Stage(broker, server, database, deployment, partitions)
