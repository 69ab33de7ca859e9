"""Contracts of steps that are known from their rows alone: a name, what undoes it, and no models.

A saga that is decided without its code has no contract for its steps either (U8). Of a step that had completed before,
the rows tell what undoes it and with which input. Of one that completes later, a contract of its name is looked for
among those that are declared in this process. What came of that is a decision, `undo.input`: a replay takes it from
there, so that all processes undo alike whatever contracts they have.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, cast

from pydantic import BaseModel

from sagabus.contracts import Activity, Compensation, Service, codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.retry import ACTIVITY_RETRY, as_microseconds
from sagabus.contracts.words import plain, words_of
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.state import VOID, SagaState
from sagabus.coordinator.core.saga.step import KEEP, Step

RESEND_MICROSECONDS: Final = as_microseconds(30.0)
"""As of a service that says nothing else."""

_UNKNOWN = ""
"""Name of an `undo.input` of a step of which nobody here knows whether anything undoes it."""


class Unread(BaseModel):
    """The input of a step whose model is not known; its body is in its row."""


@lru_cache(1_000)
def contract(activity: str, compensation: str | None) -> Activity[..., Any, Any]:
    """activity: its whole name. compensation: the same; None if nothing undoes it."""
    service, _, name = activity.partition(".")
    of = Service(service)
    made: Activity[..., Any, Any] = Activity(of, name, Unread, None)
    if compensation is not None:
        made.compensation = Compensation(of, name, Unread, None)
        made.compensation.name = compensation
    return made


def step(command: Row, *, compensation: str | None = None) -> Step:
    """A step as the row of its command tells. compensation: the name of what undoes it, as far as that is known."""
    made = contract(command.name, compensation)
    return Step(
        number=command.step, contract=made, service=made.service.name, activity=command.name, input=Unread(),
        body=command.payload or VOID, retry=ACTIVITY_RETRY, timeout=None, resend_after=RESEND_MICROSECONDS,
        abandon=KEEP if KEEP in command.ref.split() else "",
    )  # fmt: skip


def check_output(state: SagaState, step: Step, output: bytes | None) -> None:
    """Raises MessageInvalid if contracts of this activity are declared here, and none of them reads it (P2)."""
    assert state.contracts is not None
    fault: MessageInvalid | None = None
    for one in state.contracts(step.activity):
        try:
            _read(one, output)
            return
        except MessageInvalid as error:
            fault = fault or error
    if fault is not None:
        raise fault


def store_undo_input(state: SagaState, step: Step, output: bytes | None) -> None:
    """The step has completed, and its saga's code is not asked: what undoes it, and with which input.

    Without a row there is nothing to undo. With an empty one the undo waits for an operator.
    """
    if state.journal.replaying:
        written = state.journal.next_decision
        if written is None or (written.kind, written.step) != (Kind.UNDO_INPUT, step.number):
            return
        name, made, step.undo_fault = written.name, written.payload, written.ref
    else:
        found = _made(state, step, output)
        if found is None:
            return
        name, made = found
    state.decide(Kind.UNDO_INPUT, step=step.number, name=name, ref=step.undo_fault or "", payload=made)
    step.contract = contract(step.activity, name)
    step.undo_input = made or None


def _made(state: SagaState, step: Step, output: bytes | None) -> tuple[str, bytes] | None:
    """(the compensation's name, its input); None if nothing undoes the step. An empty input could not be made."""
    assert state.contracts is not None
    known = state.contracts(step.activity)
    name = _UNKNOWN
    step.undo_fault = f"no contract of {step.activity} is declared in this coordinator"
    for one in known:
        if one.compensation is None or one.fill is None:
            return None
        name = name or one.compensation.name
        try:
            made = _filled(one, step, output)
            step.undo_fault = None
            return one.compensation.name, made
        except (Exception, SystemExit) as error:  # of another version, or the author's function fails
            step.undo_fault = plain(f"{type(error).__name__}: {words_of(error)}")
    return name, b""


def _filled(one: Activity[..., Any, Any], step: Step, output: bytes | None) -> bytes:
    """Raises MessageInvalid, and whatever the author's function raises."""
    assert one.fill is not None
    said = _read(one, output)
    sent = cast("BaseModel", codec.decode(one.input, step.body, what=one.name))
    return codec.checked(codec.encode(one.fill(sent, said)))


def _read(one: Activity[..., Any, Any], output: bytes | None) -> BaseModel | None:
    """Raises MessageInvalid."""
    return None if one.output_model is None else codec.decode(one.output_model, output, what=f"output of {one.name}")
