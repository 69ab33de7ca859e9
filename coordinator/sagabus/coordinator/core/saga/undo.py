"""The way back: settling what is unknown, undoing what is known, in reverse order of completion, one at a time.

Theory of operation. A saga fails, is cancelled, or lets a step go. From then on each step is in one of three places:

- *It did not happen*: refused, never sent, or settled as `never`. There is nothing to do.
- *Nobody knows*: it timed out, was given up while it was open, or its attempts are used up. Its participant is asked
  once and for all, by a settle (U1): either it has happened, and the answer brings its output, or the participant
  leaves a tombstone and it never will. Only then is it known whether an undo is right.
- *It happened*: its compensation is sent, with the input that was computed when the step completed, and then repeated
  until it succeeds (U2). An undo that fails is never given up; after some failures, or a refusal, an operator is
  told, who alone may skip it (U6, U8).

While the saga runs, what its code lets go is settled and undone at once, side by side with what the code does next
(`settle_given_up`): the code may go on to another supplier. When the saga itself fails, `begin` gives up all that is
open and writes the plan: what is unknown first, the highest number first, then what completed, the last first (U5).
`advance` takes the next step of the plan when nothing is under way. A step of which a late reply says that it has
happened after all comes to the front of the plan (P2). The saga closes when plan and steps under way are both empty
(U3).

Its code may ask for the undo of some steps while the saga goes on, of a scope or of one call: see `rollback`.

As long as a step is being settled or undone it *holds its service*: no new command of the saga goes there, for it
might overtake the undo and be undone with it (U4). Such commands are held back, and let go by `forward.release`.

None of it needs the saga's code: the inputs of the undos are rows. This module must never call it, and must never
look through all steps: what is not at rest stands in `Steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sagabus.contracts import codec
from sagabus.contracts.activity import retry_of
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import HANDLER_PANICKED, NO_HANDLER, Failure
from sagabus.coordinator.core.saga import forward
from sagabus.coordinator.core.saga.concern import BROKEN_ANSWER, NO_INPUT, Concern, ConcernKind, Told
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.rollback import Rollback, Rollbacks, plan_json, planned
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import TOLD, Exchange, Step

UNDO_FAILURES_BEFORE_ATTENTION: Final = 5
"""About half a minute at the default pauses."""


def begin(state: SagaState, ending: SagaStatus) -> None:
    """The saga failed or was cancelled: plan the way back, and take the first step of it (U5)."""
    state.ending = ending
    for number in sorted(state.steps.open):
        forward.give_up(state, state.steps[number])
    if state.rollbacks is not None:
        state.rollbacks.drop(state.steps)
    state.becomes(SagaStatus.COMPENSATING)
    unknown = sorted(state.steps.unsettled, reverse=True)
    to_undo = state.completions[state.pivot or 0 :]
    known = (n for n in reversed(to_undo) if state.steps[n].undoing is Undoing.NONE)
    state.plan.extend((*unknown, *known))
    advance(state)


def settle_given_up(state: SagaState) -> None:
    """Steps that the saga gave up are settled at once, whatever it does next (U3, U4)."""
    for number in sorted(state.steps.unsettled):
        start(state, state.steps[number])


def roll_back(state: SagaState, number: int, members: Sequence[int], *, even_kept: bool) -> None:
    """The code has asked for the undo of these steps (U11, U12). Those of which nothing is left to be done, or that are
    being undone already, are not begun again. even_kept: also given-up ones that were to be left as they are."""
    settle, undo = planned(state.steps, members, state.completions, even_kept=even_kept)
    others = [one for one in members if state.steps[one].is_being_undone]
    if settle or undo:
        state.decide(Kind.ROLLBACK, payload=plan_json(settle, undo))
    for one in (*settle, *undo):
        state.steps.undo_becomes(state.steps[one], Undoing.PLANNED)
    if state.rollbacks is None:
        state.rollbacks = Rollbacks()
    state.rollbacks.running[number] = Rollback((*settle, *undo), others)
    advance_rollbacks(state)


def advance_rollbacks(state: SagaState) -> None:
    """The next step of each, unless one of its steps is under way. Those that are through are noted as done."""
    if state.rollbacks is not None:
        while (step := state.rollbacks.next_step(state.steps, paused=state.paused)) is not None:
            start(state, step)


def start(state: SagaState, step: Step) -> None:
    """Settle a step of unknown outcome; undo a completed one, if it has a compensation."""
    if step.outcome is Outcome.UNKNOWN:
        state.steps.undo_becomes(step, Undoing.SETTLING)
        step.settle = Exchange(issued=state.now)
        state.decide(Kind.SETTLE, step=step.number, name=step.activity, ref=TOLD)
        state.send_command(step, CommandKind.SETTLE)
    elif step.outcome is Outcome.COMPLETED and step.contract.compensation is not None:
        _start_undo(state, step, step.contract.compensation.name)
    else:
        state.steps.undo_becomes(step, Undoing.DONE)


def _start_undo(state: SagaState, step: Step, compensation: str) -> None:
    if step.undo_input is None:
        state.steps.undo_becomes(step, Undoing.BLOCKED)
        words = (
            f"step {step.number}: the input of {compensation or 'what undoes it'} could not be made: "
            f"{step.undo_fault or 'why is not in its history'}"
        )
        state.raise_concern(undo_concern(step), words, Told(NO_INPUT))
        return
    state.steps.undo_becomes(step, Undoing.SENT)
    step.undo = Exchange(issued=state.now)
    state.decide(Kind.UNDO, step=step.number, name=compensation, payload=step.undo_input)
    state.send_command(step, CommandKind.UNDO)


def advance(state: SagaState) -> None:
    """The next step of the plan, once nothing is under way; at its end the saga closes (U3)."""
    while not state.steps.being_undone:
        if not state.plan:
            close_if_done(state)
            return
        start(state, state.steps[state.plan.popleft()])


def settled(state: SagaState, step: Step, row: Row) -> None:
    """The participant has said it once and for all."""
    _no_settle(state, step)
    if row.kind is Kind.SETTLE_NEVER:
        state.steps.becomes(step, Outcome.NEVER)
        state.steps.undo_becomes(step, Undoing.DONE)
    else:
        forward.take_output(state, step, row)
        start(state, step)
    _after(state, step)


def unsettled(state: SagaState, step: Step, row: Row) -> None:
    """It cannot say: it is asked again after a pause, if there is hope that it will say something else."""
    failure = forward.failure_of(row)
    settle = step.exchange(CommandKind.SETTLE)
    settle.failures += 1
    settle.resting = True
    state.clear_timer(TimerKind.RESEND, step.number)
    what = f"step {step.number} ({step.activity}) cannot be settled"
    if failure.code not in forward.FOR_A_PERSON:
        until = state.now + max(forward.asked(failure), _settle_pause(state, step, settle))
        state.set_timer(TimerKind.UNDO_RETRY, step.number, until)
        forward.say_pause(state, step, what, failure, until)
    state.raise_concern(settle_concern(step), f"{what}: {failure.code}: {failure.message}", Told(failure.code))


def _settle_pause(state: SagaState, step: Step, settle: Exchange) -> int:
    """Microseconds, by the step's own policy: a settle is a question about the step."""
    return step.retry.pause(settle.failures, forward.chance(state, -step.number, -settle.failures))


