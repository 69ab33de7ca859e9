"""What becomes of what an operator asks of a saga: applied, refused, or kept. Each request is answered once.

An applied verb is its own row of history. A refused one leaves a notice with its code, its words and who asked, and
changes nothing else. Both are told to the world (`sagabus.request.applied`, `sagabus.request.refused`, and of a cancel
`sagabus.cancel.rejected`), and to whoever waits for it in this process. A verb that a blocked saga keeps is neither
yet: it is answered when it is decided upon. A second copy of a request changes nothing and is not answered again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.lifecycle import LifecycleType, rejection_message
from sagabus.contracts.requests import RequestType
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga.effects import RequestAnswer, RequestOutcome
from sagabus.coordinator.core.saga.history import REFUSED, Input, Kind, Row
from sagabus.coordinator.core.saga.state import SagaState

CANCEL: Final = "cancel"
ENDS: Final = frozenset((CANCEL, RequestType.TERMINATE.value))
"""Verbs that end a saga whatever its code would do. A blocked one does not keep them for long: its owner loads its
history, and then decides."""
MAX_REFUSALS_OF_CLOSED: Final = 100
"""Refused requests of which a closed saga keeps a row. Later ones are told, and leave none: nothing of a saga that has
ended may grow without end."""

MAX_REASON: Final = 4_000
"""Characters of the operator's reason in the row of a refusal."""


class Refusal(NamedTuple):
    """A refused request as its row has it."""

    verb: str
    code: str
    message: str
    reason: str
    actor: str


def verb_of(asked: Input | Row) -> str:
    """The verb; empty for what is none."""
    if asked.kind is Kind.CANCEL:
        return CANCEL
    return asked.name if asked.kind is Kind.OPERATOR else ""


def ends(asked: Input | Row) -> bool:
    """Whether it asks for the end of a saga, whatever its code would do."""
    return verb_of(asked) in ENDS


def is_refusal(row: Input | Row) -> bool:
    return row.kind is Kind.NOTICE and row.name == REFUSED


def is_answered(state: SagaState, asked: Input | Row) -> bool:
    """Whether this is a copy of a request that history has. Rows are history: older releases wrote some twice."""
    return not isinstance(asked, Row) and asked.ref in state.answered


def note(state: SagaState, row: Row) -> None:
    """A verb, or a refusal, that history has from here on."""
    state.answered.add(row.ref)
    if is_refusal(row) and state.is_closed and row.at >= (state.closed_at or 0):
        state.refusals_since_end += 1


def applied(state: SagaState, row: Row) -> None:
    """All that follows from it is decided."""
    verb = verb_of(row)
    state.tell(LifecycleType.REQUEST_APPLIED, request=verb)
    state.answer(RequestAnswer(row.ref, verb, RequestOutcome.APPLIED))


def kept(state: SagaState, asked: Input | Row) -> None:
    state.answer(RequestAnswer(asked.ref, verb_of(asked), RequestOutcome.KEPT))


def refused(state: SagaState, asked: Input | Row, code: str, message: str) -> Row | None:
    """Tell it. Returns the row of the refusal, which has its place in history; None where no more are kept."""
    verb = verb_of(asked)
    state.answer(RequestAnswer(asked.ref, verb, RequestOutcome.REFUSED, code, message))
    if not state.journal.replaying:
        state.staged.messages.append(_told(state, asked, verb, code, message))
    if state.refusals_since_end >= MAX_REFUSALS_OF_CLOSED:
        state.answered.add(asked.ref)
        return None
    reason, actor = _why_and_who(asked)
    words: dict[str, JsonValue] = Refusal(verb, code, plain(message), reason, actor)._asdict()
    return state.journal.noted(
        Kind.NOTICE, at=state.now, step=asked.step, name=REFUSED, ref=asked.ref, payload=codec.encode_value(words)
    )


def _told(state: SagaState, asked: Input | Row, verb: str, code: str, message: str) -> Message:
    """Without a number among the saga's events: a closed saga may refuse what leaves no row."""
    a = state.addresses
    body = codec.encode_value({
        "saga_id": state.id, "saga": state.definition, "version": state.version, "status": state.status,
        "request": verb, "error": {"code": code, "message": plain(message)},
    })  # fmt: skip
    type = LifecycleType.CANCEL_REJECTED if verb == CANCEL else LifecycleType.REQUEST_REFUSED
    return rejection_message(
        namespace=a.namespace, source=source_of(a.namespace), type=type, saga_id=state.id, body=body, time=state.now,
        cause=asked.ref, shard=a.shard,
    )  # fmt: skip


def read_refusal(row: Row) -> Refusal:
    """What the row of a refusal says."""
    said = from_json(row.payload or b"{}")
    return Refusal(**{field: str(said.get(field) or "") for field in Refusal._fields})


def answer_of(row: Row, decided: int | None) -> RequestAnswer | None:
    """What the latest row of a request tells. decided: of the saga's row; rows after that one are kept.

    None for another notice.
    """
    if is_refusal(row):
        said = read_refusal(row)
        return RequestAnswer(row.ref, said.verb, RequestOutcome.REFUSED, said.code, said.message)
    verb = verb_of(row)
    if not verb:
        return None
    is_kept = decided is not None and row.seq > decided
    return RequestAnswer(row.ref, verb, RequestOutcome.KEPT if is_kept else RequestOutcome.APPLIED)


def _why_and_who(asked: Input | Row) -> tuple[str, str]:
    """The operator's reason, and who it was. Of a cancel the payload is the reason, and the name who asked."""
    if asked.kind is Kind.CANCEL:
        return plain((asked.payload or b"").decode(errors="replace"), most=MAX_REASON), asked.name
    try:
        said = from_json(asked.payload or b"{}")
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    return plain(str(said.get("reason") or ""), most=MAX_REASON), plain(str(said.get("actor") or ""))
