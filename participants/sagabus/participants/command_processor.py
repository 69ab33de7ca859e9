"""The participant's side of its shards: batches of commands in, effects and replies out, each once.

One turn is one transaction: the fence, what the inbox knows of the batch, the handlers, their inbox rows, the outbox. A
reply is published from the outbox, hence from what is committed (P3), and the offset moves in the same transaction.

It begins before the handlers, or when the first of them asks for it. If none does, it is no longer than what is to be
written, mostly one statement behind the fence (docs/decisions/0022): what the inbox knows was read before, without it.

If a handler fails, the transaction is rolled back and the batch is carried out again with savepoints; the next batch
has them from the start, until one goes through without a failure. If the database fails a handler, each command runs
alone; if it fails that as well, the turn fails, the shard is taken again, and the commands come again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from sagabus.contracts.envelope import Record, moment, source_of
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import dead_letters_topic, service_schema
from sagabus.messaging.background import Supervisor
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.retention import Retention, RetentionSchedule
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn
from sagabus.participants.handlers.context import Guard
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.external import Externals
from sagabus.participants.handlers.failure_log import FailureLog
from sagabus.participants.handlers.jobs import Job
from sagabus.participants.handlers.late_transaction import LateTransaction
from sagabus.participants.handlers.outcome import HandlerOutcome, told
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.handlers.transactional import (
    ENDS_PROCESS,
    Attempt,
    Handling,
    OverTime,
    RetryWithSavepoints,
    TransactionEnded,
)
from sagabus.participants.inbox.batch import Batch
from sagabus.participants.inbox.retention import InboxRetention
from sagabus.participants.inbox.small_batch import SmallBatch
from sagabus.participants.inbox.started import StartedPage, StartedRows
from sagabus.participants.inbox.store import Inbox, InboxLook, InboxRows
from sagabus.participants.received import Key, Received, ReceivedCommand, received

TOGETHER: Final = 200
"""Commands in one transaction without savepoints. A row that each of them changes grows a chain of versions along which
the next one walks, and others wait for it all the while: a batch of a thousand held the stock's row for ten seconds."""

WITH_SAVEPOINTS: Final = 60
"""Commands in one transaction with savepoints. Of more than 64 subtransactions (PGPROC_MAX_CACHED_SUBXIDS), PostgreSQL
makes all other sessions look up the rest in pg_subtrans."""

SLOW: Final = 10.0
"""Seconds after which a handler that holds the transaction is named in the log."""

END_SECONDS: Final = 10.0
"""For writing that a handler has ended the process; then it ends without."""

FAILED_ALONE: Final = 1_000
"""Commands of which a process remembers that the database failed them."""

logger = logging.getLogger(__name__)

Watcher = Callable[[ReceivedCommand, HandlerOutcome], None]
"""Hears of each outcome of a handler, after its commit."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one transaction is about."""

    work: Mapping[Tenure, Sequence[Record]]
    commands: Sequence[Received]
    careful: bool
    alone: int = 0
    """Which run this is of a command without others, after the database has failed its handler; 0: it is none."""


