"""A participant: the handlers of one service, and how they are run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, overload

from pydantic import BaseModel
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from typing_extensions import TypeVar

from sagabus.contracts.activity import Activity, Service
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.retry import Seconds
from sagabus.messaging.service.readiness import Readiness
from sagabus.participants.handlers.context import ActivityContext, ExternalContext
from sagabus.participants.handlers.declaration import Handler, belongs, checked
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables

I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
R = TypeVar("R", default=None)

Database = AsyncEngine | async_sessionmaker[AsyncSession] | str | None


class Participant(Generic[R]):
    """The handlers of one service.

    lifespan: makes what handlers find in `ctx.resources`; entered when the participant starts, left when it stops.
    database: an engine (asyncpg) or sessionmaker that you have, a URL, or nothing for SAGABUS_DATABASE. tables: your
    business tables, for those who make a database of their own: `sagabus dev`, `sagabus demo`, tests.
    """

    @overload
    def __init__(
        self: Participant[None], service: Service, /, *, database: Database = None, tables: MetaData | None = None
    ) -> None: ...
    @overload
    def __init__(
        self,
        service: Service,
        /,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[R]],
        database: Database = None,
        tables: MetaData | None = None,
    ) -> None: ...
    def __init__(
        self,
        service: Service,
        /,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        database: Database = None,
        tables: MetaData | None = None,
    ) -> None:
        if not isinstance(service, Service):
            raise DeclarationError(f"Participant({service!r}): give a Service, as the contracts declare it")
        if isinstance(database, AsyncEngine | async_sessionmaker):
            Sessions.of(database)  # raises DeclarationError now, not when it is first used
        self.service = service
        self.lifespan = lifespan
        self.database = database
        self.tables = tables
        self.handlers: dict[str, Handler] = {}
        self.readiness = Readiness()

    @overload
    def handles(
        self, activity: Activity[..., I, O], /, *, transaction: Literal[True] = True, time_limit: Seconds | None = None
    ) -> Callable[
        [Callable[[I, ActivityContext[R]], Awaitable[O]]], Callable[[I, ActivityContext[R]], Awaitable[O]]
    ]: ...
    @overload
    def handles(
        self, activity: Activity[..., I, O], /, *, transaction: Literal[False], time_limit: Seconds | None = None
    ) -> Callable[
        [Callable[[I, ExternalContext[R]], Awaitable[O]]], Callable[[I, ExternalContext[R]], Awaitable[O]]
    ]: ...
    def handles(self, activity: Any, /, *, transaction: bool = True, time_limit: Seconds | None = None) -> Any:
        """Declare the handler of an activity or compensation. It stays an ordinary function.

        transaction=True: it runs within the transaction of its inbox row, its reply and its events; what it does with
        `ctx.session` or `ctx.connection` takes effect once, though the handler itself may run more often. It should not
        wait for others.
        transaction=False: an external handler, for effects outside the database. It runs in a task of its own, with no
        transaction open.
        time_limit: seconds that the function may run, in each attempt. Then it is cancelled, what it did in its
        transaction is rolled back, and the attempt has failed with `sagabus.handler_timed_out`: the activity's retry
        policy decides what follows. Without one it may run for ever.
        Raises DeclarationError: not async, other types than the contract's, another service's activity, two handlers.
        """
        contract = belongs(self.service, activity)

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            if contract.name in self.handlers:
                first = self.handlers[contract.name].function
                name = getattr(first, "__qualname__", repr(first))
                raise DeclarationError(f"{contract.name} has a handler already, {name}; an activity has one")
            self.handlers[contract.name] = checked(contract, function, transaction=transaction, time_limit=time_limit)
            return function

        return declare

    async def create_tables(self, connection: AsyncConnection) -> None:
        """Make what is missing in the schema `sagabus_<service>`, within the connection's transaction. Repeatable.

        Business tables are their owner's, and not among them.
        """
        await create_tables(connection, self.service.name)

    def running(self, *, kafka: str | None = None) -> AbstractAsyncContextManager[None]:
        """Run inside a program of yours (FastAPI or FastStream lifespan): entering connects, leaving drains.

        While Kafka or PostgreSQL is unreachable it waits, and says so once in the log; `why_not_ready` says it too.

        kafka: bootstrap servers, in place of SAGABUS_KAFKA. Settings not given come from SAGABUS_*. Without topics or
        tables it refuses to start, with the command that makes them; on a host's embedded bus and database it makes
        them. Raises SettingsError, NotReady, KafkaRefused.
        """
        # Kafka's clients take half a second to import, and declaring and testing handlers needs none of them.
        from sagabus.participants.running import running

        return running(self, kafka=kafka)

    @property
    def why_not_ready(self) -> str:
        """Why it does not carry out commands now, in words, for a probe of yours; empty when it does."""
        return self.readiness.why_not

    def __repr__(self) -> str:
        return f"Participant({self.service.name!r})"
