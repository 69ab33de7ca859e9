"""An onlooker at the database, who comes back when it does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeAlias

import asyncpg

from tests.system.deployment import Counts, counts

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

EVERY = 0.25
"""Seconds between two looks at the sagas."""

TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Observer:
    """`counts` is what was seen last; `start` keeps it up to date. Questions fail while the database is away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.counts = Counts(0, 0, 0)
        self._connection: Connection | None = None
        self._asking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look(), name="observer")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._leave()

    async def turn_to(self, url: str) -> None:
        """Look there from now on."""
        async with self._asking:
            self.url = url
            await self._leave()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._asking:
            try:
                return await (await self._there()).fetch(query, *arguments, timeout=20)
            except TROUBLE:
                await self._leave()
                raise

    async def value(self, query: str, *arguments: object) -> object:
        return (await self.fetch(query, *arguments))[0][0]

    async def look(self) -> Counts:
        async with self._asking:
            try:
                self.counts = await counts(await self._there())
            except TROUBLE:
                await self._leave()
                raise
        return self.counts

    async def connect(self) -> Connection:
        """Another connection, for who holds locks."""
        return await asyncpg.connect(self.url, timeout=5)

    async def _there(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.connect()
        return self._connection

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*TROUBLE):
                connection.terminate()

    async def _look(self) -> None:
        while True:
            with suppress(*TROUBLE):
                await self.look()
            await asyncio.sleep(EVERY)
