"""The forward path: what becomes of a step that the saga's code called."""

from __future__ import annotations

import zlib
from typing import Final, cast

from pydantic import BaseModel

from sagabus.contracts import canonical, codec
from sagabus.contracts.envelope import rfc3339
from sagabus.contracts.errors import ActivityFailed, ActivityTimedOut, MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import (
    FAILURE_UNREADABLE,
    HANDLER_PANICKED,
    ID_REUSED,
    INBOX_EXPIRED,
    NO_HANDLER,
    RETRIES_EXHAUSTED,
    Failure,
    read_failure,
)
from sagabus.contracts.words import plain, words_of
from sagabus.coordinator.core.saga import stand_in
from sagabus.coordinator.core.saga.bodies import remembered
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, Told
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row, words
from sagabus.coordinator.core.saga.journal import Divergence
from sagabus.coordinator.core.saga.program import Blocked, Listener
from sagabus.coordinator.core.saga.reading import OUTPUT, read
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome
from sagabus.coordinator.core.saga.step import FREE, HELD, KEEP, Exchange, Step

FOR_A_PERSON: Final = frozenset((INBOX_EXPIRED, ID_REUSED))
"""The participant cannot tell whether it happened: nothing is repeated, nothing undone, until a person has looked."""

LONGEST_PAUSE_MICROSECONDS: Final = 30 * 86_400 * 1_000_000
"""A participant that asks for a later attempt than in a month means something else."""

SILENCE_MICROSECONDS: Final = 3_600 * 1_000_000
"""How long a saga may wait for an answer, or for its next attempt, until a person is told. A handler outside of a
transaction may take long; a participant that is being deployed, or repaired at once, is none of their business."""

_DO: Final = CommandKind.DO
_COMPLETED: Final = Outcome.COMPLETED
_STEP_COMPLETED: Final = LifecycleType.STEP_COMPLETED
_RESEND, _RETRY, _TIMEOUT = TimerKind.RESEND, TimerKind.RETRY, TimerKind.TIMEOUT
"""What each step needs, looked up once: a member of an enum takes long to find."""


def called(state: SagaState, step: Step) -> None:
    """The code called an activity. Recorded at once; sent unless an undo is under way at the same service (U4)."""
    marks = KEEP if step.abandon == KEEP else ""
    if state.steps.holds.get(step.service):
        step.held = step.waits
        marks = f"{marks} {HELD if step.held else FREE}".lstrip()
    written = state.decide(Kind.COMMAND, step=step.number, name=step.activity, ref=marks, payload=step.body)
    if written.payload != step.body:
        _kept_its_place(state, step, written)
        step.body = written.payload or step.body  # as it was sent: a copy with other bytes is another command (P6)
    state.steps.add(step)
    if not step.held:
        first_send(state, step)


def registered(state: SagaState, step: Step) -> None:
    """What undoes what no step has done: it has its place in the order of undoing, and nobody is asked now (U13)."""
    written = state.decide(Kind.ON_ROLLBACK, step=step.number, name=step.activity, payload=step.body)
    step.undo_input = step.body = written.payload or step.body
    step.do = Exchange(issued=state.now, attempt=0)
    step.outcome = _COMPLETED
    state.steps.put(step)
    state.completions.append(step.number)


def _kept_its_place(state: SagaState, step: Step, written: Row) -> None:
    """Payloads are not compared; but two calls of one activity that have changed places would get each other's answers.

    Another order of steps, as another Python brings (H7), shows by nothing else then. Raises Divergence.
    """
    sent = _read_as(step, written.payload)
    if sent == step.input:  # a set is written in another order in each process
        return
    other = state.journal.ahead(Kind.COMMAND, step.activity, step.body)
    if other is not None:
        said = f"history has {words(written)}, the code now makes there what history has as {words(other)}"
        raise Divergence(said, reordered=True, written=written, made=other)
    if sent is not None and not state.other_input:
        state.other_input = _other_fields(step, sent)


def _read_as(step: Step, body: bytes | None) -> BaseModel | None:
    """None for what an older contract wrote and this one does not read."""
    try:
        return cast("BaseModel", codec.decode(step.contract.input, body, what=step.activity))
    except MessageInvalid:
        return None


def _other_fields(step: Step, sent: BaseModel) -> str:
    """Which fields the code has made anew, in words. What a model fills in by itself the code has not made."""
    made = step.input
    others = [name for name in type(made).model_fields if name in made.model_fields_set]
    others = [name for name in others if getattr(made, name) != getattr(sent, name)]
    if not others:
        return ""
    return (
        f"step {step.number} ({step.activity}) was sent with another {', '.join(others)} than the code makes now. What "
        "was sent counts; but each restart gives the code another value. Clocks, randomness and ids come from ctx: "
        "ctx.now(), ctx.random(), ctx.uuid()"
    )


