"""The core's one entrance: an input is offered to a saga, and what follows from it is decided.

    input -> admission -> history row -> state and code -> intents -> decisions, messages, timers

`Saga.take` is all that a turn calls, and `replay` calls the same code with what is written. No clock, no randomness, no
I/O: time and ids come in with the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.words import plain, words_of
from sagabus.coordinator.core.saga import (
    codeless,
    forward,
    intents,
    operator,
    pause,
    refusal,
    request_answers,
    stand_in,
    start,
    termination,
    unconsumed,
    undo,
    unexplained,
)
from sagabus.coordinator.core.saga.admission import (
    DUPLICATE,
    FOR_GOOD,
    LATE,
    REPLIES,
    STALE,
    UNREADABLE,
    answers_nothing,
    denial,
    is_first_completion,
)
from sagabus.coordinator.core.saga.concern import (
    BROKEN_ANSWER,
    NO_ANSWER,
    STOPS,
    UNREADABLE_ANSWER,
    Concern,
    ConcernKind,
    Told,
    concerns_json,
    read_concerns,
)
from sagabus.coordinator.core.saga.effects import Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.from_rows import read_back
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.journal import Divergence
from sagabus.coordinator.core.saga.order import in_order
from sagabus.coordinator.core.saga.program import Blocked, Code, Listener, Program, Spun, raised_in
from sagabus.coordinator.core.saga.state import Declared, SagaState, reason_json
from sagabus.coordinator.core.saga.status import CLOSED, Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step
from sagabus.coordinator.core.saga.stopped import Stop, StoppedSaga, notice
from sagabus.coordinator.core.saga.stuck import note_stuck

MAX_HISTORY_BYTES: Final = 128 * 1024 * 1024
"""Payloads of a history. All of them are read each time that the saga comes into memory."""

MAX_ROWS: Final = 20_000
"""Rows of a history. To replay so many takes about half a second, each time that the saga comes into memory."""


_COMPLETED: Final = Kind.STEP_COMPLETED
_TO_BE_READ: Final = frozenset((Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED, Kind.STEP_REFUSED))
"""Answers that are final, and on whose value something rests."""
_RUNNING: Final = SagaStatus.RUNNING
_SAID: Final = frozenset((Outcome.COMPLETED, Outcome.NEVER))
"""Another answer changes neither, and so it need not be read."""


class Saga:
    """One saga in memory: its state, and its code as far as it has come."""

    __slots__ = ("_code", "_contracts", "program", "state", "stopped")

    def __init__(self, state: SagaState, code: Code | None, *, contracts: Declared = codeless.no_contracts) -> None:
        """contracts: where those of its steps are looked for, should it be ended without its code."""
        self.state = state
        """Another object once the saga has stopped."""
        self.program: Program | None = None
        self.stopped: StoppedSaga | None = None
        """What takes its place while its code cannot follow its history."""
        self._code = code
        self._contracts = contracts

    @property
    def fingerprint(self) -> str:
        """Of the code that it was last decided with; empty before that."""
        return self.state.fingerprint

    def take(self, input: Input, *, now: int) -> str | None:
        """None if applied, else the reason code.

        now: microseconds since 1970; never runs backwards for a saga (H3).
        """
        state = self.state
        if now > state.now:
            state.now = now
        state.cause, kind = input.cause, input.kind
        if kind is _COMPLETED and self._take_usual(input):
            return None
        if kind is Kind.NOTICE and input.ref == BROKEN_ANSWER:
            return self._hear_broken(input)
        if self.stopped is not None:
            return self._keep(self.stopped, input)
        reason = denial(state, input)
        if reason is not None:
            if reason != DUPLICATE and request_answers.verb_of(input):
                self.refuse(input, reason)
            return reason
        if kind is Kind.TIMER:
            return self._take_timer(input)
        if kind in _TO_BE_READ and (unread := self.cannot_read(input)):
            return unread
        if kind is Kind.STARTED:
            state.started_at = state.now
        self.advance_or_block(state.journal.taken(input, state.now))
        return None

    def _take_usual(self, input: Input) -> bool:
        """What most inputs are: the first answer to a step of a saga that runs, an output. It is looked at once. False
        for whatever is not as usual, be it right or wrong: then nothing has been done.

        It must do what the way of all other inputs does. Whoever adds a check to `take` or to `advance` adds it here.
        """
        state, program = self.state, self.program
        step = state.steps.get(input.step)
        if step is None or program is None or input.name != step.service or not is_first_completion(state, step, input):
            return False
        if state.standing.paused or state.contracts is not None or state.waiting:
            return False
        try:
            forward.read_output(state, step, input.payload)
        except MessageInvalid:
            return False  # which has words
        self.advance_or_block(state.journal.taken(input, state.now), step)
        return True

    def _hear_broken(self, input: Input) -> str | None:
        """It leaves a row only where somebody is to be told."""
        step = None if self.stopped is not None else self.state.steps.get(input.step)
        told = None if step is None else undo.broken_answer(self.state, step, input)
        if told is None:
            return LATE
        self._note(*told)
        return None

    def refuse(self, asked: Input | Row, code: str) -> None:
        """A verb that changes nothing. asked: the request, or the row of one that was kept."""
        row = request_answers.refused(self.state, asked, code, refusal.words(self.state, asked, code))
        if row is not None and self.stopped is None:
            self.advance_or_block(row)
        elif row is not None and self.stopped is not None:
            self.stopped.note(row)

    def _keep(self, stopped: StoppedSaga, input: Input) -> str | None:
        """It stands still; but a request of an operator to end it is carried out."""
        reason = stopped.take(input)
        if reason is not None or not request_answers.verb_of(input):
            return reason
        if request_answers.ends(input):
            self.end_if_asked()
        if self.stopped is not None and not self.state.is_closed and not self.wants_its_history:
            request_answers.kept(self.state, input)
        return None

    def end_if_asked(self) -> None:
        """A saga that stands still is ended if an operator has asked for that, and its history is at hand (U8)."""
        if self.stopped is not None and self.stopped.is_to_end and self.stopped.tells_all:
            self._go_on_without_code(self.stopped)

    @property
    def wants_its_history(self) -> bool:
        """See `StoppedSaga`."""
        return self.stopped is not None and self.stopped.wants_its_history

    def _go_on_without_code(self, stopped: StoppedSaga) -> None:
        """From here on its rows are what it is decided from."""
        state, cause = self.state, self.state.cause
        concerns = concerns_json(state.concerns)
        said = codeless.said(state, stopped.stop, concerns)
        row = state.journal.noted(Kind.CODELESS, at=state.now, name=stopped.stop.kind, payload=said)
        state.blocked = 0
        waited, kept = self.read_back(stopped.rows, concerns)
        self.decide_in_turn([*waited, *kept, row])
        self.state.cause = cause

    def read_back(self, rows: Sequence[Row], concerns: bytes) -> tuple[list[Row], list[Row]]:
        """Its state becomes what the rows before the row `codeless` tell, and its code is let go; a pause is over.
        concerns: as they stood then. Returns the inputs that waited for the end of a pause, and those kept while it was
        blocked."""
        state, self.stopped, self._code = self.state, None, None
        state.contracts = self._contracts
        state.stands(concerns=read_concerns(concerns, attention=None), error=None, paused=False, events=None)
        decided, kept, _ = in_order(row for row in rows if row.is_input)
        waited = read_back(state, decided, (row for row in rows if not row.is_input))
        codeless.prepare(state)
        return waited, kept

    def decide_in_turn(self, rows: Sequence[Row]) -> None:
        """What has been a row for a while is decided upon now, as far as it still counts. A verb that does not is
        refused behind all decisions: there a replay finds its notice."""
        refused: list[tuple[Row, str]] = []
        for row in rows:
            if self.stopped is not None:
                break
            reason = denial(self.state, row)
            if reason is not None and request_answers.verb_of(row):
                refused.append((row, reason))
            elif reason is None and self.cannot_read(row) is None:
                self.state.cause = "" if row.kind is Kind.NOTICE else row.ref
                self.advance_or_block(row)
        for row, reason in refused:
            self.refuse(row, reason)

    def cannot_read(self, answer: Input | Row) -> str | None:
        """The reason code, if it brings an output, or a refusal, that nobody can read. It is not taken then: a person
        is told, the step stays as it is and is asked for again, until the answer can be read.

        Its participant has stored the answer, and gives the same one to each copy of the command: those are duplicates.
        """
        state = self.state
        step = state.steps.get(answer.step) if answer.kind in _TO_BE_READ else None
        if step is None or step.outcome in _SAID:
            return None
        try:
            self._read(step, answer)
        except MessageInvalid as error:
            if answers_nothing(state, answer):
                return None  # a person is told that, and nothing more
            aside = str(answer.seq) if isinstance(answer, Row) else ""
            concern, words = forward.unreadable(state, step, error, answer.kind)
            told = Told(UNREADABLE_ANSWER, answer.attempt)
            if not aside and state.is_told(concern, words, told):
                return DUPLICATE
            self._note(concern, words, told, aside=aside)
            return UNREADABLE
        return None

    def _read(self, step: Step, answer: Input | Row) -> None:
        """Raises MessageInvalid."""
        if answer.kind is Kind.STEP_REFUSED:
            forward.check_refusal(answer)
            return
        forward.read_output(self.state, step, answer.payload)
        if self.state.contracts is not None:
            stand_in.check_output(self.state, step, answer.payload)

    def _note(self, concern: Concern, words: str, told: Told, *, aside: str = "") -> None:
        """A notice in history, if there is something new to say. aside: the row that is left undecided for good."""
        state = self.state
        before = state.concerns.told(concern)
        if not aside and before is not None and before.covers(told):
            return
        kind, number = concern
        self.advance_or_block(state.journal.noted(
            Kind.NOTICE, at=state.now, step=number, attempt=told.attempt, name=kind, ref=aside or told.code,
            payload=plain(words).encode(),
        ))  # fmt: skip

    def _take_timer(self, input: Input) -> str | None:
        kind = TimerKind(input.name)
        if self._put_off(TimerKey(kind, input.step)):
            return STALE
        if kind is TimerKind.RESEND:
            self._resend(input.step)
        else:
            self.advance_or_block(self.state.journal.taken(input, self.state.now))
        return None

    def _put_off(self, key: TimerKey) -> bool:
        """It was stored with an earlier time, under another code (H7): the time that counts is the present code's."""
        due = self.state.timers[key]
        if due > self.state.now:
            self.state.staged.timers[key] = due
            return True
        return False

    def advance_or_block(self, row: Row, usual: Step | None = None) -> None:
        """What follows from an input; or, if the code cannot go on, the input alone is kept (H1). usual: the step of
        which this is the first answer, if all is as usual."""
        self.state.keep()
        try:
            if usual is None:
                self.advance(row)
            else:
                self._advance_usual(row, usual)
            if self._code is not None:
                self.state.decided_by(self._code.fingerprint)
        except Exception as stop:
            self.stop(why_stopped(stop)).block(since=row.seq)
            if request_answers.verb_of(row):
                request_answers.kept(self.state, row)

    def stop(self, stop: Stop, rows: Sequence[Row] = ()) -> StoppedSaga:
        """Nothing more is decided, and all that was half decided is gone. rows: its history, if it is at hand."""
        self.evict()
        self.state = self.state.as_kept()
        fingerprint = "" if self._code is None else self._code.fingerprint
        self.stopped = StoppedSaga(self.state, stop, rows, fingerprint=fingerprint)
        return self.stopped

    def advance(self, row: Row) -> None:
        """Everything that follows from one input. Raises Blocked, Divergence, and whatever is wrong with the core."""
        state, kind = self.state, row.kind
        state.deciding = row.seq
        if row.seq > MAX_ROWS or state.journal.size > MAX_HISTORY_BYTES:
            self._note_length(row)
        was_paused = state.standing.paused
        if was_paused and pause.waits(row):
            state.waiting.setdefault(pause.same(row), row)
            return
        if kind in REPLIES:
            self._reply(row)
        else:
            self._apply(row)
        if not state.standing.paused:
            self._run_code()
            if was_paused:
                undo.go_on(state)
                self._hear_undone()
            self._go_on()
        if kind is Kind.OPERATOR or kind is Kind.CANCEL:
            request_answers.applied(state, row)

    def _advance_usual(self, row: Row, step: Step) -> None:
        """As `advance` for the first answer to a step. `_take_usual` has made sure of the rest: the saga is not paused,
        nothing waits for the end of a pause, its code decides, and the output can be read."""
        state = self.state
        state.deciding = row.seq
        if row.seq > MAX_ROWS or state.journal.size > MAX_HISTORY_BYTES:
            self._note_length(row)
        forward.completed(state, self._alive(), step, row)
        self._run_code()
        self._go_on()

    def _note_length(self, row: Row) -> None:
        if row.seq > MAX_ROWS:
            words = f"its history has more than {MAX_ROWS} rows; let it end, and go on in another saga"
            self.state.raise_concern(Concern(ConcernKind.ROWS), words)
        if self.state.journal.size > MAX_HISTORY_BYTES:
            words = f"its history has more than {MAX_HISTORY_BYTES} bytes; let it end, and go on in another saga"
            self.state.raise_concern(Concern(ConcernKind.BYTES), words)

    def _apply(self, row: Row) -> None:
        state = self.state
        match row.kind:
            case Kind.STARTED:
                self._start(row)
            case Kind.EVENT:
                self._event(row)
            case Kind.CANCEL:
                request_answers.note(state, row)
                self._cancel(row)
            case Kind.TIMER:
                self._fire(row)
            case Kind.NOTICE if request_answers.is_refusal(row):
                request_answers.note(state, row)
            case Kind.NOTICE | Kind.BLOCKED:
                notice(state, row)
            case Kind.RESUMED:
                for kind in STOPS:
                    state.clear_concern(Concern(kind))
            case Kind.CODELESS:
                codeless.go_on(state)
            case Kind.UNKNOWN:
                words = f"row {row.seq} is a {row.name!r}, which only a later release knows; deploy that one"
                raise Blocked(words, "row_unknown")
            case Kind.OPERATOR:
                request_answers.note(state, row)
                self._operate(row)
            case _:
                self._reply(row)

    def _start(self, row: Row) -> None:
        state = self.state
        state.started_at = row.at  # which a replay finds here first
        if state.contracts is not None:
            return  # it is ended before it has begun
        self.program = start.begin(state, self._code, row)
        state.tell(LifecycleType.STARTED)

    def _event(self, row: Row) -> None:
        self.state.seen_events.add(row.ref)
        program = self.program
        if program is None:
            return  # it is being undone: nobody waits any more
        program.deliver(row.name, row.payload or b"")
        unconsumed.note_event(self.state, program)

    def _stop_code(self, ending: SagaStatus, error: bytes) -> None:
        """CancelledError is thrown once (U7): the end is decided from here on, no timeout of the saga changes it."""
        self.state.ending = ending
        self.state.stands(error=error)
        self.state.clear_timer(TimerKind.SAGA, 0)
        self._alive().cancel()

    def _operate(self, row: Row) -> None:
        if row.name == operator.RESUME:
            self._resume()
            return
        if row.name == operator.TERMINATE:
            self._note_what_waits()
        nobody = self.state.contracts is not None
        operator.carry_out(self.state, codeless.NOBODY if nobody else self.program, row)

    def _resume(self) -> None:
        """As if it had never been paused, but later (U8)."""
        state, cause = self.state, self.state.cause
        for row in pause.end(state):
            if denial(state, row) is None:
                state.cause, state.deciding = row.ref, row.seq
                self._apply(row)
                self._run_code()
                self._go_on()
        state.cause = cause

    def _note_what_waits(self) -> None:
        """A paused saga comes to its end: what is known of its steps counts, and its code makes nothing of it."""
        waited = [*self.state.waiting.values()]
        self.state.waiting.clear()
        for row in waited:
            if row.kind is not Kind.TIMER and denial(self.state, row) is None:
                self._apply(row)

    def _cancel(self, row: Row) -> None:
        if self.state.paused:
            self._note_what_waits()
            pause.end(self.state)
        reason = (row.payload or b"").decode() or "cancelled on request"
        if self.state.contracts is None:
            self._stop_code(SagaStatus.CANCELLED, reason_json("sagabus.cancelled", reason))
        else:
            codeless.cancel(self.state, reason)

    def _fire(self, row: Row) -> None:
        state, kind = self.state, TimerKind(row.name)
        state.clear_timer(kind, row.step)
        step = state.steps.get(row.step)
        if kind is TimerKind.SLEEP:
            self._alive().fire(row.step)
        elif kind is TimerKind.SAGA:
            error = reason_json("sagabus.saga_timeout", "the saga's own timeout has passed")
            self._stop_code(SagaStatus.COMPENSATED, error)
        elif step is not None and kind is TimerKind.RETRY:
            forward.retried(state, step)
        elif step is not None and kind is TimerKind.TIMEOUT:
            forward.timed_out(state, self._alive(), step)
        elif step is not None and kind is TimerKind.UNDO_RETRY:
            undo.retried(state, step)

    def _reply(self, row: Row) -> None:
        state = self.state
        step = state.steps.get(row.step)
        if step is not None and is_first_completion(state, step, row):
            forward.completed(state, self._listener, step, row)
            return
        if step is None or answers_nothing(state, row):
            unexplained.reply(state, step, row)
            return
        match row.kind:
            case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED if state.is_closed and termination.is_unknown(step):
                undo.late_success(state, step, row)
            case kind if step.by_operator and kind in FOR_GOOD:
                unexplained.contradiction(state, step)
            case Kind.STEP_COMPLETED if step.is_open:
                forward.completed(state, self._listener, step, row)
            case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED if operator.settle_was_skipped(step):
                operator.happened_after_skip(state, step)
            case Kind.STEP_COMPLETED if step.outcome is not Outcome.FAILED:
                unexplained.contradiction(state, step)
            case Kind.STEP_COMPLETED:
                undo.late_success(state, step, row)
            case Kind.STEP_REFUSED:
                forward.refused(state, self._listener, step, row)
            case Kind.STEP_FAILED:
                forward.failed(state, self._listener, step, row)
            case Kind.UNDO_COMPLETED if step.undoing is Undoing.SKIPPED:
                operator.skipped_too_late(state, step)
            case Kind.UNDO_COMPLETED:
                undo.undone(state, step)
            case Kind.UNDO_FAILED | Kind.UNDO_REFUSED:
                undo.not_undone(state, step, row)
            case Kind.SETTLE_COMPLETED | Kind.SETTLE_NEVER:
                undo.settled(state, step, row)
            case _:
                undo.unsettled(state, step, row)

    @property
    def _listener(self) -> Listener:
        """Who hears the answers to its steps."""
        return self._alive() if self.state.contracts is None else codeless.NOBODY

    def _alive(self) -> Program:
        if self.program is None:
            raise Blocked("the saga's code is not in memory", "no_code")
        return self.program

    def _run_code(self) -> None:
        state, program = self.state, self.program
        if program is None or state.standing.status in CLOSED:
            return
        for intent in program.pump(state.now):
            intents.carry_out(state, intent, self._code)
        if state.rollbacks is not None:
            self._hear_undone()
        if program.said:
            said, program.said = program.said, []
            state.log(said)
        if program.loop.timers_changed:
            intents.note_timers(state, program)
        if program.mailbox.has_changed:
            intents.note_events(state, program)
        if program.attributes is not None and program.attributes[1] != state.standing.attributes:
            intents.note_attributes(state, program.attributes[1])
        if state.standing.concerns or program.is_stuck:
            note_stuck(state, program)
            unconsumed.note_taken(state, program)

    def _hear_undone(self) -> None:
        """The code goes on where it has waited for an undo, until it waits for something else."""
        state, program = self.state, self.program
        while state.rollbacks is not None and state.rollbacks.done and program is not None:
            done, state.rollbacks.done = state.rollbacks.done, []
            for number in done:
                program.rolled_back(number)
            for intent in program.pump(state.now):
                intents.carry_out(state, intent, self._code)

    def _go_on(self) -> None:
        """After the code has come to rest: give-ups are settled, an end begins or closes the saga."""
        state, program = self.state, self.program
        ended = program.ended if program is not None else state.contracts is not None and state.ending is not None
        if not (ended or state.steps.unsettled or state.standing.status is not _RUNNING):
            return
        if state.standing.status is _RUNNING:
            if ended and state.ending is not None and state.ending is not SagaStatus.COMPLETED:
                undo.begin(state, state.ending)
            else:
                if state.steps.unsettled:
                    undo.settle_given_up(state)
                if ended:
                    undo.close_if_done(state)
        if state.standing.status is not _RUNNING:
            self.evict()

    def _resend(self, number: int) -> None:
        """Another copy of whatever of this step is unanswered. No attempt, and nothing for history but a notice."""
        state = self.state
        state.clear_timer(TimerKind.RESEND, number)
        undo.resend(state, state.steps[number])
        notice = undo.overdue(state, state.steps[number])
        if notice is not None:
            self._note(*notice, Told(NO_ANSWER))

    def resend_outstanding(self, *, now: int) -> None:
        """Copies of all that is unanswered: the bus may have lost what was sent (S6)."""
        self.state.now = max(now, self.state.now)
        if self.stopped is not None or self.state.is_closed:
            return
        steps = self.state.steps
        for number in sorted(steps.being_undone if self.state.paused else steps.open | steps.being_undone):
            undo.resend(self.state, steps[number])

    def drain(self) -> Effects:
        """Rows, messages and timers since the last drain, for one transaction."""
        return self.state.drain()

    def evict(self) -> None:
        """Let the code go; the state stays. Idempotent."""
        program, self.program = self.program, None
        if program is not None:
            program.evict()


def why_stopped(stop: Exception) -> Stop:
    """Anything but Blocked and Divergence is a fault of ours; it stops this saga and no other (H1)."""
    if isinstance(stop, Divergence):
        return Stop(ConcernKind.DIVERGED, str(stop))
    if isinstance(stop, Blocked):
        return Stop(ConcernKind.SPUN if isinstance(stop, Spun) else ConcernKind.BLOCKED, str(stop), stop.code)
    name, line = raised_in(stop)
    place = f" in {name}, line {line}" if name else ""
    words = f"sagabus itself failed, please report it: {type(stop).__name__}: {words_of(stop)}{place}"
    return Stop(ConcernKind.FAULT, words, f"{type(stop).__name__} in {name}")
