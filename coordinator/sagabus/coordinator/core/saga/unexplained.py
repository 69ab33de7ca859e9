"""Replies that history does not explain: what is said of them, and what an operator may think of (U9, P2).

Only a reply to a step that history does not have can mean nothing else than that history was lost, unless its
participant makes up ids. For the others there are nearer explanations, and those are told first.
"""

from __future__ import annotations

from sagabus.coordinator.core.saga.admission import STEP_REPLIES, UNDO_REPLIES
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.history import Row
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome
from sagabus.coordinator.core.saga.step import Step

_LOST = "or history was lost: was the coordinator's database restored from an older backup?"


def reply(state: SagaState, step: Step | None, row: Row) -> None:
    """A reply to what this history never sent."""
    kind, words = _explained(step, row, closed=state.is_closed)
    state.raise_concern(Concern(kind, row.step), words)


def _explained(step: Step | None, row: Row, *, closed: bool) -> tuple[ConcernKind, str]:
    what = f"{row.kind} of step {row.step}"
    if step is None or not step.do.issued:
        words = f"{what} answers a step that was never sent: {row.name or 'its participant'} made up the id, {_LOST}"
        return ConcernKind.HISTORY_LOST, words
    asked = step.do if row.kind in STEP_REPLIES else step.undo if row.kind in UNDO_REPLIES else None
    if asked is step.do and not step.do.attempt:
        asked = None  # nobody was asked to do it: it is an undo without a step (U13)
    if asked is None:
        words = f"{what} ({step.activity}) answers what {step.service} was not asked: it made up the id, {_LOST}"
        return ConcernKind.UNASKED, words
    ignored = "It is ignored" if closed else "It is ignored, and what is not answered is sent again"
    words = (
        f"{what} ({step.activity}) says that it is of attempt {row.attempt}, and the last one was {asked.attempt}. "
        f"{ignored}: {step.service} must send back the ce_attempt of the command, {_LOST}"
    )
    return ConcernKind.REPLY_ATTEMPT, words


def contradiction(state: SagaState, step: Step) -> None:
    """The participant has said two things of one step, each once and for all (P2)."""
    step.contradicted = True
    what = f"step {step.number} ({step.activity})"
    if step.by_operator:
        words = (
            f"{what} counts as completed, since an operator has said so, and {step.service} says now something else; "
            "find out there which is so, and undo it by hand if need be"
        )
    elif step.outcome is Outcome.NEVER:
        words = (
            f"{what} was settled as never happening, and {step.service} says now that it has completed; look at what "
            "it did there, and undo it by hand"
        )
    else:
        words = f"{what} has completed twice, with different outputs; look at {step.service} for what was done twice"
    state.raise_concern(Concern(ConcernKind.CONTRADICTION, step.number), words)