def first_send(state: SagaState, step: Step) -> None:
    """Timeouts count from here (H3)."""
    step.do.issued = state.now
    if step.timeout is not None:
        state.set_timer(_TIMEOUT, step.number, state.now + step.timeout)
    state.send_command(step, _DO)


def release(state: SagaState, service: str) -> None:
    """An undo at this service is done: what was held back for it may go, unless another is still under way."""
    if state.steps.holds.get(service):
        return
    for number in state.steps.held.pop(service, ()):
        step = state.steps[number]
        step.held = False
        if step.is_open:
            first_send(state, step)


def completed(state: SagaState, program: Listener, step: Step, row: Row) -> None:
    """`completed` counts from any attempt (P2)."""
    output = take_output(state, step, row)
    _answered(state, step)
    program.complete(step.number, output)


def take_output(state: SagaState, step: Step, row: Row) -> BaseModel | None:
    """The step is known as completed: its place in the order of undoing, and the undo's input, are fixed now (U1)."""
    replaying = state.journal.replaying
    output = None if replaying and _heard_without_code(state, step) else _output(state, step, row)
    state.steps.becomes(step, _COMPLETED)
    state.completions.append(step.number)
    if state.contracts is not None:
        stand_in.store_undo_input(state, step, row.payload)
    elif not (replaying and _heard_without_code(state, step)):  # asked again: `_output` may have taken its row
        _store_undo_input(state, step, output)
    body = row.payload if step.contract.output_model is not None else None
    step.output = remembered(row.payload)
    state.tell(_STEP_COMPLETED, step=step, output=body)
    return output


def _heard_without_code(state: SagaState, step: Step) -> bool:
    """In a replay: what a closed saga heard while its code was gone. Nobody has read it, and nothing was decided."""
    if not state.is_closed:
        return False
    written = state.journal.next_decision
    return written is None or written.kind not in (Kind.READ, Kind.UNDO_INPUT) or written.step != step.number


def _output(state: SagaState, step: Step, row: Row) -> BaseModel | None:
    """Raises Blocked where a contract that was deployed since does not read what another one did."""
    try:
        output, kept = read_output(state, step, row.payload)
    except MessageInvalid as error:
        words = f"step {step.number}: {error.message}; deploy a contract that reads it"
        raise Blocked(words, f"output_unreadable {step.number}") from error
    state.output = None
    if kept is not None:
        state.decide(Kind.READ, step=step.number, name=OUTPUT, payload=kept)
    return output


def read_output(state: SagaState, step: Step, payload: bytes | None) -> tuple[BaseModel | None, bytes | None]:
    """See `reading.read`. Read once for each reply: it is asked for before the reply is taken, and after. Raises
    MessageInvalid."""
    model = step.contract.output_model
    if model is None:
        return None, None
    found = state.output
    if found is None or found[0] is not payload:
        read_as = read(state.journal, OUTPUT, step.number, model, payload, f"output of {step.activity}")
        found = state.output = (payload, *read_as)
    return found[1], found[2]


def check_refusal(answer: Input | Row) -> None:
    """Raises MessageInvalid if it does not say why: it would be final, and nobody would know what for."""
    failure = failure_of(answer)
    if failure.code == FAILURE_UNREADABLE:
        raise MessageInvalid("payload.invalid", failure.message)


def unreadable(state: SagaState, step: Step, fault: MessageInvalid, kind: Kind) -> tuple[Concern, str]:
    """What a person is told of a final answer, of this kind, that nobody can read."""
    what, after = f"step {step.number} ({step.activity})", ""
    if kind is Kind.STEP_REFUSED:
        return step_concern(step), f"{what} is refused, and why cannot be read: {fault.message}; it is asked for again"
    if state.is_closed:
        concern = Concern(ConcernKind.LATE_SUCCESS, step.number)
    elif kind is Kind.SETTLE_COMPLETED:
        concern = Concern(ConcernKind.SETTLE, step.number)
    elif step.is_open:
        concern = step_concern(step)
    else:
        concern = Concern(ConcernKind.LATE_SUCCESS, step.number)
    if concern.kind is not ConcernKind.LATE_SUCCESS:
        after = f"; it is asked for again: repair {step.service}, or deploy a contract that reads it"
    return concern, f"{what} has completed, and its output cannot be read: {fault.message}{after}"


