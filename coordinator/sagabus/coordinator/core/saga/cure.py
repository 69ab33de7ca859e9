"""What ends a concern: one cure for each kind. The log, `show`, the API, `doctor` and the pages tell this one.

A command in a cure can be typed as it stands. A test tries the cure of each kind on a saga that has the concern; so who
adds a kind, or changes a verb, adds or changes its cure here.
"""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from types import MappingProxyType
from typing import Final, NamedTuple

from sagabus.coordinator.core.saga.concern import (
    ACKNOWLEDGEABLE,
    CANCELLED,
    NO_INPUT,
    OF_OPEN_SAGAS,
    STOPS,
    UNREADABLE_ANSWER,
    Concern,
    ConcernKind,
    is_acknowledgeable,
)


class Cure(NamedTuple):
    """means: of the kind, for people. words: what to do; the best way first. {id} and {step} stand for those."""

    means: str
    words: str


_CANCEL: Final = "`sagabus cancel {id} --reason WHY`"
_TERMINATE: Final = "`sagabus terminate {id} --reason WHY`"
_SEEN: Final = "`sagabus acknowledge {id} --reason WHY`"
_STEP_SEEN: Final = "`sagabus acknowledge {id} --step {step} --reason WHY`"
_RETRY: Final = "`sagabus retry {id} --step {step} --reason WHY`"
_SKIP: Final = "`sagabus skip {id} --step {step} --reason WHY`"
_COMPLETE: Final = "`sagabus complete {id} --step {step} --output JSON --reason WHY`"
_UNPARK: Final = "`sagabus dead-letters unpark {id} --reason WHY`"

_UNDO_IT: Final = f"or undo what it has done, and end it: {_CANCEL}"
_BY_HAND: Final = f"undo the step at its service by hand, then {_STEP_SEEN}"