class CommandProcessor:
    """A `Processor`. resources: what handlers get as `ctx.resources`. clock: seconds since 1970.

    retention: what is removed after turns; None: nothing is.
    """

    def __init__(
        self,
        *,
        service: str,
        namespace: str,
        handlers: Mapping[str, Handler],
        sessions: Sessions,
        resources: Any = None,
        clock: Callable[[], float] = time.time,
        watcher: Watcher | None = None,
        retention: Retention | None = None,
        counters: Counters | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.externals = Externals(
            resources=resources, guard=self._guard, supervisor=supervisor or Supervisor(), fail=self._fail_job
        )
        self.counts = (counters or Counters()).family(Family.RECORDS)
        self._schema = service_schema(service)
        self._inbox = Inbox(self._schema)
        self._dead_letters = DeadLetters(topic=dead_letters_topic(namespace), by=service)
        self._source = source_of(namespace, service)
        self._handlers = handlers
        self._sessions = sessions
        self._resources = resources
        self._clock = clock
        self._watcher = watcher
        self._started = StartedRows(self._inbox, handlers, self.externals)
        self._failure_log = FailureLog()
        self._failing = False
        self._touching: dict[str, bool] = {}
        """Activity to whether its handler has asked for its transaction when it last ran."""
        self._held: dict[Attempt, int] = {}
        """To how many turns have failed around it while its handler took HELD_SECONDS."""
        self._over_time: dict[Attempt, HandlerOutcome] = {}
        """Of this turn: what has become of attempts whose handlers were over their time limit."""
        self._failed_alone: dict[Attempt, int] = {}
        """Command and attempt to how often the database has failed it while it ran alone."""
        self._handling: Handling | None = None
        self._schedule: RetentionSchedule | None = None
        if retention is not None:
            self._schedule = InboxRetention(
                schema=self._schema, inbox=self._inbox, sessions=sessions, retention=retention, clock=clock
            ).schedule

    async def acquired(self, tenure: Tenure) -> None:
        """Run once more what an owner before us had begun with external handlers (P1): the first page of it."""
        async with self._sessions.transaction() as transaction:
            pages = await self._started.read(transaction.driver, [tenure])
            await self._started.tell_of_others(transaction.driver, tenure)
        self._started.resume(pages)

    async def turn(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        commands = [received(tenure, record) for tenure, records in work.items() for record in records]
        self._handling = None
        self._over_time.clear()
        watch = asyncio.get_running_loop().call_later(SLOW, self._slow, time.monotonic())
        try:
            if commands and (self._failing or len(commands) == 1):
                await self._carefully(work, commands)
            else:
                await self._together(work, commands)
        except (*ENDS_PROCESS, TransactionEnded):
            await self._end_attempt(commands)
            raise
        except BaseException:
            self._failed_around()
            raise
        finally:
            watch.cancel()
        if self._schedule is not None:
            await self._schedule.after(work.keys())

    def lost(self, tenure: Tenure) -> None:
        if self._schedule is not None:
            self._schedule.forget(tenure)
        self.externals.lost(tenure)

    def next_due(self) -> float | None:
        """Nothing here goes by a clock; a handler that has ended asks for a turn itself."""
        return None

    def _failed_around(self) -> None:
        """The turn has failed: count which handlers have taken so long that they may be why."""
        for attempt in () if self._handling is None else self._handling.held:
            self._held[attempt] = self._held.pop(attempt, 0) + 1
            if len(self._held) > FAILED_ALONE:
                del self._held[next(iter(self._held))]

    # How a batch is divided into transactions.

    async def _together(self, work: Mapping[Tenure, Sequence[Record]], commands: Sequence[Received]) -> None:
        for attempt in _portions(work, commands, TOGETHER, careful=False):
            failure: RetryWithSavepoints | DatabaseFailed | None = None
            try:
                await self._attempt(attempt)
            except (RetryWithSavepoints, DatabaseFailed) as error:
                failure = error  # left behind: what a handler raises below must not count it among its causes
            if isinstance(failure, DatabaseFailed):
                await self._alone(attempt.work, attempt.commands, failure)
            elif failure is not None:
                await self._carefully(attempt.work, attempt.commands)

    async def _carefully(self, work: Mapping[Tenure, Sequence[Record]], commands: Sequence[Received]) -> None:
        undone = 0
        for attempt in _portions(work, commands, WITH_SAVEPOINTS, careful=True):
            failure: DatabaseFailed | None = None
            try:
                undone += await self._attempt(attempt)
            except DatabaseFailed as error:
                failure = error
            if failure is not None:
                await self._alone(attempt.work, attempt.commands, failure)
        self._failing = undone > 0

    async def _alone(
        self, work: Mapping[Tenure, Sequence[Record]], commands: Sequence[Received], error: DatabaseFailed
    ) -> None:
        """Raises DatabaseFailed if that does not help either, or nobody may wait for it."""
        if not commands or _leaving(work):
            raise error
        logger.warning("%d commands are carried out again, one by one: %s", len(commands), error)
        for attempt in _portions(work, commands, 1, careful=True):
            await self._once_alone(attempt)

    async def _once_alone(self, attempt: _Attempt) -> None:
        """Counts how often the database fails this attempt of a command: in the end it is the handler's fault."""
        command = attempt.commands[0].command
        if isinstance(command, MessageInvalid):
            await self._attempt(attempt)
            return
        which = command.key, command.head.attempt
        run = self._failed_alone.pop(which, 0) + 1
        try:
            await self._attempt(replace(attempt, alone=run))
        except DatabaseFailed:
            self._failed_alone[which] = run
            if len(self._failed_alone) > FAILED_ALONE:  # of shards that others have meanwhile
                del self._failed_alone[next(iter(self._failed_alone))]
            raise

    # One transaction.

    async def _attempt(self, attempt: _Attempt) -> int:
        """Returns how many handlers had to be undone. It is carried out again for each handler that is over its time
        limit, without that handler."""
        while True:
            with suppress(OverTime):
                return await self._attempted(attempt)

    async def _attempted(self, attempt: _Attempt) -> int:
        turn = self._turn(attempt.work)
        jobs = self.externals.ended(attempt.work)
        look = InboxLook(self._inbox, attempt.work.keys(), _keys(attempt.commands, jobs))
        started: list[StartedPage] = []
        batch = None
        async with LateTransaction(self._sessions.transaction, look.hold) as late:
            if self._begins_at_once(attempt, turn, look):
                await late.begin()
            elif look.keys:
                await self._sessions.database.read(look.beside)
            if late.transaction is not None and turn.may_release:
                await turn.release(late.transaction.driver)
            if look.keys or attempt.commands:
                batch = await self._carried_out(late, attempt, turn, look, jobs)
            if late.transaction is None:
                await self._write_by_itself(turn, look.rows)
            else:
                started = await self._write(late.transaction.driver, turn, look.rows)
        turn.committed()
        undone = 0 if batch is None else self._after(batch)
        self._started.resume(started)
        self.externals.ask_for_more(attempt.work)
        return undone

    def _begins_at_once(self, attempt: _Attempt, turn: Turn, look: InboxLook) -> bool:
        """Whether it is known to need a transaction. A handler's last run tells whether it will ask for one: a wrong
        guess costs a round trip. Where a look and a statement would have one each, there is one for both."""
        if look.keys and not self._sessions.database.stands_alone:
            return True
        asks = self._touching
        heads = (one.command.head for one in attempt.commands if isinstance(one.command, ReceivedCommand))
        return turn.may_release or self._started.wants(turn.tenures) or any(asks.get(one.activity) for one in heads)

    async def _carried_out(
        self, late: LateTransaction, attempt: _Attempt, turn: Turn, look: InboxLook, jobs: Sequence[Job]
    ) -> Batch:
        handling = Handling(
            self._sessions, late, resources=self._resources, careful=attempt.careful, alone=attempt.alone,
            held=self._held, over_time=self._over_time,
        )  # fmt: skip
        self._handling = handling
        batch = self._batch(turn, look.rows, handling)
        try:
            batch.end(jobs)
            for one in attempt.commands:
                await batch.take_in(one)
        finally:
            self._touching |= handling.touching
        await handling.check_deferred()
        return batch

    async def _write(self, driver: Connection, turn: Turn, rows: InboxRows) -> list[StartedPage]:
        """In the transaction of the handlers, which holds the shard rows."""
        at = moment(turn.at)
        if (small := SmallBatch.of(turn, rows, at)) is not None:
            await small.write(driver, schema=self._schema)
        else:
            await self._inbox.store(driver, rows, at)
            await turn.write(driver)
        return await self._started.read(driver, turn.tenures)

    async def _write_by_itself(self, turn: Turn, rows: InboxRows) -> None:
        """What no handler has asked a transaction for: by one statement if it is little."""
        at = moment(turn.at)
        if (small := SmallBatch.of(turn, rows, at)) is not None:
            await self._sessions.database.write(partial(small.write, schema=self._schema))
            return
        sent, new = turn.encoded(), rows.encoded(at)
        async with self._sessions.transaction() as transaction:
            await turn.write(transaction.driver, sent)
            await self._inbox.store(transaction.driver, rows, at, new)

    def _after(self, batch: Batch) -> int:
        batch.committed()
        self.counts.update(batch.counts)
        if self._watcher is not None:
            for one, outcome in batch.outcomes:
                self._watcher(one, outcome)
        return batch.undone

    async def _end_attempt(self, commands: Sequence[Received]) -> None:
        """A handler that ends this process, or the transaction, has failed: else its command would do so each time.

        Written alone, with no record taken in: the whole batch comes again to the next owner, and this answers for it.
        """
        handling = self._handling
        if handling is None or handling.ended_by is None:
            return
        command, outcome = handling.ended_by
        tenure = next(
            one.tenure
            for one in commands
            if isinstance(one.command, ReceivedCommand) and one.command.key == command.key
        )
        await self._fail(tenure, command, outcome)

    async def _fail_job(self, job: Job, outcome: HandlerOutcome) -> None:
        await self._fail(job.tenure, job.command, outcome)

    async def _fail(self, tenure: Tenure, command: ReceivedCommand, outcome: HandlerOutcome) -> None:
        """In a transaction of its own. Raises nothing but a cancellation."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._write_failure(tenure, command, outcome)
        except Exception as error:  # TimeoutError, and whatever a database says
            logger.critical(
                "command %s will do so again: that it failed is not stored: %s", command.head.id, told(error)
            )

    async def _write_failure(self, tenure: Tenure, command: ReceivedCommand, outcome: HandlerOutcome) -> None:
        turn = self._turn({tenure: ()})
        look = InboxLook(self._inbox, [tenure], {command.key: tenure.shard})
        async with LateTransaction(self._sessions.transaction, look.hold) as late:
            driver = (await late.begin()).driver
            handling = Handling(self._sessions, late, resources=self._resources, careful=False)
            self._batch(turn, look.rows, handling).fail(tenure, command, outcome)
            await self._inbox.store(driver, look.rows, moment(turn.at))
            await turn.write(driver)
        turn.committed()

    def _turn(self, work: Mapping[Tenure, Sequence[Record]]) -> Turn:
        at = round(self._clock() * 1_000_000)
        return Turn(work, schema=self._schema, dead_letters=self._dead_letters, at=at)

    def _batch(self, turn: Turn, rows: InboxRows, handling: Handling) -> Batch:
        return Batch(
            turn, rows, handling, handlers=self._handlers, externals=self.externals, source=self._source,
            failure_log=self._failure_log,
        )  # fmt: skip

    # External handlers.

    def _guard(self, job: Job) -> Guard:
        source, id = job.command.key
        ours = {"shard": job.tenure.shard, "token": job.tenure.token, "source": source, "id": id}
        return Guard(self._sessions.own, self._inbox.guard, ours)

    def _slow(self, since: float) -> None:
        current = self._handling and self._handling.current
        if current:
            logger.warning(
                "the handler of %s has held the transaction of its batch for %.0f s (saga %s); declare one that waits "
                "for others with transaction=False", current.head.activity, time.monotonic() - since,
                current.head.saga_id,
            )  # fmt: skip


def _keys(commands: Sequence[Received], jobs: Sequence[Job]) -> dict[Key, int]:
    """Inbox key to shard."""
    keys = {job.command.key: job.tenure.shard for job in jobs}
    for one in commands:
        if not isinstance(one.command, MessageInvalid):
            keys[one.command.key] = one.tenure.shard
    return keys


def _portions(
    work: Mapping[Tenure, Sequence[Record]], commands: Sequence[Received], size: int, *, careful: bool
) -> Iterator[_Attempt]:
    """Transactions of so many commands, at least one. The first is about all tenures, so that each is in one.

    Once the group waits for this process, the rest is left to the next owners.
    """
    for start in range(0, max(1, len(commands)), size):
        if start and _leaving(work):
            return
        portion = commands[start : start + size]
        records: dict[Tenure, list[Record]] = {tenure: [] for tenure in work} if start == 0 else {}
        for one in portion:
            records.setdefault(one.tenure, []).append(one.record)
        yield _Attempt(records, portion, careful)


def _leaving(tenures: Iterable[Tenure]) -> bool:
    return any(tenure.leaving for tenure in tenures)
