"""From a record, or a timer, to what it means: a start, or the input of a saga. It keeps this form until it is a row.

Bytes that mean nothing raise MessageInvalid. Most records are replies of steps that have completed, with headers as
`replies.reply_message` writes them: those are read at once, by a short way. It accepts some of what the rules allow,
and never raises. All others are read header by header.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.headers import CUT_BATCH, LONGEST, HeaderReader
from sagabus.contracts.names import CommandKind, RunId, SagaId, parse_command_id, replying_service
from sagabus.contracts.replies import REPLY_TYPES, ReplyKind, kept_failure
from sagabus.contracts.requests import Request, RequestType, read_request
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga.concern import BROKEN_ANSWER, ConcernKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.shard.timers import TimerPlace

_DO, _UNDO, _SETTLE = CommandKind.DO, CommandKind.UNDO, CommandKind.SETTLE

_FAILURES: Final = (ReplyKind.REFUSED, ReplyKind.FAILED)

_ANSWERS: Final = {
    (_DO, ReplyKind.COMPLETED): Kind.STEP_COMPLETED,
    (_DO, ReplyKind.REFUSED): Kind.STEP_REFUSED,
    (_DO, ReplyKind.FAILED): Kind.STEP_FAILED,
    (_UNDO, ReplyKind.COMPLETED): Kind.UNDO_COMPLETED,
    (_UNDO, ReplyKind.REFUSED): Kind.UNDO_REFUSED,
    (_UNDO, ReplyKind.FAILED): Kind.UNDO_FAILED,
    (_SETTLE, ReplyKind.COMPLETED): Kind.SETTLE_COMPLETED,
    (_SETTLE, ReplyKind.NEVER): Kind.SETTLE_NEVER,
    (_SETTLE, ReplyKind.REFUSED): Kind.SETTLE_FAILED,
    (_SETTLE, ReplyKind.FAILED): Kind.SETTLE_FAILED,
}


_USUAL: Final = {f"sagabus.reply.{ReplyKind.COMPLETED}".encode(): Kind.STEP_COMPLETED}
"""What is said by a usual reply."""

_ATTEMPTS: Final = {b"%d" % attempt: attempt for attempt in range(1, 100)}

_CONCERNS: Final = {_DO: ConcernKind.STEP, _UNDO: ConcernKind.UNDO, _SETTLE: ConcernKind.SETTLE}


def read(record: Record, namespace: str) -> Request | Input:
    """A start request, or an input. Raises MessageInvalid."""
    service = replying_service(namespace, record.topic)
    return _request(record) if service is None else usual_reply(record, service) or any_reply(record, service)


def _request(record: Record) -> Request | Input:
    request = read_request(record)
    if request.type is RequestType.START:
        return request
    if request.type is RequestType.EVENT:
        return _input(request, Kind.EVENT, name=request.name, ref=request.dedupe, payload=request.body)
    if request.type is RequestType.CANCEL:
        actor, reason = request.actor or "", request.reason.encode()
        return _input(request, Kind.CANCEL, name=actor, ref=request.message_id, payload=reason)
    step, verb = request.step or 0, request.type.value
    return _input(request, Kind.OPERATOR, step, verb, ref=request.message_id, payload=request.body)


def _input(request: Request, kind: Kind, step: int = 0, name: str = "", *, ref: str, payload: bytes) -> Input:
    return Input(request.saga_id, request.run, kind, step, 0, name, ref, payload, request.message_id)


def usual_reply(record: Record, service: str) -> Input | None:
    """None for whatever is not as usual, be it right or wrong."""
    headers = record.headers
    values: dict[str, bytes | None] = dict(headers)
    kind, attempt = _USUAL.get(values.get("ce_type") or b""), _ATTEMPTS.get(values.get("ce_attempt") or b"")
    if kind is None or attempt is None or len(values) != len(headers) or CUT_BATCH in values:
        return None
    cause, id = _plain(values.get("ce_causationid")), _plain(values.get("ce_id"))
    head, _, step = cause.rpartition(":")
    saga_id, _, run = head.rpartition(":")
    if not (saga_id and run and id and step.isdigit() and len(step) <= 9):
        return None
    return Input(SagaId(saga_id), RunId(run), kind, int(step), attempt, service, id, record.value, id)


def _plain(value: bytes | None) -> str:
    """A header's text, if it is ASCII, not too long and has no NUL; empty otherwise."""
    if not value or len(value) > LONGEST or not value.isascii() or 0 in value:
        return ""
    return value.decode()


def any_reply(record: Record, service: str) -> Input:
    """Header by header, so that every fault has its name. Raises MessageInvalid."""
    headers = HeaderReader(record.headers)
    saga_id, run, step, command = parse_command_id(headers.required("ce_causationid"))
    id = headers.text("ce_id") or f"{record.topic}:{record.partition}:{record.offset}"
    said = _said(headers.required("ce_type"))
    body = kept_failure(said, record.value) if said in _FAILURES else record.value
    return Input(saga_id, run, _answer(command, said), step, headers.number("ce_attempt"), service, id, body, id)


def _said(type: str) -> ReplyKind:
    said = REPLY_TYPES.get(type)
    if said is None:
        raise MessageInvalid("reply.type", f"ce_type {type[:60]!r} is no reply; replies are {', '.join(REPLY_TYPES)}")
    return said


def _answer(command: CommandKind, said: ReplyKind) -> Kind:
    kind = _ANSWERS.get((command, said))
    if kind is None:
        raise MessageInvalid("reply.kind", f"{said.value!r} is no answer to {command.value!r}")
    return kind


def broken_reply(record: Record, namespace: str, fault: MessageInvalid) -> tuple[Input, str] | None:
    """What the saga is to be told of a reply that cannot be read: a notice, and the service that has answered.

    None for what is no reply, and for one that does not say either which command it answers.
    """
    service = replying_service(namespace, record.topic)
    if service is None:
        return None
    try:
        saga_id, run, step, command = parse_command_id(HeaderReader(record.headers).required("ce_causationid"))
    except MessageInvalid:
        return None
    words = plain(f"{fault.reason}: {fault.message}").encode()
    return Input(saga_id, run, Kind.NOTICE, step, 0, _CONCERNS[command], BROKEN_ANSWER, words), service


def timer_input(place: TimerPlace) -> Input:
    """A timer that is due."""
    saga_id, run, (kind, number) = place
    cause = f"{saga_id}:{run}:timer:{kind}:{number}"
    return Input(saga_id, run, Kind.TIMER, number, name=kind, cause=cause)
