"""A saga in a test: answers are given beforehand, time moves when the test says so, and then it is looked at."""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast

from pydantic import BaseModel, JsonValue
from pydantic_core import from_json

from sagabus.client.failures import SagaFailed
from sagabus.contracts import Activity, Event, Seconds, codec
from sagabus.contracts.envelope import microseconds, moment
from sagabus.contracts.replies import HANDLER_ERROR
from sagabus.contracts.retry import seconds as in_seconds
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input
from sagabus.coordinator.definition import SagaDefinition
from sagabus.testing.asked import Asked, PublishedEvent, StartedSaga, TestedStep
from sagabus.testing.inbox import Inbox
from sagabus.testing.replies import Answer, Outcome, answered, completed, failed, refused
from sagabus.testing.saga_in_memory import T0, SagaInMemory, Sent
from sagabus.testing.script import Behaviour, Loss, Script
from sagabus.testing.waits import waits
from sagabus.testing.words import NoAnswer, NotEnded

I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
AI = TypeVar("AI", bound=BaseModel)
AO = TypeVar("AO", bound=BaseModel | None)

MOST_INPUTS: Final = 10_000
"""Of one call of a test: then the saga goes in a circle."""
MOST_COPIES: Final = 100
"""Timers in a row that lead to nothing: what the saga waits for does not come."""


