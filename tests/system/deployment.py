"""The system as its users run it: services as processes of their own, on a real broker and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from tests.support.conditions import until
from tests.support.processes import Child

SAGAS = ("sagabus.shop.order_processing", "sagabus.shop.expense_approval")
PARTICIPANTS = ("sagabus.shop.inventory", "sagabus.shop.payment", "sagabus.shop.shipping", "sagabus.shop.approvals")
SERVICES = ("inventory", "payment", "shipping", "approvals")

START = 120.0
"""Seconds of patience for a service to be ready; it takes about two."""


class Deployment:
    """Schema and topics are made on entering; on leaving every process that is left is killed."""

    def __init__(
        self,
        *,
        kafka: str,
        database: str,
        folder: Path,
        sagas: Sequence[str] = SAGAS,
        participants: Sequence[str] = PARTICIPANTS,
        services: Sequence[str] = SERVICES,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.kafka = kafka
        self.database = database
        self.folder = folder
        self.sagas = tuple(sagas)
        self.participants = tuple(participants)
        self.services = tuple(services)
        self.settings = {
            "SAGABUS_KAFKA": kafka, "SAGABUS_DATABASE": database, "SAGABUS_HTTP": "off", "SAGABUS_PARTITIONS": "4",
            **(settings or {}),
        }  # fmt: skip
        self.children: list[Child] = []

    async def __aenter__(self) -> Self:
        await self.make_topics()
        await self.run("migrate", *self.participants, "--tables")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.children:
            if child.running or child.returncode not in (0, -9):
                (self.folder / f"{child.name}.report").write_text(child.report())
            child.kill()

    async def make_topics(self) -> None:
        """Those that are missing."""
        await self.run("topics", *self.sagas, *self.participants)

    async def run(self, *arguments: str) -> str:
        """A command that ends by itself, successfully."""
        child = await self.ask(*arguments)
        assert child.returncode == 0, child.report()
        return child.stdout

    async def ask(self, *arguments: str) -> Child:
        """A command that has ended by itself, with whatever exit code."""
        child = self._child(f"{arguments[0]}-{len(self.children)}", *arguments)
        await child.ended(within=START)
        return child

    async def coordinator(
        self,
        name: str = "coordinator",
        *,
        instance: str = "",
        sagas: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> Child:
        """A coordinator that has joined; its shards come a moment later. sagas: other modules than the others'."""
        modules = sagas or self.sagas
        child = self._child(name, "coordinator", *modules, instance=instance, settings=settings)
        await child.says("the coordinator of", within=START)
        return child

    async def all_participants(self, name: str = "participants", *, instance: str = "") -> Child:
        """One process with all participants."""
        child = self._child(name, "participant", *self.participants, instance=instance)
        for service in self.services:
            await child.says(f"participant {service} runs", within=START)
        return child

    async def participant(self, module: str, name: str, *options: str) -> Child:
        """One process with the participants of one module."""
        child = self._child(name, "participant", *options, module)
        await child.says("runs: ", within=START)
        return child

    def _child(
        self, name: str, *arguments: str, instance: str = "", settings: Mapping[str, str] | None = None
    ) -> Child:
        mine = {**self.settings, "SAGABUS_INSTANCE": instance, **(settings or {})}
        child = Child.python("sagabus.commands.main", *arguments, folder=self.folder, name=name, settings=mine)
        self.children.append(child)
        return child


@dataclass(frozen=True)
class Counts:
    """Of sagas, as the database says."""

    all: int
    open: int
    compensating: int


async def counts(connection: asyncpg.Connection[asyncpg.Record]) -> Counts:
    row = await connection.fetchrow(
        "SELECT count(*) AS all, count(*) FILTER (WHERE status IN ('running', 'compensating')) AS open, "
        "count(*) FILTER (WHERE status = 'compensating') AS compensating FROM sagabus.saga"
    )
    assert row is not None
    return Counts(**row)


async def until_all_ended(connection: asyncpg.Connection[asyncpg.Record], expected: int, *, within: float) -> None:
    """Wait until so many sagas are there and none is open any more."""

    async def ended() -> bool:
        now = await counts(connection)
        return now.all == expected and now.open == 0

    await until(ended, within=within, every=0.2, what=f"{expected} sagas have ended")
