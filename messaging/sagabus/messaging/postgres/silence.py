"""Whether the server of a connection is gone, asked while a transaction waits for it.

A statement may take its time, so waiting says nothing. A server that is slow, or waits for a lock or its disk, still
answers a new connection; one that has fallen silent does not. So its address is asked beside the transaction, and
nobody has to wait as long as for the slowest statement. What a network drops of one connection alone is not found so:
that has the statement's own limit.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import asyncpg

from sagabus.messaging.postgres.connecting import Connection

log = logging.getLogger(__name__)

ASK_AFTER_SECONDS: Final = 1.5
"""From a transaction's beginning, and from one answer to the next question. Most transactions take milliseconds."""

ANSWER_SECONDS: Final = 2.5
"""PostgreSQL makes a process for it, which takes milliseconds, and needs neither a lock nor its disk."""

_SSL_REQUEST: Final = (8).to_bytes(4) + (80_877_103).to_bytes(4)
"""The first packet of a connection that wants TLS; without a login. A server or a pooler answers it with one byte."""

_GONE: Final = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH)

_Address = tuple[str, int]


@contextmanager
def watched(connection: Connection, gone: Callable[[], None]) -> Iterator[None]:
    """For as long as a transaction lasts: if its server does not answer, `gone` is called and the connection dropped.

    Whoever waits for an answer on it gets ConnectionDoesNotExistError.
    """
    address = _address(connection)
    if address is None:
        yield
        return
    loop = asyncio.get_running_loop()
    asking: asyncio.Task[None] | None = None

    def ask() -> None:
        nonlocal asking
        asking = loop.create_task(_ask(connection, address, gone), name="sagabus asks PostgreSQL")

    timer = loop.call_later(ASK_AFTER_SECONDS, ask)
    try:
        yield
    finally:
        timer.cancel()
        if asking is not None:
            asking.cancel()


async def _ask(connection: Connection, address: _Address, gone: Callable[[], None]) -> None:
    while True:
        if not await asyncio.to_thread(_answers, address):
            break
        await asyncio.sleep(ASK_AFTER_SECONDS)
    log.warning(
        "PostgreSQL at %s:%s has not answered a new connection for %g s: what waits for it is given up",
        *address, ANSWER_SECONDS,
    )  # fmt: skip
    gone()
    with suppress(asyncpg.InterfaceError):  # whoever had it has given it back
        connection.terminate()


def _answers(address: _Address) -> bool:
    """Blocks. In a thread, so that a loop that stands still does not take its own silence for the server's."""
    end = time.monotonic() + ANSWER_SECONDS
    try:
        with socket.create_connection(address, timeout=ANSWER_SECONDS) as ours:
            ours.settimeout(max(0.001, end - time.monotonic()))
            ours.sendall(_SSL_REQUEST)
            ours.recv(1)
    except TimeoutError:
        return False
    except OSError as error:  # of ours, as too many open files; or closed by a proxy, which says nothing
        return error.errno not in _GONE
    return True


def _address(connection: Connection) -> _Address | None:
    """Of the server, as this connection has it. None for a socket on this machine: that does not fall silent."""
    transport: Any = getattr(connection, "_transport", None)
    peer = None if transport is None else transport.get_extra_info("peername")
    return (peer[0], peer[1]) if isinstance(peer, tuple) else None
