"""SIGKILL under load: each lands while hundreds of sagas are open and dozens are being undone, and nothing shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.processes import Child
from tests.system import accounts
from tests.system.deployment import Counts, Deployment, counts, until_all_ended
from tests.system.orders import Fate, Order, send_orders

STOCK = 1_000_000
OPEN, COMPENSATING = 300, 50
"""So many sagas at least when a kill lands."""

ORDERS, PORTION = 1_500, 100
"""A portion is sent every quarter of a second: a steady feed, faster than the slow services work."""

FATES = [Fate.COMPLETED] * 4 + [Fate.NOT_SERVED] * 4 + [Fate.CARD_DECLINED, Fate.OUT_OF_STOCK]


@dataclass
class Scene:
    """A deployment under load."""

    broker: KafkaBroker
    deployment: Deployment
    connection: asyncpg.Connection[asyncpg.Record]
    orders: Sequence[Order]
    feed: asyncio.Task[None]

    async def thick(self) -> Counts:
        """Wait until enough is going on; what was read just before the kill."""

        async def enough() -> Counts | None:
            now = await counts(self.connection)
            return now if now.open >= OPEN and now.compensating >= COMPENSATING else None

        return await until(enough, within=60, every=0.01, what="enough sagas are open and being undone")

    async def check(self) -> None:
        """All ended, and the account is exact."""
        await self.feed
        await until_all_ended(self.connection, len(self.orders), within=180)
        await accounts.check_statuses(self.connection, self.orders)
        await accounts.check_ledgers(self.connection, self.orders)
        await accounts.check_stock(self.connection, STOCK)
        told = accounts.read_all(self.broker.address, ["sagabus.events", *accounts.EVENT_TOPICS])
        accounts.check_sequences(told, [order.id for order in self.orders])
        accounts.check_domain_events(told, self.orders)
        assert not accounts.read_all(self.broker.address, ["sagabus.dead-letters"]).records


@asynccontextmanager
async def scene(installation: KafkaInstallation, database: str, folder: Path) -> AsyncIterator[Scene]:
    orders = [Order(number, FATES[number % len(FATES)]) for number in range(1, ORDERS + 1)]
    participants = ("sagabus.shop.inventory", "tests.system.slow_shop")
    with KafkaBroker(installation, folder / "kafka") as broker:
        async with Deployment(
            kafka=broker.address, database=database, folder=folder / "services", participants=participants,
            services=("inventory", "payment", "shipping"),
        ) as deployment:  # fmt: skip
            connection = await asyncpg.connect(database)
            await connection.execute("UPDATE inventory_stock SET free = $1", STOCK)
            feed = asyncio.create_task(feeding(broker.address, orders))
            try:
                yield Scene(broker, deployment, connection, orders, feed)
            finally:
                feed.cancel()
                await connection.close()


async def feeding(kafka: str, orders: Sequence[Order]) -> None:
    for start in range(0, len(orders), PORTION):
        await send_orders(kafka, orders[start : start + PORTION])
        await asyncio.sleep(0.25)


def kill(*victims: Child) -> None:
    for victim in victims:
        assert victim.running, victim.report()
        victim.kill()


@pytest.mark.slow
async def test_a_killed_coordinator_goes_on(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with scene(kafka_installation, database, tmp_path) as stage:
        first = await stage.deployment.coordinator("coordinator-1")
        await stage.deployment.all_participants()
        await stage.thick()
        kill(first)
        await stage.deployment.coordinator("coordinator-2")
        await stage.check()


@pytest.mark.slow
async def test_a_killed_participant_goes_on(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with scene(kafka_installation, database, tmp_path) as stage:
        await stage.deployment.coordinator()
        first = await stage.deployment.all_participants("participants-1")
        await stage.thick()
        kill(first)
        await stage.deployment.all_participants("participants-2")
        await stage.check()


@pytest.mark.slow
async def test_both_killed_at_once_go_on(kafka_installation: KafkaInstallation, database: str, tmp_path: Path) -> None:
    async with scene(kafka_installation, database, tmp_path) as stage:
        coordinator = await stage.deployment.coordinator("coordinator-1")
        participants = await stage.deployment.all_participants("participants-1")
        await stage.thick()
        kill(coordinator, participants)
        await stage.deployment.all_participants("participants-2")
        await stage.deployment.coordinator("coordinator-2")
        await stage.check()


@pytest.mark.slow
async def test_another_coordinator_takes_over(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with scene(kafka_installation, database, tmp_path) as stage:
        first = await stage.deployment.coordinator("coordinator-1")
        await stage.deployment.coordinator("coordinator-2")
        await stage.deployment.all_participants()
        await until_shared(stage.connection)
        await stage.thick()
        kill(first)
        await stage.check()


@pytest.mark.slow
async def test_a_restarted_static_member_goes_on(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    async with scene(kafka_installation, database, tmp_path) as stage:
        first = await stage.deployment.coordinator("coordinator-1", instance="coordinator-a")
        await stage.deployment.all_participants()
        await stage.thick()
        kill(first)
        await stage.deployment.coordinator("coordinator-2", instance="coordinator-a")
        await stage.check()


async def until_shared(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until two processes hold shards."""

    async def shared() -> bool:
        holders = await connection.fetchval(
            "SELECT count(DISTINCT (a.pid, a.backend_start)) FROM sagabus.shard s JOIN pg_stat_activity a "
            "ON a.pid = s.backend_pid AND a.backend_start = s.backend_start"
        )
        return bool(holders >= 2)

    await until(shared, within=60, what="two coordinators hold shards")