class SagaTest(Generic[I, O]):
    """A saga in memory, on the core that runs in production. Nothing here needs an event loop, a bus or a database.

        test = SagaTest(order_processing)
        test.answers(reserve_inventory, Reservation(reservation_id="R-1", total_amount="10.00"))
        test.refuses(process_payment, "card_declined")
        test.start(order)
        with pytest.raises(SagaFailed): test.result()
        assert test.undone == [cancel_reservation(reservation_id="R-1")]

    Time is virtual: `result` moves it as far as it must, `advance` as far as it says; all else takes none. After each
    call the saga is replayed from its history, and must be the same: else ReplayDiffers. As a context manager it ends
    the saga's code on leaving.
    """

    __test__ = False  # for pytest, which collects classes by their names

    def __init__(
        self, definition: SagaDefinition[I, O], /, *, id: str = "saga-1", started_at: datetime | None = None
    ) -> None:
        """started_at: with a time zone; without one, 2026-01-01 00:00 UTC."""
        if not isinstance(definition, SagaDefinition):
            raise TypeError(f"SagaTest takes what @saga has made, not a {type(definition).__name__}")
        self._saga = SagaInMemory(definition, id=id, now=T0 if started_at is None else microseconds(started_at))
        self._definition = definition
        self._inbox = Inbox()
        self._scripts: dict[str, Script] = {}
        self._coming: list[tuple[int, int, Input]] = []
        self._numbers = itertools.count(1)
        self._is_started = False

    # What participants do.

    def answers(self, activity: Activity[..., AI, AO], /, *outputs: AO | Any) -> Self:
        """It completes with this output; of several, with one after the other, and with the last one from then on.

        In place of an output: a function, plain or async, of the command's input. It returns the output, or raises
        Refused or TryAgain as a handler does; any other exception is a failed attempt. Without outputs: completes with
        None. Raises TypeError for an output of the wrong type.
        """
        behaviours = [self._behaviour(activity, one) for one in outputs or (None,)]
        script = self._script(activity)
        script.first.extend(behaviours[:-1])
        script.always = behaviours[-1]
        return self

    def refuses(self, activity: Activity[..., Any, Any], code: str, message: str = "", /, **details: JsonValue) -> Self:
        """A business rejection, final. Raises ValueError for a code that the activity does not declare."""
        outcome = refused(activity, code, message or code, details)
        self._script(activity).always = lambda _: outcome
        return self

    def fails(
        self, activity: Activity[..., Any, Any], /, *, times: int | None = None, message: str = "it failed",
        code: str = HANDLER_ERROR,
    ) -> Self:  # fmt: skip
        """So many attempts fail, and then comes what else was said of it; without times, all attempts."""
        outcome = failed(code, message, {})
        script = self._script(activity)
        if times is None:
            script.always = lambda _: outcome
        else:
            script.first.extend([lambda _: outcome] * _number(times, "times"))
        return self

    def never_answers(
        self, activity: Activity[..., Any, Any], /, *, done: bool = False, times: int | None = None
    ) -> Self:
        """Copies of its command are lost, all of them or so many. done: each is carried out, and the reply is lost."""
        script = self._script(activity)
        if times is None:
            script.lost = Loss(done)
        else:
            script.losses.extend([Loss(done)] * _number(times, "times"))
        return self

    def delays(self, activity: Activity[..., Any, Any], delay: Seconds, /) -> Self:
        """From now on each of its replies takes so long."""
        self._script(activity).delay = round(in_seconds(delay) * 1_000_000)
        return self

    def duplicates(self, activity: Activity[..., Any, Any], /, *, copies: int = 2) -> Self:
        """From now on each of its replies comes so many times."""
        self._script(activity).copies = _number(copies, "copies")
        return self

    # What happens.

    def start(self, input: I, /) -> Self:
        """Start it, and let happen all that takes no time. Once."""
        if self._is_started:
            raise RuntimeError(f"saga {self._saga.id} is started already: make another SagaTest")
        self._is_started = True
        self._saga.start(input)
        return self._settle()

    def event(self, event: Event[Any], /, *, id: str = "") -> Self:
        """It comes to the saga. id: twice the same one counts once."""
        self._running().event(event, ref=id or f"event-{next(self._numbers)}")
        return self._settle()

    def cancel(self, reason: str = "the test cancels") -> str:
        """Ask for its end. Empty if that is applied, else the code why not."""
        return self._told(self._running().cancel(reason, ref=f"cancel-{next(self._numbers)}"))

    def operate(
        self, verb: Literal["pause", "resume", "retry", "skip", "complete", "terminate", "acknowledge"], step: int = 0,
        **fields: JsonValue,
    ) -> str:  # fmt: skip
        """What an operator may do. fields: `output` of a complete. Empty if it is applied, else the code why not."""
        return self._told(self._running().operate(verb, step, fields, ref=f"{verb}-{next(self._numbers)}"))

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Self:
        """Move the clock. Timers and replies that are due until then come in their order."""
        passed = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if passed <= timedelta(0):
            raise ValueError("advance() moves the clock forward: give days, hours, minutes or seconds above 0")
        self._running()
        end = self._saga.now + round(passed.total_seconds() * 1_000_000)
        for _ in range(MOST_INPUTS):
            due = self._next_due()
            if due is None or due > end:
                break
            self._saga.now = max(self._saga.now, due)
            self._settle()
        self._saga.now = end
        return self._settle()

    def result(self) -> O:
        """What a client gets, at once: time moves until the saga has ended.

        Raises SagaFailed as a client's `result` does; NotEnded where it waits for what does not come, or needs an
        operator.
        """
        self._run_to_its_end()
        state = self._saga.state
        if state.status == "completed":
            output: Any = self._definition.contract.output_model
            value = None if output is None else codec.decode(output, state.result, what="the result")
            return cast("O", value)
        error = {"code": "", "message": ""} if state.error is None else from_json(state.error)
        status = cast("Any", state.status.value)
        raise SagaFailed(saga_id=self._saga.id, status=status, code=error["code"], message=error["message"]) from (
            self._saga.raised
        )

    # What has come of it.

    @property
    def status(self) -> str:
        """running, compensating, completed, compensated, cancelled, terminated."""
        return self._saga.state.status.value

    @property
    def attention(self) -> str:
        """Why it needs an operator, in words; empty if it does not."""
        return self._saga.state.attention or ""

    @property
    def steps(self) -> list[TestedStep]:
        """In the order of calling."""
        return self._saga.steps()

    @property
    def done(self) -> list[Asked]:
        """What participants have done, in order: compares with filled-in commands."""
        return list(self._inbox.done)

    @property
    def undone(self) -> list[Asked]:
        """What participants have undone, in order: compares with filled-in commands."""
        return list(self._inbox.undone)

    def called(self, activity: Activity[..., AI, Any], /) -> list[AI]:
        """The inputs of all calls of this activity, in order."""
        return [cast("AI", step.input) for step in self.steps if step.activity == activity.name]

    @property
    def published(self) -> list[PublishedEvent]:
        """Events of `ctx.publish`, in order: compares with filled-in events."""
        return list(self._saga.published)

    @property
    def started(self) -> list[StartedSaga]:
        """Sagas of `ctx.start`, in order."""
        return list(self._saga.started)

    @property
    def timers(self) -> dict[str, timedelta]:
        """What it waits for by the clock, and how long: `{"sleep 1": timedelta(days=30)}`. timeout, retry and
        undo_retry have their step's number."""
        now = self._saga.now
        keys = [key for key in self._saga.timers_in_order() if key.kind is not TimerKind.RESEND]
        return {f"{key.kind} {key.number}": timedelta(microseconds=self._saga.timers[key] - now) for key in keys}

    @property
    def now(self) -> datetime:
        """Of the virtual clock, in UTC."""
        return moment(self._saga.now)

    @property
    def history(self) -> list[str]:
        """Its rows, in words: for a look when a test fails."""
        return [f"{row.seq} {row.kind} {row.name} {row.step or ''}".rstrip() for row in self._saga.rows]

    def close(self) -> None:
        """End its code. Its `finally` blocks run here, and nothing of them takes effect. May be called twice."""
        self._saga.evict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Inside.

    def _running(self) -> SagaInMemory:
        if not self._is_started:
            raise RuntimeError("the saga is not started: call start(input) first")
        return self._saga

    def _told(self, code: str | None) -> str:
        self._settle()
        return code or ""

    def _script(self, activity: Activity[..., Any, Any]) -> Script:
        if not isinstance(activity, Activity):
            raise TypeError(f"give an activity or a compensation, not a {type(activity).__name__}")
        return self._scripts.setdefault(activity.name, Script(activity))

    def _behaviour(self, activity: Activity[..., Any, Any], answer: Answer) -> Behaviour:
        if answer is None or isinstance(answer, BaseModel):
            outcome = completed(activity, answer)
            return lambda _: outcome
        if not callable(answer):
            raise TypeError(f"{activity.name}: give an output or a function, not a {type(answer).__name__}")
        return partial(answered, activity, answer)

    def _settle(self) -> Self:
        """All that happens without time."""
        for _ in range(MOST_INPUTS):
            if not self._happens_now():
                self._saga.check_replay()
                return self
        raise NotEnded(f"saga {self._saga.id} does not come to rest: {MOST_INPUTS} inputs at one moment")

    def _happens_now(self) -> bool:
        saga = self._saga
        if saga.unread:
            self._answer(saga.unread.pop(0))
            return True
        if self._coming and self._coming[0][0] <= saga.now:
            saga.take(heapq.heappop(self._coming)[2])
            return True
        keys = saga.timers_in_order()
        if keys and saga.timers[keys[0]] <= saga.now:
            saga.fire(keys[0])
            return True
        return False

    def _answer(self, sent: Sent) -> None:
        """A copy of a command is there."""
        script = self._script(sent.contract if sent.asked is None else sent.asked.activity)
        loss = None if sent.asked is None else script.next_loss()
        if loss is not None and not loss.done:
            return
        if sent.asked is not None and self._inbox.is_new(sent):
            self._inbox.keep(sent, self._outcome(sent.asked, script, sent))
        if loss is not None:
            return
        kind, kept = self._inbox.stored(sent)
        ref = f"{sent.head.id}:{kept.attempt}:reply:{kind}"
        reply = self._saga.input(
            kind, sent.head.step, kept.attempt, name=sent.service, ref=ref, payload=kept.outcome.body
        )
        for _ in range(script.copies):
            heapq.heappush(self._coming, (self._saga.now + script.delay, next(self._numbers), reply))

    def _outcome(self, asked: Asked, script: Script, sent: Sent) -> Outcome:
        behaviour = script.next()
        if behaviour is None:
            raise NoAnswer(
                f"the saga asks for {asked!r}, {sent.name}, and the test has no answer: "
                f"test.answers({asked.activity.name.rpartition('.')[2]}, …)"
            )
        return behaviour(asked.input)

    def _next_due(self) -> int | None:
        timers = self._saga.timers.values()
        return min([*timers, *(due for due, _, _ in self._coming[:1])], default=None)

    def _run_to_its_end(self) -> None:
        saga = self._running()
        rows, since = len(saga.rows), 0
        for _ in range(MOST_INPUTS):
            due = self._next_due()
            if saga.state.is_closed:
                return
            if due is None or since > MOST_COPIES:
                break
            saga.now = max(saga.now, due)
            self._settle()
            rows, since = len(saga.rows), since + 1 if len(saga.rows) == rows else 0
        raise NotEnded(f"saga {saga.id} does not end: {waits(saga)}") from saga.raised


def _number(given: int, what: str) -> int:
    if type(given) is not int or given < 1:
        raise ValueError(f"{what}={given!r}: give a whole number from 1")
    return given
