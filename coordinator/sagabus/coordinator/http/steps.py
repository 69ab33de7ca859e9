"""How far the steps of a saga are, told from its history alone: no definition is needed to look at a saga.

The words are the core's. What only the definition knows, whether a failed attempt will be repeated, follows from the
timer that is set for it. A property test holds this to what the core itself knows of its steps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.replies import ID_REUSED, INBOX_EXPIRED, read_failure
from sagabus.coordinator.core.saga import pause
from sagabus.coordinator.core.saga.admission import REPLIES, SETTLE_REPLIES, STEP_REPLIES, UNDO_REPLIES
from sagabus.coordinator.core.saga.completion import output_of
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import INPUTS, Kind, Row
from sagabus.coordinator.core.saga.operator import COMPLETE, RETRY, SKIP, TERMINATE
from sagabus.coordinator.core.saga.request_answers import is_refusal, verb_of
from sagabus.coordinator.core.saga.rollback import plan_of
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import FREE, HELD, TOLD
from sagabus.coordinator.http.step_progress import StepProgress, StepStatus

_OPEN: Final = frozenset((StepStatus.SENT, StepStatus.PAUSED))
_NOT_REPEATED: Final = frozenset((INBOX_EXPIRED, ID_REUSED))
"""Failures after which the step stays as it is until a person has looked."""


def steps_of(history: Iterable[Row], *, retries: Collection[int], compensating: bool = False) -> list[StepProgress]:
    """All steps by number. retries: numbers of the steps for which a retry timer is set."""
    told = told_by([*history])
    return told.steps_now(frozenset(retries), compensating)


def told_by(rows: Sequence[Row], *, decided: int | None = None) -> StepsTold:
    """What these rows tell. decided: see `StepsTold`. Commands may say how many attempts were made (`beginnings`)."""
    told = StepsTold(refused={row.ref for row in rows if is_refusal(row)}, decided=decided)
    for row in rows:
        told.take(row)
    return told


class StepsTold:
    """What the rows so far tell. held, undoing: numbers by service, so that a row costs the same in a long history."""

    def __init__(self, refused: Collection[str] = (), *, decided: int | None = None) -> None:
        """decided: of a blocked saga's row: inputs after that row of history are kept until the saga goes on.

        refused: requests that were refused, as far as that is known. A verb that a blocked saga has kept has a row,
        and that it was refused stands further on."""
        self._refused = refused
        self._decided = decided
        self._asked: set[str] = set()
        self.in_vain: set[str] = set()
        """Requests that were taken for applied, and are refused further on: to be told anew with these."""
        self._steps: dict[int, StepProgress] = {}
        self._held: dict[str, list[StepProgress]] = {}
        self._undoing: dict[str, dict[int, StepProgress]] = {}
        self._just_called: list[StepProgress] = []
        self._freed: set[str] = set()
        self._at = 0
        """Of the last row: what an answer has freed was sent when it came."""
        self._kept: list[Row] | None = None
        """What came while the saga is paused (U8); None while it is not."""
        self._terminated = False

    def take(self, row: Row) -> None:
        if verb_of(row):
            if row.ref in self._refused:
                return
            self._asked.add(row.ref)
        elif is_refusal(row) and row.ref in self._asked:
            self.in_vain.add(row.ref)
        if self._decided is not None and row.seq > self._decided and row.kind in INPUTS:
            step = self._steps.get(row.step)
            if step is not None and (row.kind in REPLIES or verb_of(row)):
                step.kept += 1
            return
        if self._kept is not None and pause.waits(row):
            self._kept.append(row)
            return
        if row.kind in INPUTS:
            self._just_called = []
            self._release()
        self._at = row.at
        if pause.is_begun_by(row):
            self._kept = []
        elif pause.is_ended_by(row):
            self._goes_on(row)
        else:
            self._tell(row)

    def _goes_on(self, row: Row) -> None:
        """Or is at its end. What was kept counts from here on."""
        kept, self._kept = self._kept or (), None
        for one in kept:
            self._tell(one)
        if row.kind is Kind.OPERATOR and row.name == TERMINATE:
            self._terminated = True
            self._held.clear()
            self._freed.clear()

    def _tell(self, row: Row) -> None:
        if row.kind is Kind.COMMAND:
            progress = StepProgress(row.step, row.name, attempts=max(1, row.attempt), since=row.at)
            self._called(progress, row.ref.split())
        elif row.kind is Kind.ON_ROLLBACK:
            self._steps[row.step] = StepProgress(
                row.step,
                row.name,
                StepStatus.COMPLETED,
                attempts=0,
                compensation=row.name,
                undo_input=True,
                since=row.at,
            )
        elif row.kind is Kind.ENDED:
            self._ended(row)
        elif row.kind is Kind.ROLLBACK:
            self._rolled_back(row)
        elif (step := self._steps.get(row.step)) is not None and not _answers_nothing(step, row):
            if row.kind is Kind.SETTLE:
                self._release()
            before, undo = step.condition, step.undo
            _advance(step, row)
            if self._terminated:
                step.undo = undo  # an answer that is heard of later changes nothing there
            elif step.condition != before:
                step.since = row.at
            self._note(step)
            if row.kind is Kind.SETTLE and row.ref != TOLD:  # of an older release
                self._hold_back(step)

    def steps_now(self, retries: Collection[int], compensating: bool) -> list[StepProgress]:
        self._release()
        busy = next((step for undoing in self._undoing.values() for step in undoing.values()), None)
        for step in self._steps.values():
            if step.status is StepStatus.PAUSED and step.number not in retries and not self._terminated:
                step.status = StepStatus.UNKNOWN
            if step.status is StepStatus.HELD:
                holder = next(iter(self._undoing[step.service].values()), None)
                step.waits = "waits until its saga is resumed" if holder is None else _reason(holder)
            elif compensating and step.status is StepStatus.COMPLETED and step.undo is Undoing.NONE:
                _plan(step, busy, paused=self._kept is not None)
            elif step.undo is Undoing.PLANNED:
                step.waits = "waits until what came after it is undone"
            if step.kept:
                what = "what has come for it is" if step.kept == 1 else f"{step.kept} messages for it are"
                step.waits = f"{what} kept until the saga goes on"
        return [self._steps[number] for number in sorted(self._steps)]

    def _called(self, step: StepProgress, marks: Collection[str]) -> None:
        self._steps[step.number] = step
        self._just_called.append(step)
        if HELD in marks or (FREE not in marks and self._undoing.get(step.service)):
            self._hold(step)

    def _hold(self, step: StepProgress) -> None:
        step.status = StepStatus.HELD
        self._held.setdefault(step.service, []).append(step)

    def _hold_back(self, given_up: StepProgress) -> None:
        """A step was given up, and then the code called others: the row of the settle stands behind theirs."""
        for step in self._just_called:
            is_later = step.service == given_up.service and step.number > given_up.number
            if is_later and step.status is StepStatus.SENT:
                self._hold(step)

    def _rolled_back(self, row: Row) -> None:
        """The code has asked for the undo of these steps (U11). They hold their services from now on."""
        self._release()
        settle, undo = plan_of(row)
        for number in (*settle, *undo):
            if (step := self._steps.get(number)) is None:
                continue  # of a long history not all rows are read
            step.undo, step.since = Undoing.PLANNED, row.at
            self._note(step)
            if number in settle:
                step.status = StepStatus.UNKNOWN

    def _ended(self, row: Row) -> None:
        """The code has ended: nobody waits for what is open. What was never sent will not happen. What was planned to
        be undone is in the plan of the saga, if it is undone itself."""
        for step in self._steps.values():
            if step.undo is Undoing.PLANNED and row.name != SagaStatus.COMPLETED:
                step.undo = Undoing.NONE
                self._note(step)
            if step.status in _OPEN:
                step.status = StepStatus.UNKNOWN
            elif step.status is StepStatus.HELD:
                step.status = StepStatus.NEVER
        self._held.clear()

    def _note(self, step: StepProgress) -> None:
        undoing = self._undoing.setdefault(step.service, {})
        if step.is_being_undone:
            undoing[step.number] = step
        else:
            undoing.pop(step.number, None)
        if not undoing and step.service in self._held:
            self._freed.add(step.service)

    def _release(self) -> None:
        """Once all decisions of a turn are read, or those that came before its code: an undo may follow at once on the
        settle that asked for it."""
        if self._kept is not None:
            return
        for service in self._freed:
            for held in () if self._undoing[service] else self._held.pop(service, ()):
                if held.status is StepStatus.HELD:
                    held.status, held.since = StepStatus.SENT, self._at
        self._freed = set()


def _reason(holder: StepProgress) -> str:
    is_unknown = holder.undo is Undoing.SETTLING or holder.status is StepStatus.UNKNOWN
    what = "the outcome" if is_unknown else "the undo"
    return f"waits for {what} of step {holder.number} at {holder.service}"


def _plan(step: StepProgress, busy: StepProgress | None, *, paused: bool) -> None:
    """A completed step of a saga that is being undone, whose undo has not begun (U5)."""
    if step.undo_input is None:
        return
    if busy is not None:
        step.waits = f"its undo {_reason(busy)}"
    elif not step.undo_input and not paused:
        step.undo = Undoing.BLOCKED


def _answers_nothing(step: StepProgress, row: Row) -> bool:
    """A reply to what was never sent: its row tells a person of it, and it counts for nothing (P2, U9)."""
    if row.kind in STEP_REPLIES:
        return step.status is StepStatus.HELD or row.attempt > step.attempts
    if row.kind in UNDO_REPLIES:
        return row.attempt > step.undo_attempts
    return row.kind in SETTLE_REPLIES and not step.settle_sent


def _advance(step: StepProgress, row: Row) -> None:
    match row.kind:
        case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED if step.status is StepStatus.NEVER:
            pass  # a person has been told; what was settled stands
        case Kind.STEP_REFUSED | Kind.STEP_FAILED | Kind.SETTLE_NEVER if step.status is StepStatus.COMPLETED:
            pass  # an operator has said so; or it is an answer of before, kept while the saga was paused
        case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED:
            step.status, step.output, step.error = StepStatus.COMPLETED, row.payload, None
            step.undo = Undoing.NONE
        case Kind.STEP_REFUSED:
            step.status, step.error = StepStatus.FAILED, row.payload
        case Kind.STEP_FAILED:
            step.error = row.payload
            step.resting = _is_for_a_person(row)
            if not step.resting:
                step.status = StepStatus.PAUSED
        case Kind.TIMER:
            _fired(step, row.name)
        case Kind.OPERATOR if row.name == COMPLETE:
            step.status, step.error = StepStatus.COMPLETED, None
            step.output = None if row.payload is None else output_of(row.payload)  # lists are read without payloads
            step.undo = Undoing.NONE
        case Kind.OPERATOR:
            _operated(step, row.name)
        case _:
            _advance_undo(step, row)


def _fired(step: StepProgress, timer: str) -> None:
    if timer == TimerKind.RETRY:
        _retried(step)
    elif timer == TimerKind.TIMEOUT:
        step.status = StepStatus.UNKNOWN
    elif timer == TimerKind.UNDO_RETRY:
        _undo_retried(step)


def _operated(step: StepProgress, verb: str) -> None:
    if verb == SKIP:
        if step.undo is Undoing.SETTLING:
            step.status = StepStatus.NEVER
        step.undo = Undoing.SKIPPED
    elif verb == RETRY and step.undo in (Undoing.SETTLING, Undoing.PAUSED):
        _undo_retried(step)
    elif verb == RETRY:
        _retried(step)


def _retried(step: StepProgress) -> None:
    step.status, step.resting = StepStatus.SENT, False
    step.attempts += 1


def _undo_retried(step: StepProgress) -> None:
    """A settle is sent again without an attempt of its own."""
    if step.undo is Undoing.SETTLING:
        step.resting = False
    elif step.undo is Undoing.PAUSED:
        step.undo = Undoing.SENT
        step.undo_attempts += 1


def _is_for_a_person(row: Row) -> bool:
    try:
        return read_failure(row.payload).code in _NOT_REPEATED
    except MessageInvalid:
        return False


def _advance_undo(step: StepProgress, row: Row) -> None:
    if step.undo is Undoing.SKIPPED:
        return  # a person answers for it, whatever is heard of it later
    match row.kind:
        case Kind.SETTLE:
            step.status, step.undo, step.resting = StepStatus.UNKNOWN, Undoing.SETTLING, False
            step.settle_sent = True
        case Kind.SETTLE_NEVER:
            step.status, step.undo = StepStatus.NEVER, Undoing.DONE
        case Kind.UNDO_INPUT:
            step.compensation, step.undo_input = row.name, bool(row.payload)
        case Kind.UNDO:
            step.undo, step.compensation, step.undo_attempts = Undoing.SENT, row.name, max(1, row.attempt)
        case Kind.UNDO_COMPLETED:
            step.undo, step.undo_error = Undoing.DONE, None
        case Kind.UNDO_REFUSED | Kind.UNDO_FAILED:
            step.undo, step.undo_error = Undoing.PAUSED, row.payload
        case Kind.SETTLE_FAILED:
            step.undo_error, step.resting = row.payload, step.undo is Undoing.SETTLING
        case _:
            pass
