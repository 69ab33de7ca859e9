"""A deployment on a broker and a PostgreSQL of its own, with a load that goes on: what injectors and judges work on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.conditions import NotSo, until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.postgres import PostgresServer
from tests.system.databases import Databases, databases
from tests.system.deployment import Counts, Deployment
from tests.system.load import Load
from tests.system.observer import Observer
from tests.system.service_processes import ServiceProcesses

SAGAS = ("tests.system.impatient_sagas",)
PARTICIPANTS = (
    "sagabus.shop.inventory", "tests.system.slow_shop:slow_payment", "sagabus.shop.shipping", "sagabus.shop.approvals",
)  # fmt: skip
"""Payment takes its time, and works outside of its transaction; the others are as the shop has them."""

PARTITIONS = 4
STOCK = 10_000_000

OPEN, COMPENSATING = 10, 2
"""So many sagas at least when a fault lands."""

RECOVERS: float = 120.0
"""Seconds of patience until sagas of every shard end again; it takes up to seven."""


_ENDED = """
    SELECT shard, extract(epoch FROM min(closed_at) - since)::float8 AS any,
        extract(epoch FROM min(closed_at) FILTER (WHERE started_at > since) - since)::float8 AS new
    FROM sagabus.saga, to_timestamp($1::float8) AS since WHERE closed_at > since GROUP BY shard, since
"""


@dataclass(frozen=True)
class Recovery:
    """Seconds from a fault's end to the first saga that has ended since, and until one has on every shard that was
    started since as well."""

    first: float
    everywhere: float


@dataclass
class Environment:
    """All that is there."""

    broker: KafkaBroker
    databases: Databases
    deployment: Deployment
    observer: Observer
    processes: ServiceProcesses
    load: Load
    old_logs: list[Path] = field(default_factory=list)
    """Of buses that were replaced, oldest first."""
    _last: Path | None = None

    @property
    def server(self) -> PostgresServer:
        """The one that takes writes."""
        return self.databases.server

    async def thick(self) -> Counts:
        """Wait until enough is going on for a fault to land in: it is fed, and sagas run and are undone."""

        async def enough() -> Counts | None:
            if not self.load.going_on:
                raise NotSo("the load has ended")
            now = await self.observer.look()
            return now if now.open >= OPEN and now.compensating >= COMPENSATING else None

        return await until(enough, within=120, every=0.02, what="enough sagas are open and being undone")

    async def fed(self, more: int) -> None:
        """Wait until so many more items have been made."""
        goal = len(self.load.items) + more
        await until(lambda: len(self.load.items) >= goal, what=f"{more} more items are fed")

    async def recovered(self, since: float) -> Recovery:
        """Wait until sagas end again. since: seconds since 1970."""

        async def ended() -> Recovery | None:
            rows = await self.observer.fetch(_ENDED, since)
            new = [row["new"] for row in rows if row["new"] is not None]
            return Recovery(min(row["any"] for row in rows), max(new)) if len(new) == PARTITIONS else None

        return await until(ended, within=RECOVERS, every=0.1, what="sagas begin and end again on every shard")

    def reopen(self, log: Path | None) -> None:
        """Serve what was on a bus that was replaced; None: what was on the last one. Nobody else may run any more."""
        if self._last is None:
            self._last = self.broker.kept
        self.broker.reopen(self._last if log is None else log)

    async def closed(self) -> set[str]:
        rows = await self.observer.fetch("SELECT id FROM sagabus.saga WHERE closed_at IS NOT NULL")
        return {str(row["id"]) for row in rows}


@asynccontextmanager
async def environment(
    installation: KafkaInstallation,
    folder: Path,
    *,
    seed: int,
    rate: float,
    most_open: int,
    coordinators: int,
    participants: int = 2,
    hosts: int = 1,
) -> AsyncIterator[Environment]:
    """Everything runs, and the load goes on, when this is entered.

    rate, most_open: the load's. hosts: of the database's address.
    """
    with KafkaBroker(installation, folder / "kafka") as broker:
        async with databases(hosts=hosts) as servers, Deployment(
            kafka=broker.address, database=servers.url, folder=folder / "services", sagas=SAGAS,
            participants=PARTICIPANTS, settings={"SAGABUS_PARTITIONS": str(PARTITIONS)},
        ) as deployment:  # fmt: skip
            observer = Observer(servers.direct_url)
            await observer.fetch("UPDATE inventory_stock SET free = $1", STOCK)
            processes = ServiceProcesses(deployment, observer, coordinators=coordinators, participants=participants)
            load = Load(broker.address, seed, rate, most_open, lambda: observer.counts.open)
            await processes.start_all()
            observer.start()
            load.start()
            everything = Environment(broker, servers, deployment, observer, processes, load)
            try:
                await everything.recovered(time.time())
                yield everything
            finally:
                load.cancel()
                await observer.stop()