CURES: Final[Mapping[ConcernKind, Cure]] = MappingProxyType({
    ConcernKind.STEP: Cure(
        "A step fails, or is not answered, for an hour; nobody handles it; its handler panics; its answer is invalid",
        f"start or repair the service, and the saga goes on; or, if the step has happened, give its output: "
        f"{_COMPLETE}; {_UNDO_IT}",
    ),
    ConcernKind.UNDO: Cure(
        "An undo fails again and again, is refused, or is not answered",
        f"repair the service: the undo is tried again by itself, or now: {_RETRY}; or undo the step there by hand, "
        f"then {_SKIP}",
    ),
    ConcernKind.SETTLE: Cure(
        "Nobody knows whether a step has happened, and its service cannot say",
        f"start or repair the service, which is asked again; or find out there: if the step has happened, "
        f"{_COMPLETE}; if it has not, {_SKIP}",
    ),
    ConcernKind.LATE_SUCCESS: Cure("A step has succeeded after the saga had ended", _BY_HAND),
    ConcernKind.UNDO_AFTER_SKIP: Cure(
        "An undo was skipped, and has been carried out after that",
        f"find out at the service whether it was undone twice, then {_STEP_SEEN}",
    ),
    ConcernKind.HAPPENED_AFTER_SKIP: Cure("The settle of a step was skipped, and the step has happened", _BY_HAND),
    ConcernKind.HISTORY_LOST: Cure(
        "A reply answers a step that was never sent",
        "find out whether the coordinator's database was restored from an older backup, or the participant makes up "
        f"ids; then {_STEP_SEEN}",
    ),
    ConcernKind.REPLY_ATTEMPT: Cure(
        "A reply is of an attempt that was never made",
        f"correct the participant, which must send back the ce_attempt of the command; then {_STEP_SEEN}",
    ),
    ConcernKind.UNASKED: Cure(
        "A reply to an undo or a settle that was never sent",
        f"correct the participant, which must answer only what it was asked; then {_STEP_SEEN}",
    ),
    ConcernKind.CONTRADICTION: Cure(
        "A participant has said two things of one step",
        f"find out at the service what the step did, undo by hand what is too much, then {_STEP_SEEN}",
    ),
    ConcernKind.PAUSE: Cure(
        "The next attempt of a step, or of its undo, is more than an hour away",
        f"wait for it, or have it made now: {_RETRY}",
    ),
    ConcernKind.RECORDS_LOST: Cure(
        "Kafka's retention has removed records before they were read",
        f"commands are sent again by themselves; have lost events sent again by their senders, then {_SEEN}",
    ),
    ConcernKind.PARKED: Cure(
        "Kafka refuses permanently what the saga sends",
        f"remove the cause that is named, then {_UNPARK}",
    ),
    ConcernKind.EVENT_UNREADABLE: Cure(
        "An event was set aside, since the saga's code cannot read it",
        f"have the event sent again in the form that the saga reads; or, if the saga needs no other, {_SEEN}",
    ),
    ConcernKind.EVENTS: Cure(
        "Too many events that the saga's code does not wait for",
        f"stop their sender, and the flag is removed when the saga has taken half of them; {_UNDO_IT}",
    ),
    ConcernKind.ROWS: Cure(
        "Its history has too many rows",
        f"let it end, and go on in another saga; {_UNDO_IT}; when it has ended, {_SEEN}",
    ),
    ConcernKind.BYTES: Cure(
        "Its history has too many bytes",
        f"let it end, and go on in another saga; {_UNDO_IT}; when it has ended, {_SEEN}",
    ),
    ConcernKind.BLOCKED: Cure(
        "The saga's code cannot go on: nobody runs its definition, or it does what no saga may do",
        f"start a coordinator whose code can go on, and the saga goes on; {_UNDO_IT}",
    ),
    ConcernKind.DIVERGED: Cure(
        "The saga's code was changed: it does something else than its history says",
        f"deploy the former code again, and the saga goes on; {_UNDO_IT}",
    ),
    ConcernKind.SPUN: Cure(
        "The saga's code computes without an end, and was interrupted",
        f"deploy corrected code, and the saga goes on; {_UNDO_IT}",
    ),
    ConcernKind.STUCK: Cure(
        "The saga's code waits for what nothing can bring, such as an `asyncio.Event` that nobody sets",
        f"undo what it has done, and end it: {_CANCEL}; if it has been cancelled already, end it without an undo: "
        f"{_TERMINATE}",
    ),
    ConcernKind.FAULT: Cure(
        "sagabus itself has failed at this saga",
        f"report it with the log's traceback: a release without the fault goes on with the saga; {_UNDO_IT}",
    ),
    ConcernKind.MORE: Cure(
        "There are more concerns than are listed; the saga's history has them",
        f"end those that are listed, each by its own cure; when the saga has ended, {_SEEN}",
    ),
    ConcernKind.OTHER: Cure("What an older release has stored in words alone", f"do what its words say, then {_SEEN}"),
})  # fmt: skip

_NO_INPUT: Final = f"undo the step at its service by hand, then {_SKIP}"
_ENDED: Final = f"nothing is to be done any more: {_SEEN}"
_CODE_IS_GONE: Final = "start a coordinator that has the saga's former code"
_STUCK_AGAIN: Final = f"end it without an undo: {_TERMINATE}"

_UNREADABLE: Final = (
    f"repair the service, and, since it may have stored this answer, have it make another: {_RETRY}; or, if the step "
    f"has happened, give its output: {_COMPLETE}; {_UNDO_IT}"
)

_BY_CODE: Final = {
    (ConcernKind.STEP, UNREADABLE_ANSWER): _UNREADABLE,
    (ConcernKind.UNDO, NO_INPUT): _NO_INPUT,
    (ConcernKind.STUCK, CANCELLED): _STUCK_AGAIN,
}


def cure_of(concern: Concern, *, id: str, code: str = "", closed: bool = False) -> str:
    """What ends this concern, with the commands for this saga. code: of what was told. closed: the saga has ended."""
    kind = concern.kind
    words = _BY_CODE.get((kind, code), CURES[kind].words)
    if closed and kind in STOPS:
        words = _CODE_IS_GONE
    elif closed and (kind in OF_OPEN_SAGAS or _has_lost_its_cause(kind)):
        words = _ENDED
    return words.format(id=quote(id), step=concern.number)


def _has_lost_its_cause(kind: ConcernKind) -> bool:
    """Now that the saga has ended."""
    return kind not in ACKNOWLEDGEABLE and is_acknowledgeable(kind, closed=True)


def cure_of_any(kind: ConcernKind) -> str:
    """The same for any saga: ID and NUMBER stand for its id and its step."""
    return CURES[kind].words.format(id="ID", step="NUMBER")
