"""A saga that another one starts, and that is nobody's child: a decision, and a start request through the outbox.

Nobody answers it. What the saga asks of its children is a step, and stands elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from sagabus.contracts import names
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.requests import start_of_saga
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.state import SagaState


@dataclass(frozen=True, slots=True)
class NewSaga:
    """What the code asks for. number: of the saga's steps, which it shares; body: the request."""

    number: int
    id: str
    name: str
    body: bytes


def new_id(given: str | None, *, of: str, number: int) -> str:
    """`<of>.<number>`, or the one that was given. Raises MessageInvalid for no id, DeclarationError for `of` itself."""
    id = f"{of}.{number}" if given is None else given
    if id == of:
        raise DeclarationError(f"saga {of} starts a saga with its own id; give another id, or none: then it is {of}.1")
    return names.new_saga_id(id)


def begin(state: SagaState, asked: NewSaga) -> None:
    """Sent once, in the turn's transaction."""
    state.decide(Kind.START, step=asked.number, name=asked.name, ref=asked.id, payload=asked.body)
    state.send(start_of_saga(
        state.addresses, asked.body, id=asked.id, number=asked.number, time=state.now, cause=state.cause,
        trace=state.trace,
    ))  # fmt: skip
