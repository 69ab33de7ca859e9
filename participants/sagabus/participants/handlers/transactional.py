"""Transactional handlers within one transaction that they share (P7).

The transaction begins before them, or with the first statement of one of them (`late_transaction`). Usually there are
no savepoints: nearly every handler succeeds. If one fails after it has touched its session, the whole
transaction is given up (`RetryWithSavepoints`) and carried out again with a savepoint around each handler, so that only
the failing ones are undone. A database that fails (`DatabaseFailed`) ends the transaction either way, and answers
nothing (P3).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from sagabus.contracts import codec
from sagabus.contracts.commands import CommandHead
from sagabus.contracts.errors import MessageInvalid, SagabusError
from sagabus.contracts.replies import HANDLER_ERROR, HANDLER_PANICKED, INPUT_INVALID, ReplyKind
from sagabus.contracts.words import words_of
from sagabus.messaging.postgres.statements import named
from sagabus.participants.handlers.context import ActivityContext, HandlerEnded, Scope
from sagabus.participants.handlers.database_errors import DatabaseFailed, is_database_failure, is_timeout
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.late_transaction import LateTransaction
from sagabus.participants.handlers.outcome import LONGEST_MESSAGE, HandlerOutcome, completed, failed, failure, told
from sagabus.participants.handlers.plain_connection import PlainConnection
from sagabus.participants.handlers.session import Sessions, Transaction, abandon, finish
from sagabus.participants.handlers.session_guard import SessionMisuse
from sagabus.participants.handlers.time_limit import HandlerTimedOut, TimeLimit
from sagabus.participants.received import Key, ReceivedCommand

logger = logging.getLogger(__name__)

_SAVEPOINT: Final = named("handler.savepoint", "SAVEPOINT sagabus_handler")

# Constraints that the handler's author has deferred to the commit are looked at now, while it is known whose they are;
# the inner savepoint puts the deferral back for the next handler.
_KEEP: Final = named(
    "handler.keep",
    "SAVEPOINT sagabus_deferred; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO SAVEPOINT sagabus_deferred; "
    "RELEASE SAVEPOINT sagabus_handler",
)
_UNDO: Final = named("handler.undo", "ROLLBACK TO SAVEPOINT sagabus_handler; RELEASE SAVEPOINT sagabus_handler")
_CHECK_CONSTRAINTS: Final = named("handler.check_constraints", "SET CONSTRAINTS ALL IMMEDIATE")


_HELD_UP: Final = (
    "three turns have failed around this handler, which takes over 6 s: it blocks the event loop, or holds the "
    "transaction for too long. Run calls that block in a thread (`await asyncio.to_thread(…)`); declare a handler that "
    "waits for others with transaction=False"
)


ENDS_PROCESS: Final = SystemExit, KeyboardInterrupt
"""With these a handler ends its process (P3)."""


HELD_SECONDS: Final = 6.0
"""A handler that blocks the loop for so long lets its process miss its heartbeats: its shard goes to another process,
which ends its session."""

MOST_HELD: Final = 3
"""Turns that fail around a handler that takes HELD_SECONDS; then it is the handler."""

Attempt = tuple[Key, int]
"""A command, and which attempt of it."""


class RetryWithSavepoints(SagabusError):
    """A handler failed in a transaction without savepoints: it is to be rolled back and carried out again with them."""


class OverTime(SagabusError):
    """A handler was over its time limit after it had touched its transaction, which is to be rolled back and carried
    out again. The handler's attempt has failed, and it does not run again."""


class TransactionEnded(SagabusError):
    """A handler has ended the transaction of its batch: past its session, where what was done before may be committed,
    or by a statement without an answer."""


