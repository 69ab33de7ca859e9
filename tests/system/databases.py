"""The PostgreSQL that the services speak to, through proxies: it can fail over, and its network can fall silent."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from urllib.parse import urlsplit

from tests.support.conditions import until
from tests.support.postgres import PostgresServer
from tests.support.postgres_standby import PostgresStandby, make_read_only
from tests.support.tcp_proxy import TcpProxy


class PrimaryEnd(StrEnum):
    """What becomes of the primary when its standby is promoted."""

    READ_ONLY = "read_only"
    """It goes on with its sessions, and refuses every write."""
    CRASHED = "crashed"
    """Its connections are cut, and it takes no new ones."""
    SILENT = "silent"
    """Nobody hears of it again, and no connection to it is closed."""


class Databases:
    """`server` takes the writes. One proxy is an address that leads to it; of two, one is its standby's."""

    def __init__(self, server: PostgresServer, stack: AsyncExitStack, proxies: list[TcpProxy]) -> None:
        self.server = server
        self._name = f"test_{secrets.token_hex(6)}"
        self._stack, self._proxies = stack, proxies
        self._of_server = 0
        server.psql(f"CREATE DATABASE {self._name}")

    @property
    def url(self) -> str:
        """For services."""
        given = urlsplit(self.server.url(self._name))
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self._proxies)
        several = "?target_session_attrs=read-write" if len(self._proxies) > 1 else ""
        return f"postgresql://{given.username}:{given.password}@{hosts}{given.path}{several}"

    @property
    def direct_url(self) -> str:
        """Of the server that takes writes, now."""
        return self.server.url(self._name)

    @property
    def proxy(self) -> TcpProxy:
        """Before the server that takes writes."""
        return self._proxies[self._of_server]

    def client_port(self, port: int) -> int:
        """Of the service whose connection reaches the server from this port; the same port if none does."""
        return next((found for proxy in self._proxies if (found := proxy.behind(port))), port)

    async def fail_over(self, end: PrimaryEnd) -> None:
        """The standby is promoted."""
        old, new = self.server, await asyncio.to_thread(self._standby)
        match end:
            case PrimaryEnd.READ_ONLY:
                await asyncio.to_thread(make_read_only, old)
                await until(new.has_all, what="the standby has all")
            case PrimaryEnd.CRASHED:
                await asyncio.to_thread(old.stop_immediately)
            case PrimaryEnd.SILENT if len(self._proxies) > 1:
                self.proxy.go_silent()
            case PrimaryEnd.SILENT:
                self.proxy.silence_present()
        await asyncio.to_thread(new.promote)
        self.server, self._of_server = new, (self._of_server + 1) % len(self._proxies)
        self.proxy.target = new.port
        self.proxy.speak()

    def _standby(self) -> PostgresStandby:
        standby = PostgresStandby(self.server)
        self._stack.callback(standby.close)
        standby.follow()
        return standby


@asynccontextmanager
async def databases(*, hosts: int = 1) -> AsyncIterator[Databases]:
    """One that is empty."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        proxies = [await stack.enter_async_context(TcpProxy(server.port)) for _ in range(hosts)]
        yield Databases(server, stack, proxies)
