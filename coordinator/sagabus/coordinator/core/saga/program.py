"""One saga's code on its own deterministic loop: inputs are put in, intents come out.

The code never touches the outside: a call, a publication, a wait is noted as an intent, and `intents` does with it what
history demands. The same inputs in the same order give the same intents in every process.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, Final, Protocol

from pydantic import BaseModel, create_model

from sagabus.contracts import Activity, Command, Compensation, EventType, RetryPolicy, Start, attributes, codec
from sagabus.contracts.activity import retry_of
from sagabus.contracts.errors import ActivityError, DeclarationError, MessageInvalid
from sagabus.contracts.requests import start_body
from sagabus.contracts.retry import Seconds, as_microseconds, positive
from sagabus.contracts.words import words_of
from sagabus.coordinator.core.loop.loop import LoopOverrun, LoopRefused, PumpInterrupted, SagaFuture, SagaLoop, SagaTask
from sagabus.coordinator.core.saga.call import Call
from sagabus.coordinator.core.saga.condition import Condition, Where
from sagabus.coordinator.core.saga.events import MOST_NAMES, AwaitedEvent, KeptEvent
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.mailbox import Arrival, Mailbox
from sagabus.coordinator.core.saga.new_saga import NewSaga, new_id
from sagabus.coordinator.core.saga.patches import Patched, Patches
from sagabus.coordinator.core.saga.reading import EVENT, Read
from sagabus.coordinator.core.saga.scope import innermost, note_steps
from sagabus.coordinator.core.saga.step import Step

MAX_CALLS_IN_FLIGHT: Final = 10_000
"""Calls of one saga that nobody has answered yet."""

ROUNDS: Final = 100
"""How often the tasks left at the end are cancelled; from the second time on, those that cancelled ones left."""

_BODIES: dict[type[BaseModel], Any] = {}


class Blocked(Exception):
    """The saga cannot go on until somebody deploys something. Inputs are kept; nothing is undone."""

    def __init__(self, words: str, code: str = "") -> None:
        """code: what stops it. If it stops for the same again, nobody is told again."""
        super().__init__(words)
        self.code = code


class Spun(Blocked):
    """It would not come to rest. The same code will hardly do so when it is tried again."""


class Listener(Protocol):
    """What hears the answers to steps: a saga's code, or nobody (`codeless.Nobody`)."""

    def complete(self, number: int, output: BaseModel | None) -> None: ...

    def fail(self, number: int, error: ActivityError) -> None: ...


class Code(Protocol):
    """A definition, as far as the core needs it."""

    name: str
    version: int
    timeout: Seconds | None

    @property
    def attributes(self) -> type[BaseModel] | None:
        """What its sagas may set of these; None for none."""
        ...

    @property
    def refusals(self) -> tuple[str, ...]:
        """The codes that it refuses with, as its contract declares them; none for any."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of all that decides what it does (H7)."""
        ...

    @property
    def request(self) -> type[BaseModel]:
        """The model of a start request's body, as far as the saga reads it."""
        ...

    @property
    def written_at(self) -> str:
        """Where its function stands: file and line."""
        ...

    def run(self, program: Program, request: bytes) -> Coroutine[Any, Any, BaseModel | None]:
        """The saga's coroutine for this start request. Raises MessageInvalid."""
        ...

    def encode_result(self, result: BaseModel | None) -> bytes:
        """Raises TypeError for a result of another type than declared."""
        ...


@dataclass(frozen=True, slots=True)
class GaveUp:
    number: int


@dataclass(frozen=True, slots=True)
class Published:
    number: int
    type: EventType[..., Any]
    data: BaseModel
    body: bytes
    key: str | None


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """An event was read as what its bytes alone would not say the next time."""

    number: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event that the wait for it could not read; it is set aside."""

    name: str
    fault: str


@dataclass(frozen=True, slots=True)
class Readable:
    """All waits that have set events aside have got one that they could read."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Without an error it returned `result`."""

    result: BaseModel | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RollBack:
    """Undo these steps, and tell the code when that is done. number: of these intents, from 1.

    even_kept: also what was called with `abandon="keep"` and given up.
    """

    number: int
    steps: tuple[int, ...]
    even_kept: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """A step that no participant does, and that is undone with the others."""

    step: Step


