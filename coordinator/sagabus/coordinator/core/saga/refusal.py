"""Why an operator's request, or a cancel, was refused: the words for people, by the reason code of `admission.denial`.

The one table of them. Codes are what everybody else decides by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from shlex import quote
from typing import Final

from sagabus.contracts.requests import RequestType
from sagabus.coordinator.core.saga import completion, operator
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing

_Words = Callable[[SagaState, Input | Row], str]


def words(state: SagaState, asked: Input | Row, code: str) -> str:
    """For a person: what is so, and what to do. asked: a cancel, or another verb. code: of its denial."""
    verb = RequestType.CANCEL if asked.kind is Kind.CANCEL else asked.name
    made = _WORDS.get((verb, code)) or _WORDS.get(("", code))
    return f"{verb} of saga {state.id}: {code}" if made is None else made(state, asked)


def _closed(state: SagaState, _: Input | Row) -> str:
    return f"saga {state.id} has ended ({state.status}): only `acknowledge` is for such a saga"


def _cancel_rejected(state: SagaState, _: Input | Row) -> str:
    if state.is_closed:
        return f"saga {state.id} has ended ({state.status})"
    if state.status is SagaStatus.COMPENSATING:
        return f"saga {state.id} is being undone already"
    if state.ending is SagaStatus.CANCELLED:
        return f"saga {state.id} is being cancelled already"
    if state.ending is not None:
        return f"the end of saga {state.id} is decided: it will be {state.ending}"
    return (
        f"saga {state.id} is past its pivot, and is not undone any more: let it come to its end, or end it without "
        f"undo: `sagabus terminate {quote(state.id)} --reason …`"
    )


def _nothing_to_acknowledge(state: SagaState, asked: Input | Row) -> str:
    of = f"step {asked.step} of saga {state.id}" if asked.step else f"saga {state.id}"
    standing = [one for one in reversed(state.concerns) if asked.step in (0, one.number)]
    cure = f"; the cure of `{standing[0].kind}`: {state.cure_of(standing[0])}" if standing else ""
    return f"{of} has nothing that can be acknowledged{cure}"


def _of_step(meant: str) -> _Words:
    """meant: what the verb is for."""

    def made(state: SagaState, asked: Input | Row) -> str:
        step = state.steps.get(asked.step)
        if step is None:
            return f"saga {state.id} has no step {asked.step}: see `sagabus show {quote(state.id)}`"
        undo = "" if step.undoing is Undoing.NONE else f", its undo is {step.undoing}"
        return f"step {step.number} ({step.activity}) is {step.outcome}{undo}: {asked.name} is for {meant}"

    return made


def _invalid_output(state: SagaState, asked: Input | Row) -> str:
    fault = completion.fault(state, state.steps[asked.step], asked)
    return "its output does not fit" if fault is None else f"the {fault.message}; give one that its model reads"


def _paused(state: SagaState, asked: Input | Row) -> str:
    resume = f"`sagabus resume {quote(state.id)} --reason …`"
    return f"saga {state.id} is paused and sends nothing, so {asked.name} has to wait: {resume} first"


_WORDS: Final[Mapping[tuple[str, str], _Words]] = {
    ("", CLOSED): _closed,
    (RequestType.CANCEL, CANCEL_REJECTED): _cancel_rejected,
    (RequestType.RETRY, operator.NO_USE): _of_step("what is between two attempts, or cannot be answered"),
    (RequestType.RETRY, operator.PAUSED): _paused,
    (RequestType.SKIP, operator.NO_USE): _of_step("an undo, or a settle, that is under way"),
    (RequestType.COMPLETE, operator.NO_USE): _of_step("a step that was sent and whose outcome is not known"),
    (RequestType.COMPLETE, operator.OUTPUT_INVALID): _invalid_output,
    (RequestType.ACKNOWLEDGE, operator.NO_USE): _nothing_to_acknowledge,
    (RequestType.PAUSE, operator.PAUSED): lambda state, _: f"saga {state.id} is paused already",
    (RequestType.RESUME, operator.NOT_PAUSED): lambda state, _: f"saga {state.id} is not paused",
}
"""By verb and code; an empty verb stands for all others."""