def _store_undo_input(state: SagaState, step: Step, output: BaseModel | None) -> None:
    compensation, fill = step.contract.compensation, step.contract.fill
    if compensation is None or fill is None:
        return
    try:
        sent = _as_sent(step) if fill.takes_input else step.input
        made = codec.checked(codec.encode(fill(sent, output)))
    except (Exception, SystemExit) as error:  # the author's function: an undo without an input needs an operator
        made, step.undo_fault = b"", f"{type(error).__name__}: {words_of(error)}"
    fault = plain(step.undo_fault) if step.undo_fault else ""
    written = state.decide(Kind.UNDO_INPUT, step=step.number, name=compensation.name, ref=fault, payload=made)
    step.undo_input = written.payload or None


def _as_sent(step: Step) -> BaseModel:
    """The input that the participant got. The saga's own may have been changed since, or be made anew by a replay."""
    if canonical.writes(step.input, step.body):
        return step.input
    try:
        return cast("BaseModel", codec.decode(step.contract.input, step.body, what=step.activity))
    except MessageInvalid:  # of an older contract
        return step.input


def _answered(state: SagaState, step: Step) -> None:
    state.clear_timer(_RESEND, step.number)
    state.clear_timer(_RETRY, step.number)
    if step.timeout is not None:
        state.clear_timer(_TIMEOUT, step.number)
    if state.concerns:
        state.clear_concern(step_concern(step))
        state.clear_concern(pause_concern(step))


def refused(state: SagaState, program: Listener, step: Step, row: Row) -> None:
    """A business rejection: final at once, and known not to have happened."""
    failure = failure_of(row)
    _answered(state, step)
    state.steps.becomes(step, Outcome.FAILED)
    _tell_failed(state, step, failure)
    program.fail(step.number, _failed(step, failure.code, failure.message, failure.details))


def failed(state: SagaState, program: Listener, step: Step, row: Row) -> None:
    """An attempt failed. Repeated with a durable pause; when the policy is used up the outcome is unknown (U1)."""
    failure = failure_of(row)
    if failure.code in FOR_A_PERSON:
        state.clear_timer(TimerKind.RESEND, step.number)
        step.do.resting = True
        words = f"step {step.number} ({step.activity}): {failure.code}: {failure.message}"
        state.raise_concern(step_concern(step), words, Told(failure.code))
        return
    step.do.failures += failure.again_after is None and failure.code != NO_HANDLER
    _tell_failed(state, step, failure)
    if not _may_be_tried(state, step, failure, row):
        _exhausted(state, program, step, failure)
        return
    state.steps.becomes(step, Outcome.PAUSED)
    state.clear_timer(TimerKind.RESEND, step.number)
    until = state.now + pause(state, step, failure)
    state.set_timer(TimerKind.RETRY, step.number, until)
    _say_why_it_waits(state, step, failure)
    say_pause(state, step, f"step {step.number} ({step.activity})", failure, until)


def _may_be_tried(state: SagaState, step: Step, failure: Failure, row: Row) -> bool:
    """Nobody who handles it, and a TryAgain, are no failures; but the latter's time is up as any other's (B9)."""
    waited = state.now - step.do.issued
    if failure.code == NO_HANDLER or state.pivot is not None:
        return True
    if failure.again_after is None:
        return step.retry.allows(step.do.failures, waited)
    if state.journal.replaying and not state.journal.decides_after(row):
        return True  # as older releases did
    return step.retry.allows(0, waited)


def _say_why_it_waits(state: SagaState, step: Step, failure: Failure) -> None:
    waited = state.now - step.do.issued
    if failure.code == NO_HANDLER:
        words = f"step {step.number}: nobody handles {step.activity}; deploy a participant that does"
        state.raise_concern(step_concern(step), words, Told(failure.code))
    elif failure.code == HANDLER_PANICKED:
        words = f"step {step.number}: the handler of {step.activity} panicked: {failure.message}"
        state.raise_concern(step_concern(step), words, Told(failure.code))
    elif odd := oddity(failure):
        words = f"step {step.number} ({step.activity}) has failed: {odd}"
        state.raise_concern(step_concern(step), words, Told(failure.code))
    elif waited >= SILENCE_MICROSECONDS:
        why = "it has failed" if failure.again_after is None else f"{step.service} has asked for another attempt"
        words = (
            f"step {step.number} ({step.activity}): {why} for {waited // 3_600_000_000} h: "
            f"{failure.code}: {failure.message}"
        )
        state.raise_concern(step_concern(step), words, Told(failure.code))
    else:
        state.clear_concern(step_concern(step))