@dataclass(frozen=True, slots=True)
class Pivot:
    """Nothing that has completed is undone any more."""


Intent = (
    Step
    | GaveUp
    | RollBack
    | Registered
    | Pivot
    | Published
    | NewSaga
    | Patched
    | ReadEvent
    | Unreadable
    | Readable
    | Ended
)
"""A step is one that was just called."""


class StepFuture(SagaFuture[Any]):
    """The answer to a step. Cancelling it while it is open gives the step up."""

    __slots__ = ("_program", "_undone_by")

    def __init__(self, program: Program, number: int, undone_by: Compensation[..., Any] | None) -> None:
        super().__init__(loop=program.loop)
        self._program = program
        self._undone_by = undone_by
        self.number = number

    def undo(self) -> asyncio.Future[None]:
        """See `Call.undo`."""
        return self._program.undo_step(self.number, self._undone_by)

    def cancel(self, msg: Any | None = None) -> bool:
        given_up = super().cancel(msg)
        if given_up:
            self._program.given_up(self.number)
        return given_up


class UndoFuture(SagaFuture[None]):
    """The end of a scope's undo. A task that is cancelled while it waits for it hears of that afterwards."""

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        return False


class Program:
    """The code of one saga, from its start to its end or its eviction."""

    __slots__ = (
        "_awaited",
        "_events_read",
        "_journal",
        "_leaving",
        "_main",
        "_not_awaited",
        "_past",
        "_patches",
        "_publications",
        "_random",
        "_read",
        "_rollbacks",
        "_unanswered",
        "_undone",
        "attributes",
        "declared",
        "ended",
        "ending",
        "has_scopes",
        "id",
        "intents",
        "loop",
        "mailbox",
        "quiet",
        "run",
        "said",
        "started_at",
        "steps",
    )  # fmt: skip

    def __init__(
        self, code: Code, request: bytes, *, id: str, run: str, started_at: int, read: Read, journal: Journal
    ) -> None:
        self.id = id
        self.run = run
        self.started_at = started_at
        self.loop = SagaLoop()
        self.loop.name, self.loop.code = id, code.fingerprint
        self.intents: list[Intent] = []
        self.steps = 0
        self.quiet = False
        self._publications = 0
        self._read = read
        self._journal = journal
        self._patches: Patches | None = None
        self._events_read = 0
        self._unanswered = 0
        """Waits that have set an event aside, and have got none that they could read."""
        self._awaited: dict[int, StepFuture] = {}
        self.mailbox = Mailbox(self.loop)
        self.declared = code.attributes
        self.attributes: tuple[BaseModel, bytes] | None = None
        """As the code has set them, and as JSON; None before it has set any."""
        self._random: Random | None = None
        self._not_awaited: dict[int, str] = {}
        self.said: list[str] = []
        """For the log. Whoever reads it empties it."""
        self._leaving: list[SagaTask[Any]] = []
        self.ended = False
        self.has_scopes = False
        """Whether its steps may belong to one."""
        self.ending = False
        """Whether it was cancelled, or its own timeout has passed."""
        self._past: tuple[int, frozenset[int]] | None = None
        """The last step before the pivot, and those before it that were open then; None without a pivot."""
        self._rollbacks = 0
        self._undone: dict[int, SagaFuture[None]] | None = None
        """What waits for the end of an undo, by number. Made with the first one."""
        self._main: SagaTask[Any] | None = self.loop.start(code.run(self, request))

    @property
    def main(self) -> SagaTask[Any]:
        """The task of the saga's function. Not to be asked for once it is evicted."""
        assert self._main is not None
        return self._main

    # What the saga's context asks for, while the loop is pumped.

    def call(
        self,
        command: Command[Any],
        *,
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
        abandon: str = "undo",
        hold: bool = True,
    ) -> Call[Any]:
        """A step is numbered when it is called, not when it is awaited (L3)."""
        self.loop.check()
        if len(self._awaited) >= MAX_CALLS_IN_FLIGHT and not self.quiet:
            self.loop.refuse(
                f"{MAX_CALLS_IN_FLIGHT} calls are in flight, and one saga may have no more: work in portions, for "
                "example with asyncio.Semaphore(100) around each call; nothing of this turn was sent",
                "calls_in_flight",
            )
        contract, input = command.contract, command.input
        terms = _declared_terms(contract)
        if not (timeout is None and resend_after is None and retry is None):
            terms = _terms(contract, timeout, resend_after, retry)
        number = self.steps = self.steps + 1
        body = codec.checked(codec.encode(input))
        step = Step(number, contract, contract.service.name, contract.name, input, body, *terms, abandon, hold)
        future = self._awaited[number] = StepFuture(self, number, contract.compensation)
        self.intents.append(step)
        if self.has_scopes:
            note_steps(innermost(), [number])
        caller = sys._getframe(2)
        return Call(number, future, at=(caller.f_code, caller.f_lasti), dropped=self._dropped)

    def _dropped(self, number: int, words: str) -> None:
        """A call was never awaited. What becomes of its step nobody hears, so at least the log does."""
        if self.loop.failure is not None:
            return  # the saga has stopped in the middle of it
        warnings.warn(f"{words}; its command is sent all the same", RuntimeWarning, stacklevel=3)
        self._not_awaited[number] = words
        self.said.append(f"{words}: nobody hears whether it fails; write `await ctx.call(…)`")

    def given_up(self, number: int) -> None:
        if self._awaited.pop(number, None) is not None and not self.loop.dead:
            self.intents.append(GaveUp(number))

    def use_scopes(self) -> None:
        """From here on its steps may belong to one."""
        self.has_scopes = True

    def roll_back(self, steps: Sequence[int], *, to_its_end: bool = False, even_kept: bool = False) -> SagaFuture[None]:
        """Give up those that are open, and undo them (U11). to_its_end: no cancel ends the waiting before that."""
        self.loop.check()
        steps = [number for number in steps if not self.is_past_pivot(number)]
        for number in steps:
            if (awaited := self._awaited.get(number)) is not None:
                awaited.cancel()
        number = self._rollbacks = self._rollbacks + 1
        future = UndoFuture(loop=self.loop) if to_its_end else SagaFuture[None](loop=self.loop)
        future.number = number
        if self._undone is None:
            self._undone = {}
        self._undone[number] = future
        self.intents.append(RollBack(number, tuple(steps), even_kept))
        return future

    def undo_step(self, number: int, undone_by: Compensation[..., Any] | None) -> SagaFuture[None]:
        """Raises DeclarationError for a step that nothing undoes, RuntimeError for one of another saga."""
        if not self.loop.pumping:
            raise RuntimeError(f"step {number} is of saga {self.id} (run {self.run}): each saga undoes its own steps")
        self.loop.check()
        if undone_by is None:
            raise DeclarationError(
                f"step {number} of saga {self.id} cannot be undone: its activity has no compensation; declare one with "
                "Service.compensation, and name it in compensation="
            )
        if self.is_past_pivot(number):
            raise RuntimeError(
                f"step {number} of saga {self.id} was done before its pivot: it is never undone any more"
            )
        return self.roll_back([number], even_kept=True)

    def on_rollback(self, command: Command[Any]) -> None:
        """See `SagaContext.on_rollback`."""
        self.loop.check()
        contract, body = command.contract, codec.checked(codec.encode(command.input))
        retry, _, resend_after = _declared_terms(contract)
        number = self.steps = self.steps + 1
        self.intents.append(Registered(Step(
            number, of_compensation(contract), contract.service.name, contract.name, command.input, body, retry, None,
            resend_after, "undo",
        )))  # fmt: skip
        if self.has_scopes:
            note_steps(innermost(), [number])

    def pivot(self) -> None:
        """See `SagaContext.pivot`."""
        self.loop.check()
        if self.ending:
            raise RuntimeError(
                f"saga {self.id} is being cancelled, or its timeout has passed: it is undone, and a pivot is too late"
            )
        if self._past is None:
            self._past = self.steps, frozenset(self._awaited)
            self.intents.append(Pivot())

    def is_past_pivot(self, number: int) -> bool:
        """Whether this step had completed when the code passed its pivot."""
        return self._past is not None and number <= self._past[0] and number not in self._past[1]

    def publish(self, type: EventType[..., Any], data: BaseModel, key: str | None) -> None:
        self.loop.check()
        body = codec.encode_as(type.model, data, what=f"event {type.name}")
        (key or "").encode()  # what cannot be sent is refused where it is made
        self._publications += 1
        self.intents.append(Published(self._publications, type, data, body, key))

    def start(self, start: Start[Any], id: str | None) -> str:
        self.loop.check()
        chosen = new_id(id, of=self.id, number=self.steps + 1)
        body = codec.checked(start_body(start))
        self.steps += 1
        self.intents.append(NewSaga(self.steps, chosen, start.saga.name, body))
        return chosen

    def patched(self, change: str) -> bool:
        """Whether this saga has the change, the same whenever it is asked (H8). A mistake in the name stops it."""
        self.loop.check()
        patches = self._patches
        if patches is None:
            patches = self._patches = Patches()
        fault = patches.fault(change)
        if fault is not None:
            self.loop.refuse(fault, "patched")
        if change not in patches and patches.decide(change, self._journal):
            self.intents.append(Patched(change))
        return patches[change]

    def attribute(self, values: dict[str, Any]) -> None:
        """Raises TypeError, ValueError: nothing is set then."""
        self.loop.check()
        if self.declared is None:
            raise TypeError(
                f"saga {self.id} declares no attributes: name their model in its declaration, "
                "`SagaType(…, attributes=Model)` or `@saga(…, attributes=Model)`"
            )
        before = None if self.attributes is None else self.attributes[0]
        self.attributes = attributes.changed(self.declared, before, values, f"saga {self.id}")

    async def event(self, type: EventType[..., Any], where: Where | None = None) -> Any:
        """The oldest unconsumed match, the first registered waiter first (H5). One that cannot be read is set aside."""
        self.loop.check()
        if where is not None:
            return await self._event_where(type, where)
        set_aside, since = False, self.loop.now
        while True:
            event = await self.mailbox.take(type.name, since=since)
            try:
                data = self.read_event(event, type)
            except MessageInvalid as error:
                self.set_aside(event.name, error, again=set_aside)
                set_aside = True
                continue
            if set_aside:
                self._readable()
            return data

    async def _event_where(self, type: EventType[..., Any], where: Where) -> Any:
        """Raises what `where` raises."""
        condition = Condition(self, type, where)
        event = await self.mailbox.take(type.name, since=self.loop.now, look=condition)
        if condition.has_set_aside:
            self._readable()
        return self.read_event(event, type)

    def read_event(self, event: Arrival, type: EventType[..., Any]) -> Any:
        """Its data. An event is read once for each model, and what its bytes would not say again is noted then.

        Reads are numbered as they are made. Raises MessageInvalid.
        """
        readings = event.readings
        if readings is not None and type.model in readings:
            return readings[type.model]
        self._events_read += 1
        number = self._events_read
        made, kept = self._read(EVENT, number, event_body(type), event.body, f"event {event.name}")
        if kept is not None:
            self.intents.append(ReadEvent(number, kept))
        if readings is None:
            readings = event.readings = {}
        readings[type.model] = made.data
        return made.data

    def set_aside(self, name: str, error: MessageInvalid, *, again: bool) -> None:
        """A wait cannot read this event. again: it is not the first one that it has met."""
        self.intents.append(Unreadable(name, error.message))
        self._unanswered += not again

    def _readable(self) -> None:
        """A wait that has set an event aside has got one that it could read."""
        self._unanswered -= 1
        if not self._unanswered:
            self.intents.append(Readable())

    @property
    def now(self) -> int:
        """Microseconds since 1970: the deciding turn's, from history."""
        return self.started_at + self.loop.now

    def random(self) -> Random:
        """The same sequence in every process, for it is seeded by the saga's id and run."""
        if self._random is None:
            self._random = Random(f"{self.id}:{self.run}")
        return self._random

    # What history puts in. Each takes effect in the next pump.

    def complete(self, number: int, output: BaseModel | None) -> None:
        future = self._awaited.pop(number, None)
        if future is not None:
            self.loop.resolve(future, output)

    def fail(self, number: int, error: ActivityError) -> None:
        future = self._awaited.pop(number, None)
        if number in self._not_awaited:
            self.said.append(f"{self._not_awaited[number]}, and it has failed: {words_of(error)}")
        if future is not None:
            self.loop.reject(future, error)

    def rolled_back(self, number: int) -> None:
        future = None if self._undone is None else self._undone.pop(number, None)
        if future is not None:
            self.loop.resolve(future, None)

    def deliver(self, name: str, body: bytes) -> None:
        self.mailbox.deliver(name, body)

    def fire(self, number: int) -> None:
        self.loop.fire(number)

    def cancel(self) -> None:
        """CancelledError is thrown once (U7)."""
        self.ending = True
        self.loop.cancel(self.main)

    def unconsumed(self) -> tuple[int, int]:
        """How many events nobody has waited for yet, and their bytes."""
        return self.mailbox.count, self.mailbox.bytes

    @property
    def awaited(self) -> tuple[AwaitedEvent, ...]:
        """The events that it waits for, after a pump."""
        awaited = self.mailbox.awaited(most=MOST_NAMES)
        return tuple(AwaitedEvent(name, self.started_at + at, where) for at, name, where in awaited)

    @property
    def kept(self) -> tuple[KeptEvent, ...]:
        """The events that it has not taken, after a pump."""
        return tuple(KeptEvent(name, number) for name, number in self.mailbox.kept(most=MOST_NAMES))

    @property
    def is_stuck(self) -> bool:
        """After a pump: it has not ended, and waits for no answer, no undo, no event and no timer."""
        if self.ended or self._awaited or self.loop.has_timers or self.mailbox.is_awaited:
            return False
        return not self._undone

    def pump(self, now: int) -> list[Intent]:
        """Run the code until it waits; after its end nothing runs. now: microseconds since 1970. Raises Blocked."""
        loop, since = self.loop, now - self.started_at
        if self.ended:
            return []
        try:
            loop.pump(since)
            if self.main.done() and loop.failure is None:
                self._wind_down(since)
        except LoopOverrun as error:
            raise Spun(f"the saga's code does not come to rest: {error}") from error
        if loop.failure is not None:
            raise _blocked_by(loop.failure)
        if loop.errors:
            self._tell_errors()
        intents, self.intents = self.intents, []
        return intents

    def _tell_errors(self) -> None:
        """What a task or a callback raised and nobody took, as asyncio's own loop does. Steps are in history anyway."""
        errors, self.loop.errors = self.loop.errors, []
        for context in errors:
            if isinstance(context.get("future"), StepFuture):
                continue
            error = context.get("exception")
            raised = "" if error is None else f": {type(error).__name__}: {words_of(error)}"
            self.said.append(f"{words_of(context.get('message', 'an error'))}{raised}")

    def _wind_down(self, since: int) -> None:
        """The main task is done. Tasks that it left behind are cancelled, as asyncio.run does, before the saga ends.

        Tasks that come up while those clean up belong to the cleaning; what outlives it is left behind in turn.
        """
        for _ in range(ROUNDS):
            if self.loop.is_idle:
                break
            while self._leaving and self._leaving[-1].done():
                self._leaving.pop()
            if self._leaving:
                return
            self._leaving = self.loop.tasks()
            for task in reversed(self._leaving):
                self.loop.cancel(task)
            self.loop.pump(since)
        else:
            raise Spun(f"the saga's code does not come to rest: {ROUNDS} times cancelled tasks left new ones")
        for number in sorted(self._awaited):
            self.given_up(number)
        self.ended = True
        self.loop.drop_timers()
        self.intents.append(self._end())

    def _end(self) -> Ended:
        if self.main.cancelled():
            return Ended(error=asyncio.CancelledError("cancelled"))
        error = self.main.exception()
        return Ended(error=error) if error is not None else Ended(result=self.main.result())

    def timers(self) -> dict[int, int]:
        """Number -> due in microseconds since 1970. None after the end, whatever `call_later` has left."""
        return {number: self.started_at + due for number, due in self.loop.timers().items()}

    def changed_timers(self) -> list[tuple[int, int | None]]:
        """Those that were made, cancelled or fired since the last call: number, and due if it is pending."""
        dues = ((number, self.loop.due(number)) for number in self.loop.take_changed_timers())
        return [(number, None if due is None else self.started_at + due) for number, due in dues]

    def evict(self) -> None:
        """Out of memory, without a trace in history: nothing that user code does on the way counts (L4). Idempotent.

        Its tasks go too: an error knows the frames of the code, and these know the program.
        """
        self.loop.evict()
        self._awaited.clear()
        self._undone = None
        self._leaving.clear()
        self.mailbox.close()
        self._main = None


