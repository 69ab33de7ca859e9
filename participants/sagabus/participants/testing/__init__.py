"""Carry out a command without a broker: the real inbox, handler and outbox, on a database of the test's."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from sagabus.contracts import ActivityFailed, Command, Compensation, DeclarationError, Event, codec
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Headers, Message, source_of
from sagabus.contracts.headers import HeaderReader
from sagabus.contracts.names import CommandKind, RunId, SagaId, commands_topic, replies_topic, service_schema
from sagabus.contracts.replies import ReplyKind, read_failure
from sagabus.messaging.background import cancelled
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing.outbox import unpublished
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.participants import received
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.outcome import HandlerOutcome
from sagabus.participants.handlers.refusal import Refused, TryAgain
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables
from sagabus.participants.participant import Participant
from sagabus.participants.testing.database import temporary_database

O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

NAMESPACE: Final = "carried"


def carried(
    participant: Participant[Any], /, *, database: AsyncEngine | None = None
) -> AbstractAsyncContextManager[Carried]:
    """A participant that takes commands from a test: `async with carried(service) as inventory: …`.

    Its lifespan is entered, its `tables=` are made where they are missing. database: of the test's; without one, a
    fresh one on an embedded PostgreSQL, dropped on leaving. `Participant(database=)` is not touched.
    """
    return _carried(participant, database)


@asynccontextmanager
async def _carried(participant: Participant[Any], database: AsyncEngine | None) -> AsyncIterator[Carried]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(temporary_database()) if database is None else database
        async with engine.begin() as connection:
            await create_tables(connection, participant.service.name)
            if participant.tables is not None:
                await connection.run_sync(participant.tables.create_all)
        resources = None if participant.lifespan is None else await stack.enter_async_context(participant.lifespan())
        made = Carried(participant, _sessions(participant, engine), resources)
        await stack.enter_async_context(made.open())
        yield made


def _sessions(participant: Participant[Any], engine: AsyncEngine) -> Sessions:
    """Sessions as the participant's author has configured them, on the test's database."""
    maker = participant.database
    if not isinstance(maker, async_sessionmaker):
        return Sessions.of(engine)
    return Sessions(async_sessionmaker(class_=maker.class_, **{**maker.kw, "bind": engine}))


@dataclass(frozen=True, slots=True)
class _Record:
    """A command as if it had come from Kafka."""

    topic: str
    offset: int
    value: bytes | None
    headers: Headers
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None


class Carried:
    """Made by `carried`. published: the events of all commands that completed, in order."""

    def __init__(self, participant: Participant[Any], sessions: Sessions, resources: Any) -> None:
        self.published: Sequence[Event[BaseModel]] = []
        self._service = participant.service
        self._handlers = participant.handlers
        self._database = sessions.database
        self._schema = service_schema(participant.service.name)
        self._processor = CommandProcessor(
            service=participant.service.name, namespace=NAMESPACE, handlers=participant.handlers, sessions=sessions,
            resources=resources, watcher=self._heard,
        )  # fmt: skip
        # A shard that Kafka never gives out: a participant that runs on the same database does not meet this one.
        self._shard = -1 - secrets.randbelow(2**31)
        self._numbers = itertools.count()
        self._position = 0
        self._lock = asyncio.Lock()
        self._ended = asyncio.Event()
        self._raised: dict[str, BaseException] = {}
        self._waiting: dict[str, asyncio.Future[Message]] = {}

    async def handle(self, command: Command[O], /, *, command_id: str | None = None) -> O:
        """Carry it out, and give what the saga would get.

        Raises Refused or TryAgain as the handler did, and any other exception of the handler's too. The same command_id
        twice gives the stored reply; then a failure that was none of the two is an ActivityFailed.
        """
        activity = command.contract
        if activity.name not in self._handlers:
            raise DeclarationError(f"this participant has no handler for {activity.name}")
        id = command_id or str(uuid4())
        reply = self._waiting.setdefault(id, asyncio.get_running_loop().create_future())
        await self._turn(self._record(command, id))
        message = await asyncio.shield(reply)
        kind = HeaderReader(message.headers).required("ce_type").rpartition(".")[2]
        if kind == ReplyKind.COMPLETED:
            output: Any = activity.output
            return cast("O", None if output is None else codec.decode(output, message.value, what=activity.name))
        raise self._raised.pop(id, None) or _failure(activity.name, kind, message)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take a shard, and leave nothing of ours behind. `carried` does it."""
        topic = commands_topic(self._service.name)
        async with self._database.transaction() as connection:
            claim = Claim(cluster=NAMESPACE, generation=0, partitions=1)
            self._tenure: Tenure = await acquire(connection, self._schema, self._shard, claim, token=uuid4())
        self._tenure.locate({topic: Log(NAMESPACE, 0, 0)})
        self._tenure.when_requested = self._ended.set
        writer = asyncio.create_task(self._write_outcomes())
        try:
            yield
        finally:
            await cancelled([writer])
            await self._processor.externals.stop()
            await self._forget()
            await self._database.stop()

    def _record(self, command: Command[Any], id: str) -> _Record:
        number = next(self._numbers)
        addresses = Addresses(NAMESPACE, source_of(NAMESPACE), SagaId(f"saga-{number + 1}"), RunId("carried"), 0)
        kind = CommandKind.UNDO if isinstance(command.contract, Compensation) else CommandKind.DO
        now = round(time.time() * 1_000_000)
        message = command_message(
            addresses, service=self._service.name, activity=command.activity, step=1, kind=kind, attempt=1, issued=now,
            time=now, cause="test", body=codec.encode(command.input), partition=0,
        )  # fmt: skip
        headers = tuple((name, id.encode() if name == "ce_id" else value) for name, value in message.headers)
        record = _Record(message.topic, number, message.value, headers)
        received.command(record)  # raises MessageInvalid for a command_id that no coordinator could give
        return record

    async def _turn(self, *records: _Record) -> None:
        async with self._lock:
            await self._processor.turn({self._tenure: records})
            async with self._database.transaction() as connection:
                rows = await unpublished(connection, self._schema, self._shard, self._position)
        for self._position, message in rows:
            if message.topic == replies_topic(NAMESPACE, self._service.name):
                waiting = self._waiting.pop(HeaderReader(message.headers).required("ce_causationid"), None)
                if waiting is not None:
                    waiting.set_result(message)

    async def _write_outcomes(self) -> None:
        """Of external handlers."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            await self._turn()

    def _heard(self, command: received.ReceivedCommand, outcome: HandlerOutcome) -> None:
        self.published = [*self.published, *(published.event for published in outcome.events)]
        if outcome.error is not None:
            self._raised[command.head.id] = outcome.error

    async def _forget(self) -> None:
        async with self._database.transaction() as connection:
            for table in ("inbox", "outbox", "shard"):
                await connection.execute(f"DELETE FROM {qualified(self._schema, table)} WHERE shard = $1", self._shard)


def _failure(activity: str, kind: str, message: Message) -> Exception:
    """What a stored failure was, as far as that can be told."""
    stored = read_failure(message.value)
    if kind == ReplyKind.REFUSED:
        return Refused(stored.code, stored.message, **stored.details)
    if stored.again_after is not None:
        again = TryAgain(stored.message, code=stored.code, after=stored.again_after)
        again.details = stored.details
        return again
    attempts = HeaderReader(message.headers).number("ce_attempt")
    return ActivityFailed(
        activity=activity, step=1, attempts=attempts, code=stored.code, message=stored.message, details=stored.details
    )
