"""The JSON of the API, as models. Times are RFC 3339 in UTC. Fields may be added; none is renamed or left out.

Payloads are JSON and shown as such. What is not JSON, from a participant that went astray, is shown as
`{"base64": "…"}`: people must be able to see it.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Final

from pydantic import BaseModel, JsonValue

from sagabus.contracts import codec
from sagabus.contracts.envelope import moment
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.core.saga.concern import WORDS_ALONE, Concern, ConcernKind, Told, read_concerns
from sagabus.coordinator.core.saga.cure import cure_of
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.request_answers import is_refusal
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.http.refusals import ErrorDetail
from sagabus.coordinator.http.step_progress import StepProgress, StepStatus
from sagabus.coordinator.http.wait_views import EventView, WaitView, events_of
from sagabus.coordinator.http.waits import Waits, kept_events
from sagabus.coordinator.store.operators import SagaDetails
from sagabus.coordinator.store.recent import Recent
from sagabus.coordinator.store.rows import SagaRow, TimerRow

_WORDS: Final = frozenset((Kind.CANCEL, Kind.BLOCKED, Kind.NOTICE))
"""Rows whose payload is a sentence, not JSON."""


class ConcernView(BaseModel):
    """Why a saga is flagged for attention. kind: a code. step: the one that it is about, if any. words: for people.
    cure: what ends it, with the commands to type."""

    kind: str
    step: int | None
    words: str
    cure: str


class SagaSummary(BaseModel):
    """One line of a list. `saga` is the definition's name. attention: the words of the latest concern.

    waits: what an open saga waits for. waits_complete: false where older rows of a long history may tell of more.
    attributes: those that its code has set, the others with their defaults; null where it declares none.
    error_code: of the error that has ended it, or that it is being undone for; null without one.
    """

    id: str
    run: str
    saga: str
    version: int
    status: SagaStatus
    error_code: str | None
    attention: str | None
    concerns: list[ConcernView]
    paused: bool
    shard: int
    started_at: datetime
    closed_at: datetime | None
    waits: list[WaitView]
    waits_complete: bool
    attributes: JsonValue

    @classmethod
    def of(cls, row: SagaRow, waits: Waits) -> SagaSummary:
        return cls.model_validate(_summary(row, waits))


class SagaPage(BaseModel):
    """next: give it as `cursor` to go on; null at the end. A page with a `next` may hold fewer than were asked for, or
    none: it looks at a bounded number of sagas."""

    sagas: list[SagaSummary]
    next: str | None


class StepView(BaseModel):
    """status: how its command fares. undo: how its undo does, `none` before it has begun.

    waits: what the step, or its undo, waits for before it is sent; null when it waits for nothing of this saga.
    since: when what it is in began: sent, failed, completed, its undo sent. undo_attempts: 0 before it was sent.
    """

    number: int
    activity: str
    status: StepStatus
    attempts: int
    output: JsonValue
    error: JsonValue
    undo: Undoing
    compensation: str | None
    undo_error: JsonValue
    waits: str | None
    since: datetime
    undo_attempts: int

    @classmethod
    def of(cls, step: StepProgress) -> StepView:
        return cls(
            number=step.number, activity=step.activity, status=step.status, attempts=step.attempts,
            output=shown(step.output), error=shown(step.error), undo=step.undo, compensation=step.compensation,
            undo_error=shown(step.undo_error), waits=step.waits, since=moment(step.since),
            undo_attempts=step.undo_attempts,
        )  # fmt: skip


class TimerView(BaseModel):
    """number: the step that it belongs to, or which of the saga's own timers it is."""

    kind: str
    number: int
    due: datetime

    @classmethod
    def of(cls, timer: TimerRow) -> TimerView:
        return cls(kind=timer.kind, number=timer.number, due=moment(timer.due))


class ParentView(BaseModel):
    """Whose step this saga is."""

    id: str
    run: str | None
    step: int | None


class SagaView(SagaSummary):
    """One saga with what is known of it but for its steps and its history: both may be long, and have an address each.

    timers: the first that are due, at most MAX_TIMERS_SHOWN. events: those among the latest rows of its history.
    history_rows: how many there are.
    """

    input: JsonValue
    result: JsonValue
    error: JsonValue
    parent: ParentView | None
    timers: list[TimerView]
    events: list[EventView]
    history_rows: int

    @classmethod
    def whole(cls, row: SagaRow, details: SagaDetails, waits: Waits, recent: Recent) -> SagaView:
        parent = None
        if row.parent_id is not None:
            parent = ParentView(id=row.parent_id, run=row.parent_run, step=row.parent_step)
        return cls.model_validate(
            {
                **_summary(row, waits),
                "input": _input(details.first),
                "result": shown(row.result),
                "error": shown(row.error),
                "parent": parent,
                "timers": [TimerView.of(timer) for timer in details.timers],
                "events": events_of(recent.rows, kept_events(row, recent)),
                "history_rows": recent.rows[-1].seq if recent.rows else 0,
            }
        )


