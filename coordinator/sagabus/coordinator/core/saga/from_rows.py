"""How far the steps of a saga are, told by its rows alone: for one whose code cannot follow them (U8).

The rows of a history are complete: each input with all decisions upon it, up to where the saga stopped. What is not in
them is how an author wants a step to be tried again; it does not matter any more, since what is open is given up.

Inputs are taken in the order in which they were decided upon, decisions behind the input that they follow on. Nothing
is decided here, nothing is sent, and no concern is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sagabus.contracts.names import CommandKind
from sagabus.contracts.requests import RequestType
from sagabus.coordinator.core.saga import completion, forward, operator, pause, request_answers, stand_in
from sagabus.coordinator.core.saga.admission import FOR_GOOD, REPLIES, answers_nothing, denial
from sagabus.coordinator.core.saga.bodies import remembered
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.holds import Holds
from sagabus.coordinator.core.saga.order import set_aside
from sagabus.coordinator.core.saga.rollback import Rollback, Rollbacks, plan_of
from sagabus.coordinator.core.saga.state import SagaState, Same
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import TOLD, Exchange, Step


def read_back(state: SagaState, inputs: Sequence[Row], decisions: Iterable[Row]) -> list[Row]:
    """Bring the state to where these rows have led. Returns the inputs that wait for the end of a pause.

    state: a new one. inputs: those decided upon, in that order. decisions: those before the row that follows.
    """
    reader = _Reader(state)
    ahead, reached = [*decisions][::-1], 0
    aside = set_aside(inputs)
    for row in inputs:
        if row.seq in aside:
            continue
        if row.seq > reached:  # else it was kept, and is decided upon out of its place
            reached = row.seq
            while ahead and ahead[-1].seq < row.seq:
                reader.decided(ahead.pop())
        reader.taken(row)
    while ahead:
        reader.decided(ahead.pop())
    return reader.end()


class _Reader:
    """to_undo: steps that turned out to have happened after the code had let them go; their undo begins at once.
    after_end: the same while the saga is undone; they come first in its plan. in_place: of which an operator has said
    so then; they are undone where they would have been settled."""

    def __init__(self, state: SagaState) -> None:
        self._state = state
        self._at = 0
        self._paused = False
        self._waiting: dict[Same, Row] = {}
        self._just_called: list[Step] = []
        self._answers: list[tuple[int, Step, Outcome]] = []
        """Since the last decision: the row of each answer to an open step, and what was known of the step before."""
        self._to_undo: set[int] = set()
        self._after_end: set[int] = set()
        self._in_place: set[int] = set()
        self._holds = Holds()

    def taken(self, row: Row) -> None:
        """An input."""
        self._close_turn()
        self._at = max(self._at, row.at)
        self._state.journal.size += len(row.payload or b"")
        self._take(row)

    def _take(self, row: Row) -> None:
        if self._paused and pause.waits(row):
            self._waiting.setdefault(pause.same(row), row)
            return
        match row.kind:
            case Kind.STARTED:
                self._state.started_at = row.at
            case Kind.EVENT:
                self._state.seen_events.add(row.ref)
            case Kind.TIMER:
                self._fired(row)
            case Kind.OPERATOR:
                request_answers.note(self._state, row)
                self._asked(row)
            case Kind.CANCEL:
                request_answers.note(self._state, row)
                self._goes_on()
            case Kind.NOTICE if request_answers.is_refusal(row):
                request_answers.note(self._state, row)
            case kind if kind in REPLIES:
                self._replied(row)
            case _:
                pass

    def decided(self, row: Row) -> None:
        """A decision upon the last input, or upon those that were kept."""
        self._state.journal.size += len(row.payload or b"")
        answers, self._answers = self._answers, []
        if row.kind is Kind.ENDED and row.ref:
            self._take_back(answers, after=int(row.ref))
        if row.kind is Kind.COMMAND:
            self._called(row)
        elif row.kind is Kind.ENDED:
            self._ended(row)
        elif row.kind is Kind.ROLLBACK:
            self._rolled_back(row)
        elif row.kind is Kind.ON_ROLLBACK:
            self._registered(row)
        elif row.kind is Kind.PIVOT:
            self._state.pivot = len(self._state.completions)
        elif (step := self._state.steps.get(row.step)) is not None:
            self._decided_of(step, row)

    def end(self) -> list[Row]:
        """The steps are put where they belong. Returns what waits."""
        state = self._state
        self._close_turn()
        steps, state.steps = state.steps, type(state.steps)()
        for step in steps.values():
            state.steps.put(step)
        if not self._may_end_well:
            known = [number for number in reversed(state.completions) if steps[number].undoing is Undoing.NONE]
            in_place = self._in_place.intersection(known)
            first = self._after_end - in_place
            state.plan.extend(number for number in known if number in first)
            state.plan.extend(sorted(state.steps.unsettled | in_place, reverse=True))
            state.plan.extend(number for number in known if number not in first | in_place)
        return [*self._waiting.values()]

    @property
    def _may_end_well(self) -> bool:
        """It is not being undone as a whole."""
        return self._state.ending in (None, SagaStatus.COMPLETED)

    # Steps.

    def _called(self, row: Row) -> None:
        step = stand_in.step(row)
        step.do.issued = step.do.sent_at = self._at
        self._holds.called(step, row.ref.split())
        self._state.steps[step.number] = step
        self._just_called.append(step)

    def _registered(self, row: Row) -> None:
        """What no participant has done, and has its place in the order of undoing."""
        step = stand_in.step(row, compensation=row.name)
        step.do = Exchange(issued=self._at, attempt=0)
        step.outcome, step.undo_input = Outcome.COMPLETED, row.payload
        self._state.steps[step.number] = step
        self._state.completions.append(step.number)

    def _replied(self, row: Row) -> None:
        state = self._state
        step = state.steps.get(row.step)
        if step is None or answers_nothing(state, row) or denial(state, row) is not None:
            return
        if step.is_open:
            self._answers.append((row.seq, step, step.outcome))
        match row.kind:
            case kind if step.by_operator and kind in FOR_GOOD:
                step.contradicted = True
            case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED if step.outcome in (Outcome.COMPLETED, Outcome.NEVER):
                step.contradicted = True
            case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED:
                self._completed(step, row)
            case Kind.STEP_REFUSED:
                step.outcome = Outcome.FAILED
            case Kind.STEP_FAILED if _is_for_a_person(row):
                step.do.resting = True
            case Kind.STEP_FAILED:
                step.outcome = Outcome.PAUSED
            case Kind.SETTLE_NEVER:
                step.outcome, step.undoing = Outcome.NEVER, Undoing.DONE
            case Kind.SETTLE_FAILED:
                settle = step.exchange(CommandKind.SETTLE)
                settle.failures, settle.resting = settle.failures + 1, True
            case Kind.UNDO_COMPLETED if step.undoing is not Undoing.SKIPPED:
                step.undoing = Undoing.DONE
            case Kind.UNDO_FAILED | Kind.UNDO_REFUSED:
                step.undoing = Undoing.PAUSED
                step.exchange(CommandKind.UNDO).failures += 1
            case _:
                pass

    def _completed(self, step: Step, row: Row) -> None:
        if not step.is_open:
            (self._to_undo if self._may_end_well else self._after_end).add(step.number)
        step.outcome, step.undoing = Outcome.COMPLETED, Undoing.NONE
        step.output = remembered(row.payload)
        self._state.completions.append(step.number)

    def _decided_of(self, step: Step, row: Row) -> None:
        if row.kind is Kind.SETTLE:
            self._let_go()
            if step.outcome is Outcome.COMPLETED:  # said by a reply that was kept, and that came too late then
                self._state.completions.remove(step.number)
                step.output = None
            step.outcome, step.undoing = Outcome.UNKNOWN, Undoing.SETTLING
            step.settle = Exchange(issued=self._at, sent_at=self._at)
            self._holds.begins(step)
            if row.ref != TOLD:  # of an older release
                self._hold_back(step)
        elif row.kind is Kind.UNDO_INPUT:
            step.contract = stand_in.contract(step.activity, row.name)
            step.undo_input, step.undo_fault = row.payload or None, row.ref or None
        elif row.kind is Kind.UNDO:
            step.undoing, step.undo_input = Undoing.SENT, row.payload
            step.contract = stand_in.contract(step.activity, row.name)
            step.undo = Exchange(issued=self._at, sent_at=self._at)
            self._holds.begins(step)

    def _hold_back(self, step: Step) -> None:
        """The code gave this step up, and then called others."""
        for other in self._just_called:
            if other.service == step.service and other.number > step.number and not other.held:
                self._holds.hold(other)

    def _rolled_back(self, row: Row) -> None:
        """The code has asked for the undo of these steps."""
        self._let_go()
        state = self._state
        settle, undo = plan_of(row)
        for number in (*settle, *undo):
            state.steps[number].undoing = Undoing.PLANNED
            self._holds.begins(state.steps[number])
        for number in settle:
            step = state.steps[number]
            if step.outcome is Outcome.COMPLETED:  # as with a row `settle`
                state.completions.remove(number)
                step.output = None
            step.outcome = Outcome.UNKNOWN
        state.rollbacks = state.rollbacks or Rollbacks()
        state.rollbacks.running[row.seq] = Rollback((*settle, *undo))

    def _take_back(self, answers: Sequence[tuple[int, Step, Outcome]], *, after: int) -> None:
        """Of rows that were kept, and decided upon together, those after the end came too late: their steps were given
        up by it."""
        for seq, step, before in reversed(answers):
            if seq <= after:
                continue
            if step.outcome is Outcome.COMPLETED:
                self._state.completions.remove(step.number)
                step.output = None
            step.outcome = before

    def _ended(self, row: Row) -> None:
        """Nobody waits any more for what is open. What was never sent will not happen."""
        state = self._state
        state.ending = SagaStatus(row.name)
        if state.ending is SagaStatus.COMPLETED:
            state.stands(result=row.payload)
        else:
            state.stands(status=SagaStatus.COMPENSATING, error=row.payload)
            self._drop_rollbacks()
        for step in self._state.steps.values():
            if step.held:
                step.held, step.outcome = False, Outcome.NEVER
            elif step.is_open:
                step.outcome = Outcome.UNKNOWN

    def _drop_rollbacks(self) -> None:
        """What has not begun is in the plan of the saga."""
        running = {} if self._state.rollbacks is None else self._state.rollbacks.running
        for number in (number for one in running.values() for number in one.plan):
            if self._state.steps[number].undoing is Undoing.PLANNED:
                self._state.steps[number].undoing = Undoing.NONE
        running.clear()

    # Timers and operators.

    def _fired(self, row: Row) -> None:
        step = self._state.steps.get(row.step)
        if step is None:
            return
        if row.name == TimerKind.RETRY and step.is_open:
            self._tried_again(step)
        elif row.name == TimerKind.TIMEOUT and step.is_open:
            step.outcome = Outcome.NEVER if step.held else Outcome.UNKNOWN
            step.held = False
        elif row.name == TimerKind.UNDO_RETRY:
            self._undo_tried_again(step)

    def _asked(self, row: Row) -> None:
        step = self._state.steps.get(row.step)
        if row.name == RequestType.PAUSE:
            self._paused = True
        elif row.name == RequestType.RESUME:
            self._goes_on()
        elif step is None:
            return
        elif row.name == operator.COMPLETE:
            self._completed_by_operator(step, row)
        elif row.name == operator.SKIP and (step.is_being_undone or step.number in self._state.completions):
            if step.undoing is Undoing.SETTLING:
                step.outcome = Outcome.NEVER
            step.undoing = Undoing.SKIPPED
        elif row.name == operator.RETRY and step.undoing in (Undoing.PAUSED, Undoing.SETTLING):
            self._undo_tried_again(step)
        elif row.name == operator.RETRY and step.is_open:
            self._tried_again(step)

    def _completed_by_operator(self, step: Step, row: Row) -> None:
        if step.held or not (step.is_open or step.outcome is Outcome.UNKNOWN):
            return
        kind = Kind.SETTLE_COMPLETED if step.undoing is Undoing.SETTLING else Kind.STEP_COMPLETED
        step.by_operator = True
        if step.is_unsettled and not self._may_end_well:
            self._in_place.add(step.number)
        self._completed(step, replace(row, kind=kind, payload=completion.output_of(row.payload)))

    def _goes_on(self) -> None:
        self._paused = False
        waited, self._waiting = self._waiting, {}
        for row in waited.values():
            self._take(row)

    def _tried_again(self, step: Step) -> None:
        step.outcome = Outcome.SENT
        step.do.attempt, step.do.sent_at, step.do.resting = step.do.attempt + 1, self._at, False

    def _undo_tried_again(self, step: Step) -> None:
        """A settle has no attempts of its own."""
        if step.undoing is Undoing.SETTLING:
            settle = step.exchange(CommandKind.SETTLE)
            settle.resting, settle.sent_at = False, self._at
        elif step.undoing is Undoing.PAUSED:
            undo = step.exchange(CommandKind.UNDO)
            undo.attempt, undo.sent_at = undo.attempt + 1, self._at
            step.undoing = Undoing.SENT

    def _close_turn(self) -> None:
        """All decisions upon the last input are read."""
        self._just_called = []
        self._let_go()

    def _let_go(self) -> None:
        """The end of an undo comes first, then what the code makes of it."""
        steps = self._state.steps
        for number in self._to_undo:
            if steps[number].undoing is Undoing.NONE:
                known = steps[number].contract.compensation
                steps[number].undoing = Undoing.DONE if known is None else Undoing.BLOCKED
                self._holds.begins(steps[number])
        self._to_undo.clear()
        self._holds.let_go(steps, at=self._at, paused=self._paused)


def _is_for_a_person(row: Row) -> bool:
    return forward.failure_of(row).code in forward.FOR_A_PERSON
