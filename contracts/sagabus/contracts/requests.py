"""Requests: what anybody may ask of a saga, as a bare JSON value with the saga id as the record's key.

    {"type": "start",  "saga": "order_processing", "input": {...}}
    {"type": "event",  "name": "payment.confirmed", "data": {...}, "event_id"?: "..."}
    {"type": "cancel", "reason"?, "actor"?}
    {"type": "retry" | "skip", "step", "reason", "actor"?}
    {"type": "complete", "step", "output", "reason", "actor"?}
    {"type": "acknowledge", "step"?, "reason", "actor"?}
    {"type": "pause" | "resume" | "terminate", "reason", "actor"?}

A verb may name the run that it is for, by "run"; otherwise it is for the run that is open, or was last. All headers are
optional. Unknown fields are ignored: that is the rule by which old and new understand each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from sagabus.contracts import codec, names
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import Headers, Message, Record, cloud_event
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.event_type import Event
from sagabus.contracts.headers import LONGEST, HeaderReader
from sagabus.contracts.names import RunId, SagaId
from sagabus.contracts.saga import Start


class RequestType(StrEnum):
    START = "start"
    EVENT = "event"
    CANCEL = "cancel"
    RETRY = "retry"
    SKIP = "skip"
    ACKNOWLEDGE = "acknowledge"
    """A person has seen why the saga is on attention, of one step or of all, and needs no longer be told."""
    COMPLETE = "complete"
    """A person knows that a step has completed, and with which output."""
    PAUSE = "pause"
    RESUME = "resume"
    TERMINATE = "terminate"
    """The saga ends at once, and nothing is undone."""


VERBS: Final[Mapping[RequestType, tuple[str, ...]]] = MappingProxyType({
    RequestType.RETRY: ("step", "reason"),
    RequestType.SKIP: ("step", "reason"),
    RequestType.ACKNOWLEDGE: ("reason",),
    RequestType.COMPLETE: ("step", "output", "reason"),
    RequestType.PAUSE: ("reason",),
    RequestType.RESUME: ("reason",),
    RequestType.TERMINATE: ("reason",),
})  # fmt: skip
"""An operator's requests, and the fields that each needs. A cancel is anybody's."""

_KNOWN: Final = {one.value: one for one in RequestType}
_START, _EVENT = RequestType.START, RequestType.EVENT
"""Looked up once: a member of an enum takes long to find."""
_PREFIX: Final = "sagabus."
MAX_NAME: Final = 300
"""Characters of a definition's or an event's name. Ours are shorter; this bounds what strangers send."""


HIGHEST_STEP: Final = 1_000_000
"""Far beyond what a history holds; a blocked saga keeps requests without looking into them."""

Text = Annotated[str, StringConstraints(max_length=LONGEST, pattern=r"^[^\x00]*$")]


class _Head(BaseModel):
    """The fields that decide what a request is; its input or data is read by the definition that knows its model."""

    type: str
    saga_id: str | None = None
    saga: str | None = None
    name: str | None = None
    event_id: Text | None = None
    reason: str = ""
    step: Annotated[int, Field(ge=1, le=HIGHEST_STEP)] | None = None
    actor: Text | None = None
    run: JsonValue = None
    """Of a verb; what starts and events may call so is their own."""
    output: JsonValue = None

    def has(self, field: str) -> bool:
        """An output may be null, as that of an activity without one."""
        return field in self.model_fields_set if field == "output" else bool(getattr(self, field))


@dataclass(slots=True, unsafe_hash=True)
class Request:
    """Never changed, and not frozen: making a frozen one takes three times as long.

    body: the whole value as it came. message_id: its `ce_id`, else `<topic>:<partition>:<offset>`.

    name: the definition of a start, the event's name of an event. dedupe: what makes two events the same one.
    run: that a verb is for; None for whichever is open, or was last.
    """

    type: RequestType
    saga_id: SagaId
    message_id: str
    body: bytes
    name: str = ""
    reason: str = ""
    dedupe: str = ""
    step: int | None = None
    actor: str | None = None
    run: RunId | None = None
    trace: Headers = ()


def read_request(record: Record) -> Request:
    """Raises MessageInvalid."""
    headers = HeaderReader(record.headers)
    body = record.value or b""
    head = codec.decode(_Head, body, what="request")
    kind = _type(head.type, headers.text("ce_type"))
    for field in VERBS.get(kind, ()):
        if not head.has(field):
            raise _incomplete(kind, field)
    given = headers.text("ce_id")
    message_id = given or f"{record.topic}:{record.partition}:{record.offset}"
    return Request(
        type=kind,
        saga_id=_saga_id(kind, record.key, head.saga_id),
        message_id=message_id,
        body=body,
        name=_name(kind, head),
        reason=head.reason,
        dedupe=(_own_id(headers, given) if given else None) or head.event_id or message_id,
        step=head.step,
        actor=head.actor,
        run=_run(kind, head),
        trace=headers.trace(),
    )


def _type(body: str, header: str | None) -> RequestType:
    kind = _KNOWN.get(body)
    if kind is None:
        raise MessageInvalid("request.type", f"type {body[:40]!r}: give one of {', '.join(sorted(_KNOWN))}")
    if header is not None and header not in (body, _PREFIX + body):
        raise MessageInvalid("request.type", f"ce_type {header[:60]!r} contradicts type {body!r}")
    return kind


def _own_id(headers: HeaderReader, id: str) -> str | None:
    """The sender's `ce_id`. One that the forwarder gave (S12) says where this copy lay, and no more than that."""
    return None if id == headers.text("ce_forwarded") else id