def undone(state: SagaState, step: Step) -> None:
    _no_timers(state, step)
    state.steps.undo_becomes(step, Undoing.DONE)
    _no_concern(state, step)
    state.tell(LifecycleType.COMPENSATION_COMPLETED, step=step, name=compensation_of(step))
    _after(state, step)


def over(state: SagaState, step: Step) -> None:
    """The settle or the undo was skipped: nobody need look any more, and the next one follows."""
    _no_concern(state, step)
    _after(state, step)


def _no_settle(state: SagaState, step: Step) -> None:
    _no_timers(state, step)
    state.clear_concern(settle_concern(step))
    state.clear_concern(forward.pause_concern(step))


def _no_timers(state: SagaState, step: Step) -> None:
    for kind in (TimerKind.RESEND, TimerKind.UNDO_RETRY):
        state.clear_timer(kind, step.number)


def _no_concern(state: SagaState, step: Step) -> None:
    for concern in (undo_concern(step), settle_concern(step), forward.pause_concern(step)):
        state.clear_concern(concern)


def not_undone(state: SagaState, step: Step, row: Row) -> None:
    """Retried without end; a refusal, or failing again and again, needs operator action (U6)."""
    failure = forward.failure_of(row)
    undo = step.exchange(CommandKind.UNDO)
    undo.failures += 1
    state.steps.undo_becomes(step, Undoing.PAUSED)
    state.clear_timer(TimerKind.RESEND, step.number)
    error = codec.encode_value(failure.model_dump(mode="json", exclude={"again_after"}))
    state.tell(LifecycleType.COMPENSATION_FAILED, step=step, name=compensation_of(step), error=error)
    hopeless = row.kind is Kind.UNDO_REFUSED or failure.code in forward.FOR_A_PERSON | {NO_HANDLER, HANDLER_PANICKED}
    odd = forward.oddity(failure)
    if hopeless or odd or undo.failures >= UNDO_FAILURES_BEFORE_ATTENTION:
        words = f"{words_for(step)}: {odd or f'{failure.code}: {failure.message}'}"
        state.raise_concern(undo_concern(step), words, Told(failure.code))
    else:
        state.clear_concern(undo_concern(step))
    if failure.code not in forward.FOR_A_PERSON:  # the inbox will not say anything else the next time
        until = state.now + _pause(state, step, failure)
        state.set_timer(TimerKind.UNDO_RETRY, step.number, until)
        forward.say_pause(state, step, words_for(step), failure, until)


