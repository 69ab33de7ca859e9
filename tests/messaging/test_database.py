"""Transactions over a pool of our own and over somebody else's engine."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres import connecting, silence
from sagabus.messaging.postgres import database as database_module
from sagabus.messaging.postgres import engine as engine_module
from sagabus.messaging.postgres.database import Connection, Database, DatabaseUnreachable
from sagabus.messaging.postgres.engine_database import EngineDatabase
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.tcp_proxy import TcpProxy


class Broken(Exception):
    """What a test breaks a transaction off with."""


@pytest.fixture
async def pooled(database: str) -> AsyncIterator[Database]:
    pooled = Database(database)
    async with pooled.transaction() as connection:
        await connection.execute("CREATE TABLE kept (n int)")
    yield pooled
    await pooled.stop()


@pytest.fixture(params=["READ COMMITTED", "AUTOCOMMIT", "SERIALIZABLE"])
async def engine(request: pytest.FixtureRequest, database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database.replace("://", "+asyncpg://"), isolation_level=request.param)
    yield engine
    await engine.dispose()


async def test_a_transaction_is_committed_on_leaving_and_rolled_back_by_an_exception(pooled: Database) -> None:
    async with pooled.transaction() as connection:
        await connection.execute("INSERT INTO kept VALUES (1)")
    with suppress(Broken):
        async with pooled.transaction() as connection:
            await connection.execute("INSERT INTO kept VALUES (2)")
            raise Broken
    assert await _kept(pooled) == [1]


async def test_over_an_engine_the_drivers_statements_are_part_of_the_transaction(
    pooled: Database, engine: AsyncEngine
) -> None:
    """SQLAlchemy begins with the first statement that it sees; the fence and COPY go past it."""
    over = EngineDatabase(engine)
    with suppress(Broken):
        async with over.transaction() as connection:
            assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
            await connection.copy_records_to_table("kept", records=[(1,)])
            raise Broken
    assert await _kept(pooled) == []
    async with over.transaction() as connection:
        await connection.copy_records_to_table("kept", records=[(2,)])
    assert await _kept(pooled) == [2]


async def test_a_session_and_the_driver_share_the_transaction(pooled: Database, engine: AsyncEngine) -> None:
    over = EngineDatabase(engine)
    with suppress(Broken):
        async with over.session_transaction() as connection:
            driver = await over.driver(connection)
            async with AsyncSession(bind=connection, join_transaction_mode="create_savepoint") as session:
                await session.execute(text("INSERT INTO kept VALUES (1)"))
                await session.commit()
            assert await driver.fetchval("SELECT n FROM kept") == 1
            raise Broken
    assert await _kept(pooled) == []


def test_an_engine_with_another_driver_is_refused() -> None:
    class Psycopg:
        class dialect:  # noqa: N801
            driver = "psycopg"

    with pytest.raises(SagabusError, match=r"postgresql\+asyncpg"):
        EngineDatabase(Psycopg())  # type: ignore[arg-type]


async def test_a_database_that_is_away_is_unreachable_and_comes_back() -> None:
    with PostgresServer() as server:
        pooled = Database(server.url())
        engine = create_async_engine(server.url().replace("://", "+asyncpg://"))
        over = EngineDatabase(engine)
        for each in (pooled, over):
            async with each.transaction():
                pass
        server.stop_immediately()
        for each in (pooled, over):
            with pytest.raises(DatabaseUnreachable, match="unreachable"):
                await each.wait_until_reachable(patience=0.3)
        server.start()
        for each in (pooled, over):
            await each.wait_until_reachable(patience=30)
        await pooled.stop()
        await engine.dispose()


async def test_nothing_listens_there() -> None:
    with pytest.raises(DatabaseUnreachable, match="unreachable"):
        await Database(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres").start()


async def test_a_missing_database_is_waited_for(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not exist"):
        await Database(postgres.url("not_there_yet")).start()


async def test_locks_statements_and_pauses_are_bounded(pooled: Database) -> None:
    async with pooled.transaction() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW statement_timeout") == "12s"


async def _kept(database: Database) -> list[int]:
    async with database.transaction() as connection:
        return [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]


async def test_a_read_is_one_round_trip(pooled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    begin = Database._begin

    async def counting(self: Database, *args: Any) -> Any:
        begun.append(self)
        return await begin(self, *args)

    monkeypatch.setattr(Database, "_begin", counting)
    assert await pooled.read(_in_transaction) is False
    assert begun == []
    with pytest.raises(asyncpg.UndefinedTableError):
        await pooled.read(lambda connection: connection.fetch("SELECT * FROM not_there"))
    assert await pooled.read(_limits) == ("5s", "12s", "read committed")


async def test_a_statement_over_an_engine_stands_alone(engine: AsyncEngine) -> None:
    """Whatever level SQLAlchemy gives its own transactions."""
    over = EngineDatabase(engine)
    for doing in (over.read, over.write):
        assert await doing(_in_transaction) is False
        assert (await doing(_limits))[2] == "read committed"
    assert over.stands_alone


@pytest.mark.parametrize(
    "options",
    [
        {"server_settings": {"default_transaction_isolation": "serializable"}},
        {"server_settings": {"default_transaction_read_only": "on"}},
        {"statement_cache_size": 0},
        None,
    ],
    ids=lambda options: str(options and [*options.values()]),
)
async def test_a_statement_over_an_engine_with_other_sessions_has_a_transaction(
    database: str, options: dict[str, Any] | None
) -> None:
    """None: it keeps no connections."""
    more: dict[str, Any] = {"poolclass": NullPool} if options is None else {"connect_args": options}
    engine = create_async_engine(database.replace("://", "+asyncpg://"), **more)
    try:
        over = EngineDatabase(engine)
        for doing in (over.read, over.write):
            assert await doing(_in_transaction) is True
            assert await doing(_limits) == ("5s", "0", "read committed")
        assert not over.stands_alone
    finally:
        await engine.dispose()


async def test_a_statement_that_fails_over_an_engine_leaves_its_connection_usable(engine: AsyncEngine) -> None:
    over = EngineDatabase(engine)
    before = await over.read(lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
    for doing in (over.read, over.write):
        with pytest.raises(asyncpg.UndefinedTableError):
            await doing(lambda connection: connection.fetch("SELECT * FROM not_there"))
    assert await over.read(lambda connection: connection.fetchval("SELECT pg_backend_pid()")) == before


async def _in_transaction(connection: Connection) -> bool:
    return connection.is_in_transaction()


async def _limits(connection: Connection) -> tuple[str, ...]:
    names = ("lock_timeout", "statement_timeout", "transaction_isolation")
    row = await connection.fetchrow("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
    assert row is not None
    return tuple(row)


async def test_a_read_on_a_session_that_the_server_has_ended_is_done_on_another(pooled: Database) -> None:
    """Nothing was lost by it: a read may be repeated."""
    await _fill(pooled)
    ended = await pooled.read(_end_the_others)
    assert ended == 2
    async with pooled.transaction() as connection:
        own: int = await connection.fetchval("SELECT pg_backend_pid()")
    calls: list[int] = []

    async def reading(connection: Connection) -> int:
        calls.append(len(calls))
        if len(calls) == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return int(await connection.fetchval("SELECT pg_backend_pid()"))

    assert await pooled.read(reading) != own
    assert len(calls) == 2


async def _end_the_others(connection: Connection) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    )


@pytest.fixture(params=["pool", "engine"])
async def silent(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Database, TcpProxy]]:
    """A database behind a network that can fall silent; limits of a second."""
    monkeypatch.setattr(connecting, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(engine_module, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(database_module, "END_SECONDS", 0.5)
    monkeypatch.setattr(engine_module, "END_SECONDS", 0.5)
    parts = urlsplit(database)
    async with TcpProxy(parts.port or 0) as proxy:
        url = database.replace(f":{parts.port}", f":{proxy.port}")
        engine = create_async_engine(url.replace("://", "+asyncpg://"))
        made = Database(url) if request.param == "pool" else EngineDatabase(engine)
        yield made, proxy
        await made.stop()
        await engine_module.dispose(engine)


HANG_SECONDS = 15.0


def _let_statements_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connecting, engine_module):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 40.0)


async def _fill(database: Database) -> None:
    """Several connections in the pool."""
    together = asyncio.Barrier(3)

    async def one() -> None:
        async with database.transaction() as connection:
            await connection.fetchval("SELECT 1")
            await together.wait()

    await asyncio.gather(*(one() for _ in range(3)))


async def test_connections_that_fall_silent_are_given_up_and_replaced(silent: tuple[Database, TcpProxy]) -> None:
    """All that lie in the pool, by the first that meets it: not one after the other."""
    database, proxy = silent
    await _fill(database)
    assert proxy.silence_present() == 3
    async with asyncio.timeout(30):
        for _ in range(3):
            async with database.transaction() as connection:
                assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("statements", [1, 0], ids=["statement", "commit"])
async def test_a_transaction_that_falls_silent_is_over(silent: tuple[Database, TcpProxy], statements: int) -> None:
    """Whichever error says it; that it ends is what counts. Of a commit the outcome is unknown."""
    database, proxy = silent

    async def falls_silent() -> None:
        async with database.transaction() as connection:
            await connection.fetchval("SELECT 1")
            proxy.silence_present()
            for _ in range(statements):
                await connection.fetchval("SELECT 1")

    async with asyncio.timeout(30):
        with pytest.raises(
            (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError, SagabusError)
        ):
            await falls_silent()
        async with database.transaction() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def _transacted(database: Database) -> int:
    async with database.transaction() as connection:
        return int(await connection.fetchval("SELECT 1"))


async def _read(database: Database) -> int:
    return await database.read(lambda connection: connection.fetchval("SELECT 1"))


@pytest.mark.parametrize("way", [_transacted, _read])
async def test_a_connection_that_fell_silent_in_the_pool_is_not_waited_for_as_for_a_statement(
    silent: tuple[Database, TcpProxy], monkeypatch: pytest.MonkeyPatch, way: Callable[[Database], Awaitable[int]]
) -> None:
    """A BEGIN waits for nothing that takes long; what one statement reads is read on another connection as soon."""
    monkeypatch.setattr(connecting, "BEGIN_SECONDS", 0.3)
    database, proxy = silent
    _let_statements_take_for_ever(monkeypatch)
    await _fill(database)
    assert proxy.silence_present() == 3
    async with asyncio.timeout(HANG_SECONDS):
        assert await way(database) == 1


async def test_a_server_that_is_gone_is_not_waited_for_as_for_a_slow_statement(
    silent: tuple[Database, TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host takes connections and answers none: so it is with a primary whose network is cut."""
    monkeypatch.setattr(silence, "ASK_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 0.3)
    database, proxy = silent
    _let_statements_take_for_ever(monkeypatch)
    await _fill(database)

    async def waits() -> None:
        async with database.transaction() as connection:
            proxy.go_silent()
            await connection.fetchval("SELECT 1")

    async with asyncio.timeout(HANG_SECONDS):
        with pytest.raises(asyncpg.PostgresConnectionError):
            await waits()
        proxy.speak()
        for _ in range(3):
            async with database.transaction() as connection:
                assert await connection.fetchval("SELECT 1") == 1


async def test_a_server_that_is_slow_is_waited_for(
    silent: tuple[Database, TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers other connections: no statement is too long for that."""
    asked: list[bool] = []
    answers = silence._answers

    def asking(address: tuple[str, int]) -> bool:
        asked.append(answers(address))
        return asked[-1]

    monkeypatch.setattr(silence, "_answers", asking)
    monkeypatch.setattr(silence, "ASK_AFTER_SECONDS", 0.1)
    database, _ = silent
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_sleep(0.6)")
        assert await connection.fetchval("SELECT 1") == 1
    assert len(asked) > 1
    assert all(asked)


async def test_a_server_that_is_slow_for_one_transaction_ends_no_other(
    pooled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "END_SECONDS", 0.1)
    async with pooled.transaction() as connection:
        pool = pooled._pool
        assert pool is not None
        assert pooled._lost(pool, connecting.Unanswered("PostgreSQL has not answered a BEGIN"))
        await connection.execute("SELECT pg_sleep(0.5)")
        await connection.execute("INSERT INTO kept VALUES (1)")
    assert await _kept(pooled) == [1]


async def test_a_host_that_fell_silent_is_tried_last_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each new connection of a pool would wait for it first."""
    tried: list[int | None] = []
    seconds: list[float] = []

    async def connect(host: str, *, timeout: float, **_: object) -> object:
        port = urlsplit(host).port
        tried.append(port)
        seconds.append(timeout)
        if port == 1:
            raise TimeoutError
        return connecting

    monkeypatch.setattr(asyncpg, "connect", connect)
    monkeypatch.setattr(connecting, "_silent_hosts", {})
    for _ in range(2):
        await connecting.connect("postgresql://u@127.0.0.1:1,127.0.0.1:2/d")
    assert tried == [1, 2, 2]
    assert seconds[-1] > connecting.HOST_SECONDS, "the one that is likely to answer has more time"
    monkeypatch.setattr(connecting, "TRIED_LAST_SECONDS", 0.0)
    await connecting.connect("postgresql://u@127.0.0.1:1,127.0.0.1:2/d")
    assert tried == [1, 2, 2, 1, 2]


async def test_what_is_not_to_be_trusted_any_more_is_not_taken_leave_of(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A farewell to a server that has fallen silent costs two seconds, for each connection."""
    taken_leave_of: list[object] = []
    close = asyncpg.Connection.close

    async def closing(self: asyncpg.Connection[asyncpg.Record], **options: float | None) -> None:
        if not self.is_closed():
            taken_leave_of.append(self)
        await close(self, **options)

    engine = engine_module.make_engine(database, connections=3)
    over = EngineDatabase(engine)
    await _fill(over)
    engine_module.distrust(engine)
    monkeypatch.setattr(asyncpg.Connection, "close", closing)
    await _fill(over)
    assert taken_leave_of == []
    await engine.dispose()


@pytest.mark.parametrize("kind", ["pool", "engine"])
async def test_sessions_that_have_become_read_only_are_replaced(kind: str, database: str) -> None:
    """As in a failover: the sessions that there are go on, and refuse every write; new ones take them."""
    engine = create_async_engine(database.replace("://", "+asyncpg://"))
    made = Database(database) if kind == "pool" else EngineDatabase(engine)
    try:
        async with made.transaction() as connection:
            await connection.execute("CREATE TABLE kept (n int)")
        read_only: set[int] = set()
        together = asyncio.Barrier(3)

        async def demoted() -> None:
            async with made.transaction() as connection:
                await connection.execute("SET default_transaction_read_only = on")
                read_only.add(await connection.fetchval("SELECT pg_backend_pid()"))
                await together.wait()

        await asyncio.gather(*(demoted() for _ in range(3)))
        assert len(read_only) == 3
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with made.transaction() as connection:
                await connection.execute("INSERT INTO kept VALUES (1)")
        for number in range(3):
            async with made.transaction() as connection:
                await connection.execute("INSERT INTO kept VALUES ($1)", number)
        assert await _kept(made) == [0, 1, 2]
    finally:
        await made.stop()
        await engine.dispose()


@pytest.mark.parametrize("kind", ["pool", "engine"])
async def test_a_server_that_takes_no_writes_is_not_ours_until_it_does(
    kind: str, database: str, postgres: PostgresServer
) -> None:
    """As a standby, which may stand in front of its primary in the list of hosts."""
    name = urlsplit(database).path.strip("/")
    engine = engine_module.make_engine(database, connections=2)
    made = Database(database) if kind == "pool" else EngineDatabase(engine)
    postgres.psql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with pytest.raises(DatabaseUnreachable):
            async with made.transaction():
                raise AssertionError
        postgres.psql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        async with made.transaction() as connection:
            await connection.execute("CREATE TABLE kept (n int)")
    finally:
        await made.stop()
        await engine.dispose()


@pytest.mark.parametrize(
    ("error", "unusable"),
    [
        (asyncpg.AdminShutdownError("57P01"), True), (asyncpg.CrashShutdownError("57P02"), True),
        (asyncpg.CannotConnectNowError("57P03"), True), (asyncpg.ConnectionDoesNotExistError("08003"), True),
        (asyncpg.ReadOnlySQLTransactionError("25006"), True), (asyncpg.InterfaceError("pool is closed"), True),
        (asyncpg.QueryCanceledError("57014"), False), (asyncpg.UniqueViolationError("23505"), False),
        (asyncpg.DeadlockDetectedError("40P01"), False), (asyncpg.InterfaceError("expects 1 argument"), False),
        (TimeoutError("of the caller's own"), False), (OSError("of the caller's own"), False),
    ],
    ids=lambda value: f"{value!r}",
)  # fmt: skip
def test_after_which_errors_a_connection_is_of_no_use(error: Exception, unusable: bool) -> None:
    """A server that shuts down, or is a standby now, says so to one session after the other."""
    assert connecting.is_unusable(error) is unusable


async def test_of_several_hosts_the_one_that_takes_writes_is_used(database: str) -> None:
    """The first is away, the second takes connections and never answers: each has its own time."""
    parts = urlsplit(database)
    async with TcpProxy(parts.port or 0) as proxy:
        proxy.go_silent()
        listed = f"127.0.0.1:{free_port()},127.0.0.1:{proxy.port},127.0.0.1:{parts.port}"
        made = Database(database.replace(f"127.0.0.1:{parts.port}", listed))
        engine = engine_module.make_engine(database.replace(f"127.0.0.1:{parts.port}", listed), connections=2)
        try:
            for one in (made, EngineDatabase(engine)):
                async with asyncio.timeout(60), one.transaction() as connection:
                    assert await connection.fetchval("SELECT 1") == 1
        finally:
            await made.stop()
            await engine.dispose()


async def test_a_pooler_that_takes_no_settings_gets_them_with_each_transaction(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """pgbouncer's words: it knows no session of a client's, so it refuses what would be set for one."""
    caplog.set_level(logging.INFO)
    parts = urlsplit(database)
    async with Pooler(parts.port or 0) as pooler:
        made = Database(database.replace(f":{parts.port}", f":{pooler.port}"))
        try:
            for _ in range(2):
                async with made.transaction() as connection:
                    assert await connection.fetchval("SHOW enable_seqscan") == "off"
                    assert await connection.fetchval("SHOW lock_timeout") == "5s"
                    assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") <= 1
        finally:
            await made.stop()
    assert [record.getMessage() for record in caplog.records if "pooler" in record.getMessage()] != []


class Pooler(TcpProxy):
    """Refuses a startup packet with settings, as pgbouncer does unless it is told to ignore them."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(head) - 4)
            if body[:4] != (80877103).to_bytes(4):  # SSLRequest
                break
            writer.write(b"N")
        if b"enable_seqscan" in body:
            fields = b"SFATAL\0C08P01\0Munsupported startup parameter: enable_seqscan\0\0"
            writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
            await writer.drain()
            writer.close()
            return
        ahead = asyncio.StreamReader()
        ahead.feed_data(head + body)
        asyncio.current_task()

        async def more() -> None:
            while data := await reader.read(65_536):
                ahead.feed_data(data)
            ahead.feed_eof()

        task = asyncio.create_task(more())
        try:
            await super()._accept(ahead, writer)
        finally:
            task.cancel()


async def test_a_host_that_is_slow_is_tried_again_after_the_others_and_with_the_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first drops packets or is slow, the second is a standby: neither may use up the other's time."""
    tried: list[tuple[int, float]] = []
    connection = object()

    async def connect(host: str, *, timeout: float, **_: object) -> object:
        port = urlsplit(host).port
        assert port is not None
        tried.append((port, timeout))
        if port == 2:
            raise asyncpg.InternalClientError("none of the hosts takes writes")
        if timeout < connecting.CONNECT_SECONDS:
            raise TimeoutError
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect)
    assert await connecting.connect("postgresql://u@127.0.0.1:1,127.0.0.1:2/d") is connection
    assert tried == [(1, connecting.HOST_SECONDS), (2, connecting.CONNECT_SECONDS), (1, connecting.CONNECT_SECONDS)]


async def test_what_broke_a_transaction_is_told_though_its_pool_is_gone(pooled: Database) -> None:
    """The pool of a connection is replaced when another one of it has met a failover."""

    async def breaks() -> None:
        async with pooled.transaction():
            pool = pooled._pool
            assert pool is not None
            pool.terminate()
            await pool.close()
            raise Broken

    with pytest.raises(Broken):
        await breaks()


async def test_an_answer_to_a_commit_is_heard_by_a_loop_that_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a turn of one shard that takes seconds to compute fails all others that wait for their commits."""
    monkeypatch.setattr(connecting, "COMMIT_SECONDS", 0.05)
    loop = asyncio.get_running_loop()
    ours, servers = socket.socketpair()
    ours.setblocking(False)
    heard = []

    def stand_still() -> None:
        servers.send(b"COMMIT")
        time.sleep(0.1)

    async def commit() -> None:
        loop.call_soon(stand_still)
        heard.append(await loop.sock_recv(ours, 100))

    with ours, servers:
        await connecting.committed(commit())
        assert heard == [b"COMMIT"]
        with pytest.raises(connecting.Unanswered):
            await connecting.committed(loop.create_future())
