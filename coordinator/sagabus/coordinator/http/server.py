"""Serving the API with uvicorn, inside a process that has other work: no signal handlers, no logging set up, no exit.

An address that cannot be had is an error of ours (`listening`), raised before anything is served.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, cast

import uvicorn
from starlette.applications import Starlette

from sagabus.coordinator.http.connections import BACKLOG, Connections, RunOut, most_connections
from sagabus.coordinator.http.listening import listen
from sagabus.messaging.background import Supervisor

GRACE: Final = 1
"""Seconds for answers that are under way when the server stops."""


@asynccontextmanager
async def serving(
    app: Starlette, address: tuple[str, int], *, supervisor: Supervisor | None = None, most: int | None = None
) -> AsyncIterator[str]:
    """Serve while inside; gives the address that is listened on, `host:port`, for port 0 the one that was found.

    most: connections at once; left out, as many as the process can bear. Raises CannotListen. On leaving, who waits in
    a long poll is answered at once.
    """
    listening, quiet = listen(address), RunOut()
    connections = Connections(most_connections() if most is None else most)
    server = _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False,
            server_header=False, timeout_graceful_shutdown=GRACE, backlog=BACKLOG,
            http=cast("type[asyncio.Protocol]", connections.protocol),
        )
    )  # fmt: skip
    task = (supervisor or Supervisor()).spawn(server.serve(sockets=[listening]), name="the HTTP server")
    logging.getLogger("asyncio").addFilter(quiet)
    try:
        yield _name(listening)
    finally:
        logging.getLogger("asyncio").removeFilter(quiet)
        app.state.drain()
        server.should_exit = True
        await asyncio.wait([task], timeout=GRACE * 3)
        task.cancel()
        listening.close()


async def serve(app: Starlette, address: tuple[str, int]) -> None:
    """Serve until cancelled. Raises CannotListen; whoever must know that at once enters `serving`."""
    async with serving(app, address):
        await asyncio.Event().wait()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, which drains in an order of its own."""
        yield


def _name(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