def retried(state: SagaState, step: Step) -> None:
    """The pause of a settle or of an undo is over. A settle has no attempts of its own: it speaks of the step (P4)."""
    if step.undoing is Undoing.SETTLING:
        step.exchange(CommandKind.SETTLE).resting = False
        state.clear_concern(forward.pause_concern(step))
        state.send_command(step, CommandKind.SETTLE)
        return
    step.exchange(CommandKind.UNDO).attempt += 1
    state.steps.undo_becomes(step, Undoing.SENT)
    state.clear_concern(forward.pause_concern(step))
    state.send_command(step, CommandKind.UNDO)


def resend(state: SagaState, step: Step) -> None:
    """Another copy of whatever is unanswered, the attempt kept (P2)."""
    kind = step.unanswered
    if kind is not None:
        state.send_command(step, kind, again=True)


def overdue(state: SagaState, step: Step) -> tuple[Concern, str] | None:
    """What a person is to be told when nobody has answered for `SILENCE_MICROSECONDS`; once until somebody does.

    A saga must not wait in silence for a participant that nobody has deployed, or whose replies Kafka refuses.
    """
    kind = step.unanswered
    if kind is None:
        return None
    since = step.exchange(kind).sent_at
    if kind is CommandKind.DO:
        since = max(since, state.resumed_at)  # while it was paused nobody was asked again
    waited = state.now - since
    if waited < forward.SILENCE_MICROSECONDS:
        return None
    concern, what = _unanswered_concern(step, kind)
    if concern in state.concerns:
        return None
    words = (
        f"{what}: no answer for {waited // 60_000_000} min, though it was sent again and again: is "
        f"{step.service} deployed, and can it publish? Its log and `sagabus doctor` say so"
    )
    return concern, words