def _saga_id(kind: RequestType, key: bytes | None, in_body: str | None) -> SagaId:
    try:
        in_key = None if key is None else key.decode()
    except UnicodeDecodeError as error:
        raise MessageInvalid("saga_id.invalid", f"the key {key!r} is not UTF-8") from error
    if in_key and in_body and in_key != in_body:
        raise MessageInvalid("saga_id.differs", f"the key says {in_key[:60]!r}, the body {in_body[:60]!r}")
    found = in_key or in_body
    if not found:
        raise MessageInvalid("saga_id.missing", "no saga id: set the record's key, or saga_id in the body")
    return _checked_id(kind, found)


def _checked_id(kind: RequestType, text: str) -> SagaId:
    """One that was started when ids had fewer rules is still sent events, and cancelled."""
    return names.new_saga_id(text) if kind is _START else names.saga_id(text)


def _name(kind: RequestType, head: _Head) -> str:
    if kind is _START:
        field, value = "saga", head.saga
    elif kind is _EVENT:
        field, value = "name", head.name
    else:
        return ""
    if not value:
        raise _incomplete(kind, field)
    if "\0" in value or len(value) > MAX_NAME:
        raise MessageInvalid("request.name", f"{field} {value[:60]!r}: at most {MAX_NAME} characters, and no NUL")
    return value


def _incomplete(kind: RequestType, field: str) -> MessageInvalid:
    return MessageInvalid("request.incomplete", f"a request of type {kind.value!r} needs {field!r}")


def _run(kind: RequestType, head: _Head) -> RunId | None:
    run = head.run
    if run is None or kind in (_START, _EVENT):
        return None
    if not isinstance(run, str) or not run or len(run) > LONGEST or "\0" in run:
        raise MessageInvalid("request.run", f"run {str(run)[:60]!r}: give the run as the API shows it, or leave it out")
    return RunId(run)


def start_message(start: Start[Any], *, id: str, namespace: str, message_id: str, source: bytes, time: int) -> Message:
    """A start request as a message. Equal starts with one id are one saga."""
    return _message(
        start_body(start), RequestType.START,
        saga_id=id, namespace=namespace, message_id=message_id, source=source, time=time,
    )  # fmt: skip


def start_body(start: Start[Any]) -> bytes:
    """What a start request says. Raises MessageInvalid for an input that cannot be written."""
    return _start_body(start.saga.name, _encoded(start.input))


def _start_body(saga: str, input: bytes) -> bytes:
    return b'{"type":"start","saga":%b,"input":%b}' % (codec.encode_value(saga), input)


def start_of_saga(
    by: Addresses, body: bytes, *, id: str, number: int, time: int, cause: str, trace: Headers
) -> Message:
    """A start request that a saga makes. number: which of its own; so that each copy has the same id."""
    own = cloud_event(
        id=f"{by.saga_id}:{by.run}:start:{number}", source=by.source, type=_PREFIX + RequestType.START, time=time,
        subject=id, cause=cause,
    )  # fmt: skip
    return Message.of(names.requests_topic(by.namespace), id.encode(), body, (*own, *trace), by.saga_id)


def start_request(
    saga: str, input: bytes, *, saga_id: str, namespace: str, message_id: str, source: bytes, time: int,
    trace: Headers = (),
) -> Message:  # fmt: skip
    """As `start_message`, from the input as JSON. Raises MessageInvalid for an id that is none, or for too much."""
    return _message(
        _start_body(saga, input), RequestType.START,
        saga_id=saga_id, namespace=namespace, message_id=message_id, source=source, time=time, trace=trace,
    )  # fmt: skip


def event_message(
    event: Event[Any], *, saga_id: str, namespace: str, message_id: str, source: bytes, time: int
) -> Message:
    """An event for one saga. Sent twice with one message_id it counts once."""
    return event_request(
        event.type.name, _encoded(event.data),
        saga_id=saga_id, namespace=namespace, message_id=message_id, source=source, time=time,
    )  # fmt: skip


def event_request(
    name: str, data: bytes, *, saga_id: str, namespace: str, message_id: str, source: bytes, time: int,
    trace: Headers = (),
) -> Message:  # fmt: skip
    """The same from the data as JSON. Raises MessageInvalid for an id that no saga may have, and for too much."""
    return _message(
        b'{"type":"event","name":%b,"data":%b}' % (codec.encode_value(name), data), RequestType.EVENT,
        saga_id=saga_id, namespace=namespace, message_id=message_id, source=source, time=time, trace=trace,
    )  # fmt: skip


def raw_message(
    body: Mapping[str, JsonValue], *, saga_id: str, namespace: str, message_id: str, source: bytes, time: int
) -> Message:
    """Any request from its JSON form. Raises MessageInvalid for an unknown type."""
    kind = _type(str(body.get("type")), None)
    value = codec.encode_exactly(body)
    return _message(value, kind, saga_id=saga_id, namespace=namespace, message_id=message_id, source=source, time=time)


def _encoded(model: BaseModel) -> bytes:
    try:
        return codec.encode(model)
    except ValueError as error:  # of pydantic_core: a lone surrogate, a type that it does not know
        raise MessageInvalid("payload.invalid", f"{type(model).__name__} cannot be written as JSON: {error}") from error


def _message(
    body: bytes,
    kind: RequestType,
    *,
    saga_id: str,
    namespace: str,
    message_id: str,
    source: bytes,
    time: int,
    trace: Headers = (),
) -> Message:
    key = _checked_id(kind, saga_id)
    value = codec.checked(body)
    try:
        headers = cloud_event(id=message_id, source=source, type=_PREFIX + kind, time=time, subject=key, cause=None)
    except UnicodeEncodeError as error:
        raise MessageInvalid("headers.not_utf8", f"message id {message_id[:60]!r} is no text: {error}") from error
    HeaderReader(headers).required("ce_id")
    return Message.of(names.requests_topic(namespace), key.encode(), value, (*headers, *trace), key)