class Handling:
    """Runs handlers one after the other, in the task that has made it. careful: with a savepoint around each."""

    def __init__(
        self,
        sessions: Sessions,
        late: LateTransaction,
        *,
        resources: Any,
        careful: bool,
        alone: int = 0,
        held: Mapping[Attempt, int] = MappingProxyType({}),
        over_time: dict[Attempt, HandlerOutcome] | None = None,
    ) -> None:
        self.current: ReceivedCommand | None = None
        """What a handler is at, for whoever wonders why it takes so long."""
        self.ended_by: tuple[ReceivedCommand, HandlerOutcome] | None = None
        """The command whose handler ends this process or the transaction, and what has become of its attempt."""
        self.held: list[Attempt] = []
        """Attempts that took HELD_SECONDS or longer."""
        self.touching: dict[str, bool] = {}
        """Activities whose handlers have run here, and whether one has asked for the transaction."""
        self.undone = 0
        """Handlers that were rolled back to their savepoints."""
        self._sessions = sessions
        self._late = late
        self._resources = resources
        self._careful = careful
        self._alone = alone
        self._failed_around = held
        self._over_time = {} if over_time is None else over_time
        self._touched = False
        self._task = asyncio.current_task()

    async def outcome(self, handler: Handler, command: ReceivedCommand) -> HandlerOutcome:
        """Raises RetryWithSavepoints, OverTime, DatabaseFailed or TransactionEnded: the transaction is to be rolled
        back then."""
        try:
            value = codec.decode(handler.activity.input, command.body, what=handler.activity.name)
        except MessageInvalid as fault:
            return failure(ReplyKind.REFUSED, INPUT_INVALID, fault.message)
        if self._failed_around and self._failed_around.get(_attempt_of(command), 0) >= MOST_HELD:
            return failure(ReplyKind.FAILED, HANDLER_ERROR, _HELD_UP, {"type": "TimeoutError"})
        if self._over_time and (over := self._over_time.get(_attempt_of(command))) is not None:
            return over
        self.current, since = command, time.monotonic()
        scope = Scope(self._open, self._connect)
        context = ActivityContext(command.head, handler.activity, self._resources, scope)
        try:
            return await self._run(handler, value, context, scope)
        except ENDS_PROCESS as error:
            self.ended_by = command, process_ends(error, command.head)
            raise
        except BaseException as error:
            if ends_task(error, self._task):
                raise
            if isinstance(error, HandlerTimedOut):
                return await self._timed_out(scope, command, error)
            return await self._failed(scope, command, error)
        finally:
            scope.end()
            self.current = None
            name = command.head.activity
            self.touching[name] = scope.touched or self.touching.get(name, False)
            if time.monotonic() - since >= HELD_SECONDS:
                self.held.append(_attempt_of(command))

    async def check_deferred(self) -> None:
        """After the last handler: find what would fail at the commit. Raises RetryWithSavepoints or DatabaseFailed."""
        transaction = self._late.transaction
        if transaction is None:
            return
        self._check_connection(transaction)
        if not self._touched or self._careful:
            return
        try:
            await transaction.driver.execute(_CHECK_CONSTRAINTS)
        except Exception as error:  # a deferred constraint, or an error that a handler has swallowed
            self._raise_database_failure(error)
            raise RetryWithSavepoints("the handlers of this transaction left it broken") from error

    async def _run(self, handler: Handler, value: Any, context: ActivityContext[Any], scope: Scope) -> HandlerOutcome:
        if self._careful and self._late.transaction is not None:
            await self._late.transaction.driver.execute(_SAVEPOINT)
        if handler.time_limit is None:
            output = await handler.function(value, context)
        else:
            async with TimeLimit(handler.time_limit, f"{handler.activity.name} of saga {context.saga_id}"):
                output = await handler.function(value, context)
        await self._late.settled()
        if scope.touched:  # else it cannot have ended the transaction, and `check_deferred` looks at the connection
            self._check_transaction()
        outcome = completed(handler.activity, output, scope.end())
        if scope.session is not None:
            await finish(scope.session)  # which may be what needs the transaction
            await self._late.settled()
        if self._careful and self._late.transaction is not None:
            await self._late.transaction.driver.execute(_KEEP)
        return outcome

    def _check_transaction(self) -> None:
        transaction = self._late.transaction
        assert transaction is not None
        self._check_connection(transaction)
        if not transaction.driver.is_in_transaction():
            raise SessionMisuse("the handler has ended its transaction")

    def _check_connection(self, transaction: Transaction) -> None:
        if transaction.driver.is_closed():
            raise DatabaseFailed("the connection was lost, and the handler has ignored that")

    async def _failed(self, scope: Scope, command: ReceivedCommand, error: BaseException) -> HandlerOutcome:
        await self._late.settled()
        if is_timeout(error) and not is_database_failure(
            error, alone=self._alone
        ):  # the driver has closed its connection
            raise self._ends(
                command, error, f"a statement of the handler of {command.head.activity} got no answer"
            ) from error
        self._raise_database_failure(error)
        touched = scope.touched
        if scope.session is not None:
            await abandon(scope.session)
        transaction = self._late.transaction
        if transaction is None:
            return failed(error)
        if not transaction.driver.is_in_transaction():
            raise self._ended(command) from error
        if self._careful:
            try:
                await transaction.driver.execute(_UNDO)
            except asyncpg.InvalidSavepointSpecificationError:
                raise self._ended(command) from error
            self.undone += touched
        elif touched:
            raise RetryWithSavepoints(f"the handler of {command.head.activity} failed") from error
        return failed(error)

    async def _timed_out(self, scope: Scope, command: ReceivedCommand, error: HandlerTimedOut) -> HandlerOutcome:
        """It may have been in the middle of a statement, and what becomes of a connection then is nobody's guess: a
        transaction that it has touched is not gone on with."""
        outcome = failed(error)
        if scope.touched or (self._careful and self._late.transaction is not None):
            self._over_time[_attempt_of(command)] = outcome
            raise OverTime(f"the handler of {command.head.activity} was over its time limit") from error
        if scope.session is not None:
            await abandon(scope.session)
        return outcome

    def _ended(self, command: ReceivedCommand) -> TransactionEnded:
        """Whoever carries the batch out again would end its transaction again: this attempt has failed."""
        name = command.head.activity
        words = (
            f"the handler of {name} ended the transaction of its batch, on a connection that it took from its session"
        )
        return self._ends(command, SessionMisuse(f"{words}. Leave COMMIT and ROLLBACK to the kit"), words)

    def _ends(self, command: ReceivedCommand, error: BaseException, words: str) -> TransactionEnded:
        """This attempt has failed, and is written as failed in another transaction."""
        self.ended_by = command, failed(error)
        return TransactionEnded(f"{words} (saga {command.head.saga_id}, command {command.head.id})")

    def _raise_database_failure(self, error: BaseException) -> None:
        transaction = self._late.transaction
        lost = transaction is not None and transaction.driver.is_closed()
        if lost or is_database_failure(error, alone=self._alone):
            raise DatabaseFailed(f"the database failed a handler: {told(error)}") from error

    def _open(self, scope: Scope) -> AsyncSession:
        return self._sessions.shared(lambda: self._begun(scope))

    def _connect(self, scope: Scope) -> PlainConnection:
        name = "" if self.current is None else self.current.head.activity

        def check() -> None:
            if scope.ended:
                raise HandlerEnded(f"{name}: ctx.connection after the handler has returned")

        return PlainConnection(lambda: self._begun(scope), check=check)

    async def _begun(self, scope: Scope) -> Transaction:
        """Before a handler's first statement."""
        scope.touched = self._touched = True
        return await self._late.asked_for(_SAVEPOINT if self._careful else "")


def _attempt_of(command: ReceivedCommand) -> Attempt:
    return command.key, command.head.attempt


def process_ends(error: BaseException, head: CommandHead) -> HandlerOutcome:
    """Say aloud whose handler ends this process; what its attempt is then: one that has panicked."""
    logger.critical(
        "the handler of %s raised %s: this process ends (saga %s, command %s, attempt %d)", head.activity,
        type(error).__name__, head.saga_id, head.id, head.attempt, exc_info=error,
        extra={"saga_id": head.saga_id, "step": head.step, "attempt": head.attempt},
    )  # fmt: skip
    kind = type(error).__name__
    words = f"the handler ended its process: {kind} {words_of(error, most=LONGEST_MESSAGE)}".rstrip()
    return replace(failure(ReplyKind.FAILED, HANDLER_PANICKED, words, {"type": kind}), error=error)


def ends_task(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Whether this is the end of the handler's task, and not a failure of the handler.

    A CancelledError or GeneratorExit of a handler's own making is a failure like any other. task: in which the handler
    was called.
    """
    if isinstance(error, GeneratorExit):  # a coroutine that is thrown away is closed outside of its task
        return asyncio.current_task() is not task
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
