"""How a connection to PostgreSQL is made, how long anything may take on it, and after which errors it is of no use.

Every connect and every statement is bounded: a network that drops packets says nothing, so nothing but the clock ends a
wait. What a server says that has become a standby, or that is shutting down, is said by each of its sessions again and
again: such a connection is dropped, and with it all that the pool has from before.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from sagabus.contracts.errors import SagabusError
from sagabus.messaging import database_url

log = logging.getLogger(__name__)

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_SECONDS: Final = 5.0
"""For the last host. As long as a process may be without its database before it gives its shards to others (S10)."""

HOST_SECONDS: Final = 1.5
"""For a host while others have not been tried. One that drops packets would use up the time of the others; one that
is only slow is tried again after them, with CONNECT_SECONDS."""

TRIED_LAST_SECONDS: Final = 60.0
"""A host that has not answered is tried after the others for so long: a pool makes one connection after the other, and
each would wait for it first."""

STATEMENT_SECONDS: Final = 12.0
"""The largest statement of a turn copies some thousand rows; the server ends one that takes longer."""

COMMAND_SECONDS: Final = 15.0
"""Until we stop waiting for the answer to a statement. Over STATEMENT_SECONDS: it is for a connection that has fallen
silent while its server has not (see `silence`)."""

COMMIT_SECONDS: Final = 3.0
"""For the answer to a commit: a busy disk takes one second, and a primary that has lost its place to its standby never
answers. Under STATEMENT_SECONDS: a server that waits for its synchronous standby calls a commit done when that time is
over, though a failover would lose it. Who hears nothing in time takes it for unknown."""

BEGIN_SECONDS: Final = 3.0
"""For the answer to a BEGIN on a connection that lay in the pool: it waits for no lock and no disk. If it does not come
another connection is made, whose BEGIN may take COMMAND_SECONDS: a pooler's waits until a server's session is free."""

AFTER_STANDSTILL_SECONDS: Final = 0.1
"""Then more: a loop that stood still for those three seconds has yet to read an answer that is there."""

END_SECONDS: Final = 5.0
"""For a rollback, and for giving a connection back: it is dropped then, and the server ends the transaction."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""Seconds, and for the last milliseconds: a silent connection that nobody uses is found too. Names as in tcp(7)."""

LOCK_TIMEOUT: Final = "5s"
"""A shard row is held for one turn, milliseconds. Who waits longer waits for a process that hangs."""

IDLE_SECONDS: Final = 10.0
"""Nothing is computed within a transaction: between two statements passes no time worth mentioning. Who is idle for so
long has been stopped, and may hold what nobody can see: a shard's row that it has just added."""

SESSION: Final[Mapping[str, str]] = {
    "application_name": "sagabus",
    # The fence looks at the row as the other transaction left it: so READ COMMITTED does. Stricter levels would raise
    # where zero rows are the answer.
    "default_transaction_isolation": "read committed",
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS:g}s",
    # Statements of a millisecond: compiling them costs more than running them.
    "jit": "off",
    # Plans made while the tables were tiny keep scanning them whole until the next autoanalyze: at 100,000 sagas,
    # reading 300 histories took 170 ms instead of 37.
    "enable_seqscan": "off",
}

LOCAL_SESSION: Final = " ".join(
    f"SET LOCAL {name} = '{value}';"
    for name, value in SESSION.items()
    if name not in ("application_name", "default_transaction_isolation")
)
"""The same for one transaction: behind a pooler a session is somebody else's with the next one."""

READ_ONLY: Final = "25006"
"""SQLSTATE of a write to a server that has become a standby."""

_LEAVING: Final = "57P0"
"""SQLSTATEs of a server that is shutting down, has crashed, or is not up yet: 57P01, 57P02, 57P03."""

_POOLED_PREPARED: Final = ("26000", "42P05")
"""A prepared statement that is not there, or is there already: a pooler gives each transaction another session."""


class Unanswered(SagabusError, TimeoutError):
    """Of a commit the outcome is unknown then; the connection is to be dropped."""


async def committed(commit: Awaitable[None]) -> None:
    """Raises Unanswered, or what the commit raises: its outcome is unknown either way."""
    await answered(commit, COMMIT_SECONDS, "a commit")


async def begun(begin: Awaitable[None], seconds: float) -> None:
    """seconds: BEGIN_SECONDS where the connection lay in a pool, else COMMAND_SECONDS. Raises Unanswered, or what the
    BEGIN raises; nothing was begun then."""
    await answered(begin, seconds, "a BEGIN")


