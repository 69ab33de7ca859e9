"""External handlers (`transaction=False`): each in a task of its own, so many at a time, with no transaction open.

A job begins when its row `started` is committed, with the command in it, and ends when a turn has written its outcome
under the fence. Between the two, the process may die: the next owner of the shard finds the row, and runs the handler
once more with the same idempotency key. Nothing here writes to the inbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import chain, count, islice
from typing import Any, Final

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.replies import INPUT_INVALID, ReplyKind
from sagabus.messaging.background import Supervisor, cancelled
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants.handlers.context import ExternalContext, Guard, NotOurs, Scope
from sagabus.participants.handlers.database_errors import DatabaseFailed, is_database_failure
from sagabus.participants.handlers.jobs import Job, Jobs
from sagabus.participants.handlers.outcome import HandlerOutcome, completed, failed, failure, told
from sagabus.participants.handlers.time_limit import HandlerTimedOut, TimeLimit
from sagabus.participants.handlers.transactional import ENDS_PROCESS, ends_task, process_ends
from sagabus.participants.received import Key

AT_ONCE: Final = 100
"""Handlers that run at the same time in one process. Most of them wait; whom they call may want a smaller limit."""

ENDED_OF_A_TURN: Final = 200
"""Outcomes of external handlers that one transaction writes; the rest is written by the next one."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Until a handler whom the database failed runs again; the pause doubles."""

WRITTEN_SECONDS: Final = 10.0
"""A handler that ends the process waits for so long until a turn has written that its attempt has failed."""

logger = logging.getLogger(__name__)


class Externals:
    """The jobs of this process. One that has ended requests a turn of its tenure.

    guard: what ties a job's own transactions to it. supervisor: hears of a job that ends the process. fail: writes that
    such a job has failed where no turn does it any more; raises nothing.
    """

    def __init__(
        self, *, resources: Any, guard: Callable[[Job], Guard], supervisor: Supervisor,
        fail: Callable[[Job, HandlerOutcome], Awaitable[None]], at_once: int = AT_ONCE,
    ) -> None:  # fmt: skip
        self._supervisor = supervisor
        self._resources = resources
        self._guard = guard
        self._fail = fail
        self._slots = asyncio.Semaphore(at_once)
        self._jobs: dict[Tenure, Jobs] = {}
        self._tasks: dict[Job, asyncio.Task[None]] = {}

    def of(self, tenure: Tenure) -> Jobs:
        """Its jobs, from its beginning until it is lost."""
        if (jobs := self._jobs.get(tenure)) is None:
            jobs = self._jobs[tenure] = Jobs()
        return jobs

    def start(self, job: Job) -> None:
        """Its row is committed."""
        self.of(job.tenure).add(job)
        name = f"the handler of {job.command.head.activity}"
        task = self._tasks[job] = self._supervisor.spawn(self._work(job), name=name)
        task.add_done_callback(lambda _: self._tasks.pop(job, None))

    def find(self, tenure: Tenure, key: Key) -> Job | None:
        return jobs.find(key) if (jobs := self._jobs.get(tenure)) else None

    def ended(self, tenures: Iterable[Tenure]) -> list[Job]:
        """Jobs whose outcomes are to be written now, in the order of their ends; so many as one transaction writes."""
        known = [jobs for tenure in tenures if (jobs := self._jobs.get(tenure)) is not None]
        return list(islice(chain.from_iterable(jobs.ended for jobs in known), ENDED_OF_A_TURN))

    def ask_for_more(self, tenures: Iterable[Tenure]) -> None:
        """A turn has written outcomes: have another one for those tenures that have more of them."""
        for tenure in tenures:
            if (jobs := self._jobs.get(tenure)) is not None and next(jobs.ended, None) is not None:
                tenure.request_turn()

    def forget(self, ended: Iterable[Job]) -> None:
        """Their outcomes are committed."""
        for job in ended:
            if (jobs := self._jobs.get(job.tenure)) is not None:
                jobs.forget(job)
            if job.written is not None:
                job.written.set()

    def lost(self, tenure: Tenure) -> None:
        """Cancel its jobs: whoever takes the shard runs them again."""
        for job in self._jobs.pop(tenure, ()):
            if task := self._tasks.get(job):
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Wait for the jobs that run now, so many seconds at most."""
        if tasks := self._running():
            await asyncio.wait(tasks, timeout=seconds)

    async def stop(self) -> None:
        """Cancel what runs, and wait for it to have ended."""
        await cancelled(self._running())

    def _running(self) -> Collection[asyncio.Task[None]]:
        return list(self._tasks.values())

    async def _work(self, job: Job) -> None:
        try:
            async with self._slots:
                outcome = await self._outcome(job)
            self._end(job, outcome)
        except ENDS_PROCESS as error:
            await self._written(job, process_ends(error, job.command.head))
            raise
        except NotOurs as error:
            logger.warning("%s", error)
            self.forget([job])  # its tenure has ended, or is about to: whoever takes the shard does the rest

    def _end(self, job: Job, outcome: HandlerOutcome) -> None:
        if (jobs := self._jobs.get(job.tenure)) is not None:
            jobs.end(job, outcome)
        job.tenure.request_turn()

    async def _written(self, job: Job, outcome: HandlerOutcome) -> None:
        """Let this outcome be committed before the process ends: else its command would end the next process too."""
        if job.tenure not in self._jobs:  # it has been lost: the outcome is not ours to write
            return
        job.written = asyncio.Event()
        self._end(job, outcome)
        try:
            await asyncio.wait_for(job.written.wait(), WRITTEN_SECONDS)
        except (TimeoutError, asyncio.CancelledError):  # out of a task of the handler's own it has ended the loop too
            await self._fail(job, outcome)

    async def _outcome(self, job: Job) -> HandlerOutcome:
        pause = FIRST_PAUSE_SECONDS
        for run in count(1):
            try:
                return await self._once(job, run)
            except DatabaseFailed as error:
                logger.warning("%s runs again in %g s: %s", job.command.head.id, pause, error, exc_info=error)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
        raise AssertionError("count() has no end")

    async def _once(self, job: Job, run: int) -> HandlerOutcome:
        activity, head = job.handler.activity, job.command.head
        try:
            value = codec.decode(activity.input, job.command.body, what=activity.name)
        except MessageInvalid as fault:
            return failure(ReplyKind.REFUSED, INPUT_INVALID, fault.message)
        scope = Scope()
        task = asyncio.current_task()
        context: ExternalContext[Any] = ExternalContext(head, activity, self._resources, scope, self._guard(job))
        try:
            async with TimeLimit(job.handler.time_limit, f"{activity.name} of saga {head.saga_id}"):
                output = await job.handler.function(value, context)
            return completed(activity, output, scope.end())
        except (NotOurs, *ENDS_PROCESS):
            raise
        except HandlerTimedOut as error:  # whatever the database made of the cancellation
            if isinstance(error.__cause__, NotOurs):
                raise error.__cause__ from None
            return failed(error)
        except BaseException as error:
            if ends_task(error, task):
                raise
            if is_database_failure(error, alone=run):
                raise DatabaseFailed(f"the database failed a handler: {told(error)}") from error
            return failed(error)
        finally:
            scope.end()