_Terms = tuple[RetryPolicy, int | None, int]
"""How a step is repeated; microseconds until it is given up, if ever; microseconds until it is sent again."""


def _terms(
    contract: Activity[..., Any, Any], timeout: Seconds | None, resend_after: Seconds | None, retry: RetryPolicy | None
) -> _Terms:
    """What is None is as it was declared. Raises DeclarationError."""
    chosen = contract.timeout if timeout is None else timeout
    again = contract.resend_after if resend_after is None else positive(resend_after, contract.name)
    microseconds = None if chosen is None else as_microseconds(chosen)
    return retry_of(contract, retry), microseconds, as_microseconds(again)


@lru_cache(maxsize=1_000)
def of_compensation(compensation: Activity[..., Any, Any]) -> Activity[..., Any, Any]:
    """The contract of a step that this undoes, and that no participant does."""
    service, _, name = compensation.name.partition(".")
    made: Activity[..., Any, Any] = Activity(compensation.service, name, compensation.input, None)
    assert isinstance(compensation, Compensation), f"{service}.{name}"
    made.compensation = compensation
    return made


@lru_cache(maxsize=1_000)
def _declared_terms(contract: Activity[..., Any, Any]) -> _Terms:
    """The same of each call that says nothing of them, which most do not."""
    return _terms(contract, None, None, None)


def _blocked_by(failure: BaseException) -> Blocked:
    """What has stopped the saga's code for good."""
    if isinstance(failure, PumpInterrupted):
        return Spun(str(failure))
    if isinstance(failure, LoopRefused):
        return Blocked(str(failure), f"refused {failure.code}")
    kind = type(failure).__name__
    code = f"{kind} in {raised_in(failure)[0]}"
    return Blocked(f"the saga's code raised {kind}: {words_of(failure)}", code)


def raised_in(error: BaseException) -> tuple[str, int]:
    """The function and the line where it was raised; ("", 0) if it was not."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return ("", 0) if at is None else (at.tb_frame.f_code.co_qualname, at.tb_lineno)


def event_body(type: EventType[..., Any]) -> Any:
    """The model of an event request's whole body, so that its data is read from the bytes as they came."""
    found = _BODIES.get(type.model)
    if found is None:
        found = _BODIES[type.model] = create_model("EventBody", data=(type.model, ...))
    return found
