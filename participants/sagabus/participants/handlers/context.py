"""What a handler is given besides its input."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypeVar

from sagabus.contracts import codec
from sagabus.contracts.activity import Activity
from sagabus.contracts.commands import CommandHead
from sagabus.contracts.envelope import moment
from sagabus.contracts.errors import DeclarationError, SagabusError
from sagabus.contracts.event_type import Event
from sagabus.contracts.retry import as_microseconds
from sagabus.participants.handlers.outcome import PublishedEvent
from sagabus.participants.handlers.plain_connection import PlainConnection

R = TypeVar("R", default=None)


class HandlerEnded(SagabusError):
    """A context was used after its handler had returned."""


class NotOurs(SagabusError):
    """The command is somebody else's by now: its shard has moved on, or its step was settled. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What ties a transaction of an external handler's own to its command.

    begin: a new transaction. statement: gives a row only while the command is still ours.
    """

    begin: Callable[[], AbstractAsyncContextManager[AsyncSession]]
    statement: str
    parameters: Mapping[str, object]


class Scope:
    """The kit's side of a context: what its handler has done with it. Of the class, while it has done nothing.

    open: a session in the shared transaction. connect: the connection of that transaction. Both until this ends; the
    transaction is asked for with the first statement.
    """

    session: AsyncSession | None = None
    connection: PlainConnection | None = None
    touched: bool = False
    """Whether the handler may have written something."""
    ended: bool = False
    _published: list[PublishedEvent] | None = None

    def __init__(
        self,
        open: Callable[[Scope], AsyncSession] | None = None,
        connect: Callable[[Scope], PlainConnection] | None = None,
    ) -> None:
        self.open = open
        self.connect = connect

    def end(self) -> tuple[PublishedEvent, ...]:
        """Nothing is accepted from here on. The events so far."""
        self.ended = True
        return () if self._published is None else tuple(self._published)

    def publish(self, event: PublishedEvent) -> None:
        if self._published is None:
            self._published = []
        self._published.append(event)


class _Context(Generic[R]):
    """What both kinds of handlers get."""

    saga_id: str
    step: int
    attempt: int
    """From 1; raised by each retry."""
    idempotency_key: str
    """The same on every attempt of this step: hand it to any API that takes one."""
    resources: R
    """What the participant's lifespan yielded."""

    def __init__(self, head: CommandHead, activity: Activity[..., Any, Any], resources: R, scope: Scope) -> None:
        self.saga_id = head.saga_id
        self.step = head.step
        self.attempt = head.attempt
        self.idempotency_key = head.id
        self.resources = resources
        self._head = head
        self._activity = activity
        self._scope = scope

    @cached_property
    def deadline(self) -> datetime | None:
        """When the saga gives this step up: an answer after it comes too late. None if it waits without end.

        By the timeout given at the call, else the contract's. A command of another implementation that does not say
        (`ce_timeout`) counts by the contract's.
        """
        timeout = self._head.timeout
        if timeout is None and self._activity.timeout is not None:
            timeout = as_microseconds(self._activity.timeout)
        return None if timeout is None else moment(self._head.issued + timeout)

    @cached_property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger named after the activity, whose records bear saga_id, run, step and attempt."""
        extra = {"saga_id": self.saga_id, "run": self._head.run, "step": self.step, "attempt": self.attempt}
        return logging.LoggerAdapter(logging.getLogger(f"sagabus.activity.{self._activity.name}"), extra)

    def publish(self, event: Event[BaseModel], /, *, key: str | None = None) -> None:
        """Publish an event, if and when the command's completion is committed; before its reply, in call order.

        key: the record's, where neither the event's declared field nor the saga id will do. The event is encoded now.
        Raises DeclarationError for an event without a topic, MessageInvalid for one of more than 900 KiB or one that
        its model could not read back, ValueError for one that cannot be written as JSON.
        """
        if self._scope.ended:
            raise HandlerEnded(f"{self._activity.name}: publish() after the handler has returned")
        if event.type.topic is None:
            raise DeclarationError(f"event {event.type.name} has no topic: declare it with Service.event() to publish")
        body = codec.encode_as(event.type.model, event.data, what=f"event {event.type.name}")
        self._scope.publish(PublishedEvent(event, key, body))


class ActivityContext(_Context[R]):
    """Of a transactional handler: what is done with `session` commits with the inbox row and the outbox, or not at all.

    So does what is done with `connection`, which is the same transaction. The handler may run more than once before
    that commit: an effect outside of it needs `transaction=False`. The transaction is shared with the other commands of
    its batch, so `SET LOCAL` and `now()` are as well.
    """

    @property
    def session(self) -> AsyncSession:
        """Its transaction is the kit's: `commit`, `rollback` and `close` raise; `begin_nested` makes a savepoint."""
        scope = self._scope
        if scope.session is None:
            if scope.ended or scope.open is None:
                raise HandlerEnded(f"{self._activity.name}: ctx.session after the handler has returned")
            scope.session = scope.open(scope)
        return scope.session

    @property
    def connection(self) -> PlainConnection:
        """The same transaction for plain SQL, at a tenth of the cost: `await ctx.connection.execute("UPDATE …", …)`."""
        scope = self._scope
        if scope.connection is None:
            if scope.ended or scope.connect is None:
                raise HandlerEnded(f"{self._activity.name}: ctx.connection after the handler has returned")
            scope.connection = scope.connect(scope)
        return scope.connection


class ExternalContext(_Context[R]):
    """Of a handler that calls something outside: no transaction is open while it runs, and it may run twice with the
    same idempotency_key after a crash."""

    def __init__(
        self, head: CommandHead, activity: Activity[..., Any, Any], resources: R, scope: Scope, guard: Guard
    ) -> None:
        super().__init__(head, activity, resources, scope)
        self._guard = guard

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A transaction for what the handler wants to store, committed on leaving the block.

        It is not that of the reply: after a crash between the two, the handler runs again. Raises NotOurs.
        """
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        async with self._guard.begin() as session:
            ours = await session.scalar(text(self._guard.statement), self._guard.parameters)
            if ours is None:
                raise NotOurs(f"{self._activity.name} of saga {self.saga_id}: this command was taken from this process")
            yield session