class StepsView(BaseModel):
    """Steps by number. next: give it as `after` to go on; null at the end."""

    id: str
    run: str
    steps: list[StepView]
    next: int | None


class HistoryRowView(BaseModel):
    """One row as it stands in the table."""

    seq: int
    at: datetime
    kind: str
    step: int
    attempt: int
    name: str
    ref: str
    payload: JsonValue

    @classmethod
    def of(cls, row: Row) -> HistoryRowView:
        words = row.kind in _WORDS and row.payload is not None and not is_refusal(row)
        payload = (row.payload or b"").decode(errors="replace") if words else shown(row.payload)
        return cls(
            seq=row.seq, at=moment(row.at), kind=row.kind, step=row.step, attempt=row.attempt, name=row.name,
            ref=row.ref, payload=payload,
        )  # fmt: skip


class HistoryView(BaseModel):
    """next: give it as `after` to go on; null at the end."""

    id: str
    run: str
    rows: list[HistoryRowView]
    next: int | None


class ExportView(BaseModel):
    """A page of a recorded history (`sagabus show ID --export`). head: the first line of the file, as of now. rows: the
    lines of these rows, each with the bytes that it has. next: give it as `after` to go on; null at the end."""

    id: str
    run: str
    head: JsonValue
    rows: list[JsonValue]
    next: int | None


class Accepted(BaseModel):
    """The request is published. message_id: its `ce_id`, by which its effects can be recognised as caused by it."""

    id: str
    message_id: str


class StartAccepted(Accepted):
    """ignored: paths of fields of the input that the saga's model does not have; the first five."""

    ignored: list[str]


class EventAccepted(Accepted):
    """name: of the event, as it was sent. words: what becomes of it, for people. waits_for: names of the events that
    the saga's code waits for now; null where that is not known, or says nothing of this event."""

    name: str
    words: str
    waits_for: list[str] | None


class VerbAnswer(BaseModel):
    """What became of a verb. outcome: `applied`; `refused`, with the code and the reason in error; `kept` in history
    until the saga's code can go on; `unknown` while it is not decided.

    message_id: of the request, its `ce_id`, which is the ref of its row in history. waits_for: what a request that is
    kept or unknown waits for, in words. saga: as it stands now; null where that could not be read. look_again: where
    to ask again for the outcome of one that is kept or unknown.
    """

    id: str
    run: str | None
    request: str
    message_id: str
    outcome: str
    error: ErrorDetail | None
    waits_for: str | None
    saga: SagaSummary | None
    look_again: str | None


def shown(payload: bytes | None) -> JsonValue:
    if not payload:
        return None
    try:
        return codec.decode_value(payload)
    except MessageInvalid:
        return {"base64": b64encode(payload).decode()}


def _summary(row: SagaRow, waits: Waits) -> dict[str, object]:
    return {
        "id": row.id,
        "run": row.run,
        "saga": row.definition,
        "version": row.version,
        "status": row.status,
        "error_code": _code_of(row.error),
        "attention": row.attention,
        "concerns": _concerns(row),
        "paused": row.paused,
        "shard": row.shard,
        "started_at": moment(row.started_at),
        "closed_at": None if row.closed_at is None else moment(row.closed_at),
        "waits": [WaitView.of(wait) for wait in waits.waits],
        "waits_complete": waits.is_complete,
        "attributes": shown(row.attributes),
    }


def _code_of(error: bytes | None) -> str | None:
    """None without an error, and for one that an older release wrote in another form."""
    value = shown(error)
    code = value.get("code") if isinstance(value, dict) else None
    return code if isinstance(code, str) else None


def _concerns(row: SagaRow) -> list[ConcernView]:
    """The latest last."""
    found = read_concerns(row.concerns, attention=row.attention)
    return [_concern(row, one, found.told(one) or WORDS_ALONE, words) for one, words in found.items()]


def _concern(row: SagaRow, concern: Concern, told: Told, words: str) -> ConcernView:
    cure = cure_of(concern, id=row.id, code=told.code, closed=row.is_closed)
    return ConcernView(kind=concern.kind, step=_step(concern), words=words, cure=cure)


def _step(concern: Concern) -> int | None:
    """Of a concern that counts others the number is none of a step."""
    return None if concern.kind is ConcernKind.MORE else concern.number or None


def _input(first: Row | None) -> JsonValue:
    """Of the start request that is the first row; a row that is no request shows as it is."""
    request = None if first is None else shown(first.payload)
    return request["input"] if isinstance(request, dict) and "input" in request else request
