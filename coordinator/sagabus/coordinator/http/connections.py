"""The connections of the API: so many at once, and none without a request. Kafka needs descriptors of the process too.

uvicorn bounds requests, and the silence between two of them. A connection that never sends a request is neither.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from sagabus.coordinator.http.refusals import full

MAX_CONNECTIONS: Final = 1_000
"""Open at once; fewer where the process may not open twice as many files. A client process has a hundred at most."""

HEAD_SECONDS: Final = 10.0
"""Until the head of a request must be there."""

BACKLOG: Final = 128
"""Connections that the system takes before us. asyncio accepts so many at a time, whatever their number is."""

QUIET_SECONDS: Final = 10.0
"""Between two lines of asyncio's about descriptors that have run out: it has one for each that waits."""

_RUN_OUT: Final = "socket.accept() out of system resource"


def most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class Connections:
    """Those of one server. idle: without a request under way, the longest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.idle: dict[Connection, None] = {}

    def protocol(self, **arguments: Any) -> Connection:
        """For uvicorn."""
        return Connection(self, **arguments)


class Connection(H11Protocol):
    """Where there are too many, the one idle the longest is closed; where none is idle, the new one gets 503."""

    def __init__(self, among: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._among = among
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]    # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self._among.most and not self._close_idle():
            transport.write(_full())
            transport.close()
            return
        self._rests()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._without_head)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._at_work:
            self._works()
        elif self._timer is None:  # the beginning of another head
            self._timer = self.loop.call_later(HEAD_SECONDS, self._without_head)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._at_work:
            self._rests()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._works()

    @property
    def _at_work(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _rests(self) -> None:
        self._among.idle.pop(self, None)
        if not self.transport.is_closing():
            self._among.idle[self] = None

    def _works(self) -> None:
        self._among.idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_idle(self) -> bool:
        longest = next(iter(self._among.idle), None)
        if longest is None:
            return False
        del self._among.idle[longest]
        longest.transport.close()
        return True

    def _without_head(self) -> None:
        self._timer = None
        if not self._at_work:
            self.transport.close()


def _full() -> bytes:
    answer = full()
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n%bconnection: close\r\n\r\n%b" % (headers, bytes(answer.body))


class RunOut(logging.Filter):
    """Of asyncio's lines about descriptors that have run out, one in QUIET_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(_RUN_OUT):
            return True
        now = time.monotonic()
        if now - self._said < QUIET_SECONDS:
            return False
        self._said = now
        return True