def broken_answer(state: SagaState, step: Step, notice: Input) -> tuple[Concern, str, Told] | None:
    """What a person is to be told of an answer to what is unanswered, of which not even the headers can be read.

    Once, until somebody answers as he must. None if there is nothing to tell. notice: its name is the kind of concern
    of the command that was answered, its payload what is wrong, in words.
    """
    kind = step.unanswered
    if kind is None:
        return None
    concern, what = _unanswered_concern(step, kind)
    if concern.kind != notice.name or concern in state.concerns:
        return None
    fault = (notice.payload or b"").decode()
    words = f"{what}: an answer counts for nothing, and is a dead letter: {fault}; it is asked for again"
    return concern, words, Told(BROKEN_ANSWER, step.exchange(kind).attempt)


def _unanswered_concern(step: Step, kind: CommandKind) -> tuple[Concern, str]:
    """And what it is, for a person."""
    if kind is CommandKind.UNDO:
        return undo_concern(step), words_for(step)
    if kind is CommandKind.SETTLE:
        return settle_concern(step), f"settle of step {step.number} ({step.activity})"
    return forward.step_concern(step), f"step {step.number} ({step.activity})"


def late_success(state: SagaState, step: Step, row: Row) -> None:
    """A step counted as failed has happened after all: it is undone; after the end a person must look (P2)."""
    forward.take_output(state, step, row)
    if state.is_closed:
        succeeded_after_end(state, step)
    elif state.status is SagaStatus.COMPENSATING and not state.paused:
        state.plan.appendleft(step.number)
        advance(state)
    elif not state.paused:  # while it is paused only a termination comes here, which undoes nothing
        start(state, step)


def succeeded_after_end(state: SagaState, step: Step) -> None:
    """Nothing is sent any more: a person must look (P2)."""
    words = f"step {step.number} ({step.activity}) succeeded after the saga had ended"
    state.raise_concern(Concern(ConcernKind.LATE_SUCCESS, step.number), words, Told("succeeded"))


def go_on(state: SagaState) -> None:
    """What a pause has kept from beginning: held commands, the next step of the plan, the end of the saga."""
    if state.is_closed:
        return
    for service in [*state.steps.held]:
        forward.release(state, service)
    advance_rollbacks(state)
    if state.status is SagaStatus.COMPENSATING:
        advance(state)


def close_if_done(state: SagaState) -> None:
    """A saga closes only when every settle and undo is done (U3)."""
    if state.ending is None or state.plan or state.steps.being_undone:
        return
    state.clear_timers()
    state.becomes(state.ending)
    if state.ending is SagaStatus.COMPLETED:
        state.tell(LifecycleType.COMPLETED, result=state.result)
    else:
        compensated = state.ending is SagaStatus.COMPENSATED
        state.tell(LifecycleType.COMPENSATED if compensated else LifecycleType.CANCELLED, error=state.error)


def _after(state: SagaState, step: Step) -> None:
    """Nothing follows on it while the saga is paused; see `go_on`."""
    if step.is_being_undone or state.paused:
        return
    forward.release(state, step.service)
    advance_rollbacks(state)
    if state.status is SagaStatus.COMPENSATING:
        advance(state)


def undo_concern(step: Step) -> Concern:
    return Concern(ConcernKind.UNDO, step.number)


def words_for(step: Step) -> str:
    """For a person."""
    return f"undo of step {step.number} ({compensation_of(step)})"


def settle_concern(step: Step) -> Concern:
    return Concern(ConcernKind.SETTLE, step.number)


def compensation_of(step: Step) -> str:
    return "" if step.contract.compensation is None else step.contract.compensation.name


def _pause(state: SagaState, step: Step, failure: Failure) -> int:
    assert step.contract.compensation is not None
    policy = retry_of(step.contract.compensation)
    undo = step.exchange(CommandKind.UNDO)
    luck = forward.chance(state, -step.number, undo.attempt)
    return max(forward.asked(failure), policy.pause(undo.failures, luck))