async def answered(request: Awaitable[T], seconds: float, what: str) -> T:
    """Raises Unanswered when that time is over."""
    try:
        async with asyncio.timeout(None) as limit:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + AFTER_STANDSTILL_SECONDS))
            try:
                return await request
            finally:
                timer.cancel()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unanswered(f"PostgreSQL has not answered {what} for {seconds:g} s") from error


_CLOSED: Final = ("connection is closed", "connection was closed", "pool is closed")
"""What asyncpg says where nothing else tells: of a connection from a pool that was cut while nobody used it, say."""


def is_unusable(error: BaseException) -> bool:
    """Whether after this error the connection is of no use, and what the pool has beside it is not to be trusted."""
    if isinstance(error, Unanswered):
        return True
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate == READ_ONLY or sqlstate.startswith((_LEAVING, "08"))
    if isinstance(error, asyncpg.InterfaceError):  # among much that is the caller's: a value of the wrong type, say
        return any(words in str(error) for words in _CLOSED)
    return isinstance(error, OSError | TimeoutError) and _is_of_driver(error)


def _is_of_driver(error: BaseException) -> bool:
    """Whether asyncpg raised it. A timeout or a broken socket of the caller's own says nothing of the connection."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith("asyncpg.") for frame, _ in frames)


def is_of_pooler(error: BaseException) -> bool:
    """Whether only a pooler that shares sessions between transactions explains this error."""
    sqlstate = getattr(error, "sqlstate", None)
    refused = sqlstate == "08P01" and "startup parameter" in str(error)
    return refused or sqlstate in _POOLED_PREPARED


async def connect(url: str, *, pooled: bool = False, settings: bool = True, **options: Any) -> Connection:
    """To the first of the URL's hosts that answers and takes writes. pooled: without what a pooler does not carry over.

    settings: with those of SESSION. Unless the URL says otherwise, a server that is a standby is none
    (`target_session_attrs`). Raises what the last host raised.
    """
    options = {"command_timeout": COMMAND_SECONDS, "timeout": CONNECT_SECONDS, **options}
    if pooled:
        options["statement_cache_size"] = 0
    elif settings:
        options["server_settings"] = dict(SESSION)
    if "target_session_attrs=" not in url:
        options["target_session_attrs"] = "read-write"
    last_error: Exception | None = None
    waiting = _in_order(database_url.hosts(url))
    slow: list[str] = []
    while waiting:  # one by one: to asyncpg the timeout is for all of them
        host = waiting.pop(0)
        seconds = _seconds(waiting) or options["timeout"]
        try:
            connection: Connection = await asyncpg.connect(host, **{**options, "timeout": seconds})
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
            if is_of_pooler(error):
                raise
            last_error = error
            if isinstance(error, TimeoutError) and waiting:
                _does_not_answer(host)
                slow.append(host)
        else:
            _silent_hosts.pop(host, None)
            _keep_alive(connection)
            return connection
        if not waiting:
            waiting, slow = slow, []
    assert last_error is not None, "a URL has a host"
    raise last_error


_silent_hosts: dict[str, float] = {}
"""The address of a host to when it did not answer, in monotonic seconds."""


def _in_order(hosts: list[str]) -> list[str]:
    """As they are given; those that have not answered lately come last."""
    return sorted(hosts, key=_was_silent)


def _seconds(waiting: list[str]) -> float:
    """For a host while these wait; 0: all that there are. Of one that is likely to answer, more is worth the wait."""
    return 0 if not waiting else 2 * HOST_SECONDS if all(map(_was_silent, waiting)) else HOST_SECONDS


def _was_silent(host: str) -> bool:
    since = time.monotonic() - TRIED_LAST_SECONDS
    return _silent_hosts.get(host, since) > since


def _does_not_answer(host: str) -> None:
    if not _was_silent(host):
        log.warning("PostgreSQL does not answer: %s", database_url.masked(host))
    _silent_hosts[host] = time.monotonic()


def _keep_alive(connection: Connection) -> None:
    """asyncpg gives no way to its socket but this one; a socket on this machine needs none."""
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    ours: Any = None if transport is None else transport.get_extra_info("socket")
    if ours is None or ours.family not in (socket.AF_INET, socket.AF_INET6):
        return
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not everywhere
            ours.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
