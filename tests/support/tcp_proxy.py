"""A TCP proxy of the test's own between a service and a server: it can go silent, as a network does that drops packets.

Nothing is closed then: each side goes on believing in its connection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

CHUNK_BYTES = 65_536


class TcpProxy:
    """An async context manager. target: the port on loopback that new connections are led to; may be set anew."""

    def __init__(self, target: int) -> None:
        self.port, self.target = free_port(), target
        self._answers = asyncio.Event()
        self._answers.set()
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.cut()
        await asyncio.gather(*self._tasks)

    def silence_present(self) -> int:
        """From here on nothing passes through the connections that there are; new ones work. Gives their number."""
        for line in self._lines:
            line.silence()
        return len(self._lines)

    def go_silent(self) -> None:
        """Nothing passes any more, through new connections neither: they are taken, and never answered."""
        self.silence_present()
        self._answers.clear()

    def speak(self) -> None:
        """New connections work again. Those that fell silent stay so."""
        self._answers.set()

    def come_back(self) -> None:
        """As a server that was started again: what there was is closed, and new connections work."""
        for line in list(self._lines):
            line.cut()
        self.speak()

    def behind(self, port: int) -> int:
        """The client's port whose connection leaves us from this port; 0 if none does."""
        return next((line.client_port for line in self._lines if line.port == port), 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, task = _Line(reader, writer), asyncio.current_task()
        assert task is not None
        self._lines.add(line)
        self._tasks.add(task)
        try:
            if not self._answers.is_set():
                line.silence()
            await line.carry(self.target)
        finally:
            line.cut()
            self._lines.discard(line)
            self._tasks.discard(task)


class _Line:
    """One connection and its counterpart at the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = [(reader, writer)]
        self._passes = True
        self._over = asyncio.Event()

    @property
    def client_port(self) -> int:
        return int(self._ends[0][1].get_extra_info("peername")[1])

    @property
    def port(self) -> int:
        """Of its own side, as the server sees it; 0 while there is none."""
        return int(self._ends[1][1].get_extra_info("sockname")[1]) if len(self._ends) > 1 else 0

    def silence(self) -> None:
        self._passes = False

    async def carry(self, target: int) -> None:
        """Until one side closes; one that is silent, until the proxy ends."""
        with suppress(OSError):
            if not self._passes:
                await self._over.wait()
                return
            self._ends.append(await asyncio.open_connection("127.0.0.1", target))
            (ours, to_us), (theirs, to_them) = self._ends
            await asyncio.gather(self._pass(ours, to_them), self._pass(theirs, to_us))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if not self._passes:
                break
            writer.write(data)
            await writer.drain()
        if not self._passes:  # the other side does not hear of the end either
            await self._over.wait()
        writer.close()

    def cut(self) -> None:
        self._over.set()
        for _, writer in self._ends:
            writer.close()
