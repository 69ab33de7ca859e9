"""The commands of one transaction, taken in one after the other: inbox rows, events and replies.

A batch is used once. If its transaction is rolled back it is thrown away, and nothing outside of it has changed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, assert_never

from sagabus.contracts.commands import CommandHead
from sagabus.contracts.envelope import microseconds
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import domain_event_message
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import NO_HANDLER, ReplyKind, reply_message
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.external import Externals
from sagabus.participants.handlers.failure_log import FailureLog
from sagabus.participants.handlers.jobs import Job
from sagabus.participants.handlers.outcome import HandlerOutcome, PublishedEvent, failure
from sagabus.participants.handlers.transactional import Handling
from sagabus.participants.inbox.decision import NEVER, STATES, Act, Answer, InboxRow, State, judge
from sagabus.participants.inbox.store import InboxRows
from sagabus.participants.received import Key, Received, ReceivedCommand

logger = logging.getLogger(__name__)

_microseconds: Final = lru_cache(maxsize=1_024)(microseconds)
"""Of the shards' `pruned_before`, asked with each command."""


class Batch:
    """source: `ce_source` of what leaves. externals: looked at, and changed by `committed` alone."""

    def __init__(
        self,
        turn: Turn,
        rows: InboxRows,
        handling: Handling,
        *,
        handlers: Mapping[str, Handler],
        externals: Externals,
        source: bytes,
        failure_log: FailureLog,
    ) -> None:
        self.outcomes: list[tuple[ReceivedCommand, HandlerOutcome]] = []
        """What handlers have come to in this transaction."""
        self.counts: Counter[str] = Counter()
        """What became of each record, by reason (`contracts.reasons`)."""
        self._turn = turn
        self._rows = rows
        self._handling = handling
        self._handlers = handlers
        self._externals = externals
        self._source = source
        self._failure_log = failure_log
        self._begun: dict[Key, Job] = {}
        self._waiting: set[Tenure] = set()
        """Tenures with a row `started` of ours that has no job yet."""
        self._raised: list[tuple[Job, int]] = []
        self._ended: list[Job] = []
        self._settles: list[tuple[Job, ReceivedCommand]] = []

    @property
    def undone(self) -> int:
        """Handlers that had to be rolled back."""
        return self._handling.undone

    def end(self, jobs: Iterable[Job]) -> None:
        """Write the outcomes of these jobs."""
        for job in jobs:
            row = self._rows.row(job.command.key)
            if row is not None and row.state is State.STARTED and job.outcome is not None:
                self._end(job, row._replace(attempt=max(row.attempt, job.attempt)), job.outcome)
            self._ended.append(job)

    def fail(self, tenure: Tenure, command: ReceivedCommand, outcome: HandlerOutcome) -> None:
        """Write this outcome of a handler that ran in a transaction before this one."""
        self._conclude(tenure, command, outcome, command.head.attempt)

    async def take_in(self, received: Received) -> None:
        """Raises RetryWithSavepoints or DatabaseFailed, after either of which the transaction is to be rolled back."""
        command = received.command
        if isinstance(command, MessageInvalid):
            self._turn.dead_letter(received.tenure, received.record, reason=command.reason, message=command.message)
            self.counts[command.reason] += 1
        else:
            self.counts[await self._judged(received, command)] += 1

    async def _judged(self, received: Received, command: ReceivedCommand) -> str:
        """What it is counted by."""
        tenure = received.tenure
        row = self._rows.row(command.key)
        pruned_before = None if tenure.pruned_before is None else _microseconds(tenure.pruned_before)
        decision = judge(command.head, command.digest, row, pruned_before=pruned_before)
        match decision:
            case Answer():
                self._reply(tenure, command.head, decision.outcome, decision.attempt)
                return decision.reason
            case Act.RUN:
                return await self._run(received, command)
            case Act.BURY:
                self._bury(command.key, command.head.attempt)
                self._reply(tenure, command.head, NEVER, command.head.attempt)
                return "buried"
            case Act.WAIT:
                assert row is not None
                return await self._wait(received, command, row)
            case _:
                assert_never(decision)

    def committed(self) -> None:
        """Begin what is to run outside, and let go of what has ended there."""
        for job in self._begun.values():
            self._externals.start(job)
        for tenure in self._waiting:
            self._externals.of(tenure).left_waiting()
        for job, attempt in self._raised:
            job.attempt = max(job.attempt, attempt)
        for job, settle in self._settles:
            job.settles[settle.head.id] = settle
        self._externals.forget(self._ended)
        for command, outcome in self.outcomes:
            if outcome.error is not None:
                self._failure_log.tell(self._handlers.get(command.head.activity), command.head, outcome)

    async def _run(self, received: Received, command: ReceivedCommand) -> str:
        head, tenure = command.head, received.tenure
        handler = self._handlers.get(head.activity)
        if handler is None:
            self._reply(tenure, head, _no_handler(head), head.attempt)
            return "no_handler"
        if handler.transaction:
            outcome = await self._handling.outcome(handler, command)
            self._conclude(tenure, command, outcome, head.attempt)
            return outcome.kind
        row = InboxRow(*command.key, head.activity, State.STARTED, head.attempt, command.digest)
        self._rows.put(row, body=command.body, headers=tuple(received.record.headers))
        if self._externals.of(tenure).admits(sum(job.tenure is tenure for job in self._begun.values())):
            self._begun[command.key] = Job(tenure, handler, command)
        else:
            self._waiting.add(tenure)
        return State.STARTED.value

    async def _wait(self, received: Received, command: ReceivedCommand, row: InboxRow) -> str:
        """P1. An external handler is at it, or is going to be, in this process or in one that has died."""
        head, tenure = command.head, received.tenure
        job = self._begun.get(command.key) or self._externals.find(tenure, command.key)
        if job is None and not self._waits(tenure, row):
            return await self._adopt(received, command)
        if head.kind is CommandKind.SETTLE:
            if job is not None:  # else its next copy meets the job, or the outcome
                self._settles.append((job, command))
        elif job is not None:  # the row may be locked by the handler's own transaction: no turn is to wait for that
            self._raised.append((job, head.attempt))
        elif head.attempt > row.attempt:  # the outcome that is awaited counts for this attempt too
            headers = tuple(received.record.headers)
            self._rows.put(row._replace(attempt=head.attempt), body=command.body, headers=headers)
        return "awaited"

    def _waits(self, tenure: Tenure, row: InboxRow) -> bool:
        """Whether a row `started` without a job is one that is going to be read when there is room."""
        handler = self._handlers.get(row.activity)
        external = handler is not None and not handler.transaction
        return external and (tenure in self._waiting or self._externals.of(tenure).unread)

    async def _adopt(self, received: Received, command: ReceivedCommand) -> str:
        """Nobody is at it: since it was begun, its handler has become a transactional one, or is gone."""
        if command.head.kind is not CommandKind.SETTLE:
            return await self._run(received, command)
        step = self._rows.kept(command.key)
        handler = None if step is None else self._handlers.get(step.head.activity)
        if step is None or handler is None or not handler.transaction:
            self._reply(received.tenure, command.head, _no_handler((step or command).head), command.head.attempt)
            return "no_handler"
        await self._run(received, step)
        return await self._judged(received, command)

    def _end(self, job: Job, row: InboxRow, outcome: HandlerOutcome) -> None:
        tenure, settles = job.tenure, [settle.head for settle in job.settles.values()]
        if settles and outcome.kind is not ReplyKind.COMPLETED:
            self.outcomes.append((job.command, outcome))
            self._bury(row.key, row.attempt)
            outcome = NEVER
        else:
            self._conclude(tenure, job.command, outcome, row.attempt)
        for head in settles:
            self._reply(tenure, head, outcome, head.attempt)

    def _conclude(self, tenure: Tenure, command: ReceivedCommand, outcome: HandlerOutcome, attempt: int) -> None:
        """The handler's outcome becomes the row; its events leave, then its reply (P3)."""
        head = command.head
        state = STATES[outcome.kind]
        self._rows.put(InboxRow(*command.key, head.activity, state, attempt, command.digest, outcome.body))
        if outcome.events:
            self._publish(tenure, head, outcome.events)
        self._reply(tenure, head, outcome, attempt)
        self.outcomes.append((command, outcome))

    def _publish(self, tenure: Tenure, head: CommandHead, events: Iterable[PublishedEvent]) -> None:
        for number, published in enumerate(events, 1):
            event = published.event
            message = domain_event_message(
                event, published.body, id=f"{head.id}:event:{number}", topic=event.type.topic or "",
                source=self._source, saga_id=head.saga_id, cause=head.id, time=self._turn.at, key=published.key,
                trace=head.trace,
            )  # fmt: skip
            self._turn.send(tenure, message)

    def _bury(self, key: Key, attempt: int) -> None:
        """P4. What is in this row from here on, no late copy of the step overturns."""
        row = self._rows.row(key)
        activity = "" if row is None else row.activity
        self._rows.put(InboxRow(*key, activity, State.TOMBSTONE, attempt))

    def _reply(self, tenure: Tenure, head: CommandHead, outcome: HandlerOutcome, attempt: int) -> None:
        message = reply_message(
            head, outcome.kind, outcome.body, attempt=attempt, source=self._source, time=self._turn.at
        )
        self._turn.send(tenure, message)


def _no_handler(head: CommandHead) -> HandlerOutcome:
    """Not stored: a deployment that has the handler carries the next attempt out."""
    logger.error(
        "no handler for %s (command %s): declare one with handles(), or look for who sends it", head.activity, head.id
    )
    return failure(ReplyKind.FAILED, NO_HANDLER, f"this participant has no handler for {head.activity}")
