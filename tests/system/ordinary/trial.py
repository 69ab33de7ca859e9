"""A broker, a database, a coordinator with the trial's sagas and a participant for them: what these tests work on."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from confluent_kafka import Producer

from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.system.deployment import Deployment
from tests.system.observer import Observer
from tests.system.orders import REQUESTS
from tests.system.ordinary.heartbeat import Heartbeat
from tests.system.ordinary.loop_watch import FOLDER_VARIABLE, Stall, stalls
from tests.system.ordinary.neighbours import Neighbours

SAGAS = ("tests.system.ordinary.trial_sagas",)
CROWD = "tests.system.ordinary.crowd_service"
PARTICIPANTS = ("tests.system.ordinary.trial_service", CROWD)
INSTANCE = "coordinator-a"
"""Static membership: after a kill its shards are its own again at once."""

PARTITIONS = 2

STALL_SECONDS = 0.1
"""Of processor time: who takes longer keeps heartbeats and the API from their work."""

LOST_TURN = ("turn failed", "idle-in-transaction", "IdleInTransaction")
"""Words of the log when a turn was lost."""


@dataclass
class Trial:
    """The participant of `trial` runs; that of `crowd`, and coordinators, are started by the test."""

    broker: KafkaBroker
    deployment: Deployment
    participant: Child
    observer: Observer
    neighbours: Neighbours
    port: int
    stalls_folder: Path
    coordinators: list[Child] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def coordinator(self) -> Child:
        """The next process of the one coordinator. It has joined when this returns."""
        child = await self.deployment.coordinator(f"coordinator-{len(self.coordinators) + 1}", instance=INSTANCE)
        self.coordinators.append(child)
        return child

    async def kill_and_restart(self) -> float:
        """SIGKILL. Returns the moment of the kill when the next process has joined."""
        self.coordinators[-1].kill()
        killed = time.monotonic()
        await self.coordinator()
        return killed

    def start_saga(self, id: str, saga: str, **given: Any) -> None:
        self.send(id, {"type": "start", "saga": saga, "input": given})

    def send(self, id: str, body: Mapping[str, Any]) -> None:
        producer = Producer({"bootstrap.servers": self.broker.address, "partitioner": "murmur2_random"})
        producer.produce(REQUESTS, json.dumps(body).encode(), id.encode())
        assert producer.flush(30) == 0

    async def saga(self, id: str) -> asyncpg.Record | None:
        """Its row."""
        rows = await self.observer.fetch("SELECT * FROM sagabus.saga WHERE id = $1", id)
        return rows[0] if rows else None

    async def row(self, id: str) -> asyncpg.Record:
        """The same, of a saga that is there."""
        row = await self.saga(id)
        assert row is not None, f"there is no saga {id}"
        return row

    async def entered(self, ledger: str, rows: int) -> None:
        """Wait until so many rows stand in this ledger."""

        async def so() -> bool:
            return bool(await self.observer.value(f"SELECT count(*) FROM {ledger}") == rows)

        await until(so, what=f"{rows} rows in {ledger}")

    async def rows(self, id: str) -> int:
        """Of its history."""
        return int(str(await self.observer.value("SELECT count(*) FROM sagabus.history WHERE id = $1", id)))

    async def ends(self, id: str, *, within: float, status: str = "completed") -> None:
        async def ended() -> bool:
            row = await self.saga(id)
            return row is not None and row["status"] == status

        await until(ended, within=within, every=0.1, what=f"{id} is {status}")

    async def flagged(self, id: str, *, within: float = 60.0) -> str:
        """Wait until it needs an operator; why, in words."""

        async def attention() -> str | None:
            row = await self.saga(id)
            return None if row is None else row["attention"]

        return await until(attention, within=within, every=0.1, what=f"{id} needs an operator")

    async def ready(self, *, within: float = 60.0) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:

            async def said() -> bool:
                return (await client.get("/readyz", timeout=5)).is_success

            await until(said, within=within, every=0.05, what="the coordinator is ready")

    def heartbeat(self, path: str = "/livez") -> Heartbeat:
        return Heartbeat(self.url, path)

    def stalls(self, child: Child) -> list[Stall]:
        """Callbacks of its loop that took more of the processor than they may; a start's imports are none of them."""
        found = stalls(self.stalls_folder, child.pid)
        return [one for one in found if one.cpu > STALL_SECONDS and "importlib" not in one.stack]

    def lost_turns(self) -> list[str]:
        """Lines of all logs that tell of a lost turn."""
        return [
            line
            for child in self.deployment.children
            for line in (child.stdout + child.stderr).splitlines()
            if any(word in line for word in LOST_TURN)
        ]


@asynccontextmanager
async def trial(
    installation: KafkaInstallation,
    database: str,
    folder: Path,
    *,
    partitions: int = PARTITIONS,
    settings: Mapping[str, str] | None = None,
    health_file: Path | None = None,
) -> AsyncIterator[Trial]:
    """All but a coordinator runs when this is entered. health_file: of the participant."""
    port, stalls_folder = free_port(), folder / "stalls"
    with KafkaBroker(installation, folder / "kafka") as broker:
        async with Deployment(
            kafka=broker.address, database=database, folder=folder / "services", sagas=SAGAS,
            participants=PARTICIPANTS, services=("trial", "crowd"),
            settings={
                "SAGABUS_PARTITIONS": str(partitions), "SAGABUS_HTTP": f"127.0.0.1:{port}",
                FOLDER_VARIABLE: str(stalls_folder), **(settings or {}),
            },
        ) as deployment:  # fmt: skip
            health = () if health_file is None else ("--health-file", str(health_file))
            participant = await deployment.participant(PARTICIPANTS[0], "participant", *health)
            observer, neighbours = Observer(database), Neighbours(broker.address)
            try:
                yield Trial(broker, deployment, participant, observer, neighbours, port, stalls_folder)
            finally:
                await neighbours.close()
                await observer.stop()