def oddity(failure: Failure) -> str:
    """What its participant must be told, in words. It counts all the same: only its pause rests on what it says."""
    if failure.code == FAILURE_UNREADABLE:
        return f"what it says cannot be read: {failure.message}"
    if (failure.again_after or 0.0) < 0:
        return f"its again_after is {failure.again_after:g} s, which counts as 0: {failure.code}: {failure.message}"
    return ""


def say_pause(state: SagaState, step: Step, what: str, failure: Failure, until: int) -> None:
    """A pause that is longer than anybody may be silent is told as it begins. what: that is to be tried again."""
    if until - state.now <= SILENCE_MICROSECONDS:
        return
    asked = "" if failure.again_after is None else f", as {step.service} asked (again_after={failure.again_after:g} s)"
    words = f"{what}: the next attempt is at {rfc3339(until).decode()}{asked}: {failure.code}: {failure.message}"
    state.raise_concern(pause_concern(step), words, Told(failure.code))


def _exhausted(state: SagaState, program: Listener, step: Step, failure: Failure) -> None:
    _answered(state, step)
    state.steps.becomes(step, Outcome.UNKNOWN)
    tried = f"{step.do.failures} attempts failed" if failure.again_after is None else "its time for attempts is up"
    message = f"{tried}, the last with {failure.code}: {failure.message}"
    details = {"last": failure.model_dump(mode="json", exclude={"again_after"})}
    program.fail(step.number, _failed(step, RETRIES_EXHAUSTED, message, details))


def retried(state: SagaState, step: Step) -> None:
    """The pause is over: the next attempt."""
    step.do.attempt += 1
    step.do.resting = False
    if step.outcome is Outcome.PAUSED:
        state.steps.becomes(step, Outcome.SENT)
    state.clear_concern(pause_concern(step))
    state.send_command(step, CommandKind.DO)


def timed_out(state: SagaState, program: Listener, step: Step) -> None:
    """No answer in time: the saga goes on, and the outcome is to be settled."""
    give_up(state, step)
    program.fail(step.number, ActivityTimedOut(activity=step.activity, step=step.number, attempts=step.do.attempt))


def give_up(state: SagaState, step: Step) -> None:
    """The saga does not wait for this step any more. One that was never sent is known not to have happened."""
    if not step.is_open:
        return
    _answered(state, step)
    state.steps.becomes(step, Outcome.UNKNOWN)
    if step.held:
        state.steps.let_go(step)
        state.steps.becomes(step, Outcome.NEVER)


def pause(state: SagaState, step: Step, failure: Failure) -> int:
    """Microseconds until the next attempt. The jitter comes from the ids, so that a replay has the same."""
    uncounted = failure.code == NO_HANDLER or failure.again_after is not None
    growing = step.do.attempt if uncounted else max(step.do.failures, 1)
    return max(asked(failure), step.retry.pause(growing, chance(state, step.number, step.do.attempt)))


def asked(failure: Failure) -> int:
    """Microseconds that the participant wants to be left alone."""
    return round(
        max(0.0, min((failure.again_after or 0.0) * 1_000_000, LONGEST_PAUSE_MICROSECONDS))
    )  # of 1e308 it is an infinity


def chance(state: SagaState, number: int, attempt: int) -> float:
    """Evenly spread in [0, 1), the same for the same saga, step and attempt."""
    return zlib.crc32(f"{state.id}:{state.run}:{number}:{attempt}".encode()) / 2**32


def failure_of(answer: Input | Row) -> Failure:
    """What the participant says. One that cannot be read is a failure too: a reply is never the end of a saga's way."""
    try:
        return read_failure(answer.payload)
    except MessageInvalid as error:
        return Failure(code=FAILURE_UNREADABLE, message=error.message)


def step_concern(step: Step) -> Concern:
    return Concern(ConcernKind.STEP, step.number)


def pause_concern(step: Step) -> Concern:
    return Concern(ConcernKind.PAUSE, step.number)


def _tell_failed(state: SagaState, step: Step, failure: Failure) -> None:
    error = codec.encode_value(failure.model_dump(mode="json", exclude={"again_after"}))
    state.tell(LifecycleType.STEP_FAILED, step=step, error=error)


def _failed(step: Step, code: str, message: str, details: object) -> ActivityFailed:
    return ActivityFailed(
        activity=step.activity, step=step.number, attempts=step.do.attempt, code=code, message=message,
        details=dict(details) if isinstance(details, dict) else {},
    )  # fmt: skip
