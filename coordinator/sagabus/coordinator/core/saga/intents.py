"""What the saga's code asked for in a pump, carried out: intents become decisions in history, messages and timers.

The other way round, from inputs to the code, is in `saga`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from shlex import quote
from typing import Final, assert_never

from pydantic import JsonValue

from sagabus.contracts import codec
from sagabus.contracts.errors import ActivityError, ActivityFailed, Refused
from sagabus.contracts.event_type import Event
from sagabus.contracts.lifecycle import LifecycleType, domain_event_message
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga import forward, new_saga, undo
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, Told
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.events import Events
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.new_saga import NewSaga
from sagabus.coordinator.core.saga.patches import Patched
from sagabus.coordinator.core.saga.program import (
    Blocked,
    Code,
    Ended,
    GaveUp,
    Intent,
    Pivot,
    Program,
    Published,
    Readable,
    ReadEvent,
    Registered,
    RollBack,
    Unreadable,
)
from sagabus.coordinator.core.saga.raised import origin_of, said_by, short
from sagabus.coordinator.core.saga.reading import EVENT
from sagabus.coordinator.core.saga.rejection import is_rejection, rejection_of, undeclared
from sagabus.coordinator.core.saga.state import SagaState, reason_json
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.step import Step

MOST_KINDS: Final = 5
"""Kinds of further errors of a group that are named."""

_MEANT: Final = (ActivityError, asyncio.CancelledError, type(None))
"""What says nothing of the code itself."""


def carry_out(state: SagaState, intent: Intent, code: Code | None) -> None:
    """code: the definition that asked for it. Raises Divergence where history says something else."""
    match intent:
        case Step():
            forward.called(state, intent)
        case GaveUp():
            forward.give_up(state, state.steps[intent.number])
        case Registered():
            forward.registered(state, intent.step)
        case Pivot():
            _pivot(state)
        case RollBack():
            undo.roll_back(state, intent.number, intent.steps, even_kept=intent.even_kept)
        case Published():
            _publish(state, intent)
        case NewSaga():
            new_saga.begin(state, intent)
        case Patched():
            state.decide(Kind.PATCHED, name=intent.change)
        case ReadEvent():
            state.decide(Kind.READ, step=intent.number, name=EVENT, payload=intent.payload)
        case Unreadable():
            words = f"an event was set aside: {intent.fault}"
            state.raise_concern(Concern(ConcernKind.EVENT_UNREADABLE), words, Told(intent.name))
        case Readable():
            state.clear_concern(Concern(ConcernKind.EVENT_UNREADABLE))
        case Ended():
            _end(state, intent, code)
        case _:
            assert_never(intent)


def note_timers(state: SagaState, program: Program) -> None:
    """Timers are written only if still pending when the pump has run dry (H3)."""
    for number, due in program.changed_timers():
        if due is None:
            state.clear_timer(TimerKind.SLEEP, number)
        elif TimerKey(TimerKind.SLEEP, number) not in state.timers:
            state.set_timer(TimerKind.SLEEP, number, due)


def note_events(state: SagaState, program: Program) -> None:
    """Like its timers, as they are when the pump has run dry. After its end nobody waits, and nothing is kept."""
    program.mailbox.has_changed = False
    events = None if program.ended else Events(state.journal.seq, program.awaited, program.kept)
    state.knows_of(events if events and any(events[1:]) else None)


def note_attributes(state: SagaState, attributes: bytes) -> None:
    """Once, as they are when the pump has run dry: they follow from the code and leave no row of history."""
    state.stands(attributes=attributes)
    state.tell(LifecycleType.ATTRIBUTES)


def _publish(state: SagaState, intent: Published) -> None:
    state.decide(Kind.PUBLISH, step=intent.number, name=intent.type.name, payload=intent.body)
    a = state.addresses
    message = domain_event_message(
        Event(intent.type, intent.data), intent.body, id=f"{a.saga_id}:{a.run}:publish:{intent.number}",
        topic=intent.type.topic or "", source=a.source, saga_id=a.saga_id, cause=state.cause, time=state.now,
        key=intent.key, trace=state.trace,
    )  # fmt: skip
    state.send(message)


def _pivot(state: SagaState) -> None:
    """Nothing that has completed is undone any more, and no timeout ends the saga (U14)."""
    state.decide(Kind.PIVOT)
    state.pivot = len(state.completions)
    state.clear_timer(TimerKind.SAGA, 0)


def _end(state: SagaState, intent: Ended, code: Code | None) -> None:
    """The code is through. Swallowing a cancellation changes nothing (U7)."""
    error, payload, at = intent.error, state.error, ""
    state.clear_timer(TimerKind.SAGA, 0)
    if state.ending is None and error is None:
        try:
            assert code is not None
            payload = codec.checked(code.encode_result(intent.result))
            state.ending = SagaStatus.COMPLETED
        except (Exception, SystemExit) as wrong:  # another type, too large, or a serializer of the author's fails
            error, at = wrong, short(code.written_at) if code is not None else ""
    if error is not None:
        _log_fault(state, error, at, code)
    if error is not None and state.ending is None and state.pivot is not None:
        raise _past_pivot(state, error, at)
    if state.ending is None:
        state.ending, payload = SagaStatus.COMPENSATED, _error_json(error, at)
    upon = "" if state.ending is SagaStatus.COMPLETED else str(state.deciding)
    written = state.decide(Kind.ENDED, name=state.ending.value, ref=upon, payload=payload)
    if state.ending is SagaStatus.COMPLETED:
        state.stands(result=written.payload, events=None)
    else:
        state.stands(error=written.payload, events=None)


def _past_pivot(state: SagaState, error: BaseException, at: str) -> Blocked:
    kind, place = type(error).__name__, origin_of(error) or at
    words = (
        f"its code has raised {kind}{f' at {place}' if place else ''} after its pivot, where nothing is undone any "
        f"more: {said_by(error)}; deploy code that handles it, or end the saga without undo: "
        f"`sagabus terminate {quote(state.id)} --reason …`"
    )
    return Blocked(words, f"past_pivot {kind} {place}")


def _log_fault(state: SagaState, error: BaseException, at: str, code: Code | None) -> None:
    """Its author finds what the code raised in the log, also where the saga ends for another reason. A step that fails
    and a refusal are no fault of the code, and a replay tells nothing again."""
    leaves = _leaves(error)
    if state.journal.replaying:
        return
    if is_rejection(leaves[0]):
        _log_rejection(state, leaves[0], code)
    faults = [one for one in leaves if not (isinstance(one, _MEANT) or is_rejection(one))]
    if not faults:
        return
    kind, place = type(faults[0]).__name__, origin_of(faults[0]) or at
    where = f" at {place}" if place else ""
    words = f"its code has raised {kind}{where}: {said_by(faults[0])}{_and_more(faults[1:])}"
    if isinstance(faults[0], TimeoutError):  # nobody came in time: the traceback of a timer helps nobody
        state.staged.log.append(plain(words))
    else:
        state.staged.raised.append((plain(words), error))


def _log_rejection(state: SagaState, error: Refused, code: Code | None) -> None:
    rejection = rejection_of(error)
    state.staged.log += rejection.faults
    if words := undeclared(rejection, code):
        state.staged.log_once.append((rejection.code, words))


def _error_json(error: BaseException | None, at: str) -> bytes:
    """An error of the saga's code as it stands in its row. Of a group the first leaf speaks, and names the others.

    at: where it was, as file and line, if its traceback does not tell. A replay takes what is written.
    """
    error, *others = _leaves(error)
    more = _and_more(others)
    if isinstance(error, ActivityFailed):
        return reason_json(
            error.code, f"{error.message}{more}", type="ActivityFailed", activity=error.activity, step=error.step,
            details=dict(error.details),
        )  # fmt: skip
    if is_rejection(error):
        own = rejection_of(error)
        return reason_json(own.code, f"{own.message}{more}", type="Refused", details=dict(own.details))
    if isinstance(error, asyncio.CancelledError):
        return reason_json("sagabus.saga_raised", f"the saga's code cancelled itself{more}", type="CancelledError")
    said, at = f"{said_by(error)}{more}", origin_of(error) or at
    known: dict[str, JsonValue] = {"at": at} if at else {}
    return reason_json("sagabus.saga_raised", said, type=type(error).__name__, **known)


def _leaves(error: BaseException | None) -> list[BaseException | None]:
    """Of a group all that is in it, in its order; of any other error itself."""
    leaves: list[BaseException | None] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
        else:
            leaves.append(one)
    return leaves


def _and_more(others: Sequence[BaseException | None]) -> str:
    """How many, and of which types."""
    if not others:
        return ""
    kinds = Counter(
        f"{error.code} of {error.activity}" if isinstance(error, ActivityFailed) else _kind(error) for error in others
    )
    named = [kind if times == 1 else f"{times} × {kind}" for kind, times in kinds.most_common(MOST_KINDS)]
    rest = ["…"] if len(kinds) > MOST_KINDS else []
    return f" (and {len(others)} more: {', '.join([*named, *rest])})"


def _kind(error: BaseException | None) -> str:
    return f"Refused {rejection_of(error).code}" if is_rejection(error) else type(error).__name__
