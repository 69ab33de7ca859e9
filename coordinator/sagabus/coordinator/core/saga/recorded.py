"""A recorded history: one run of a saga in a file, as `sagabus show ID --export` writes it.

JSON lines. The first has the saga: `{"sagabus": 1, "saga": …, "version": …, "id": …, "run": …, "fingerprint": …,
"status": …, "started_at": …}`. Each other line has one row of history, in order. Its fields are the table's columns:
seq, at, kind, step, attempt, name, ref, payload, sequence. Times are RFC 3339 in UTC, with microseconds.

A payload is bytes. `payload` is there where these bytes are what its JSON value is written as; other bytes stand in
`payload_base64`; a row without a payload has neither. So each row is read as the very row that was written. Fields that
a reader does not know are left alone: a later release may add some.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Final

from pydantic import JsonValue
from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.contracts.envelope import microseconds, moment
from sagabus.contracts.errors import ExitCode, MessageInvalid, SagabusError
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus

FORM: Final = 1
"""Of the lines: what stands in `sagabus`. A reader refuses another one."""

_KINDS: Final = {kind.value: kind for kind in Kind}


class HistoryUnreadable(SagabusError):
    """A file that holds no recorded history, or one of another form. The sentence names the line and the cure."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Whose history it is. saga: the definition's name. fingerprint: of the code that it was decided with last.
    started_at: microseconds since 1970."""

    saga: str
    version: int
    id: str
    run: str
    fingerprint: str
    status: SagaStatus
    started_at: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """rows: all of them from the first one on, or those up to some turn: then it is read as the saga stood there."""

    head: Head
    rows: list[Row]


def head_fields(head: Head) -> dict[str, JsonValue]:
    """What the first line holds."""
    return {
        "sagabus": FORM, "saga": head.saga, "version": head.version, "id": head.id, "run": head.run,
        "fingerprint": head.fingerprint, "status": head.status.value, "started_at": _time(head.started_at),
    }  # fmt: skip


def row_fields(row: Row) -> dict[str, JsonValue]:
    """What the line of this row holds."""
    fields: dict[str, JsonValue] = {
        "seq": row.seq, "at": _time(row.at), "kind": row.kind.value, "step": row.step, "attempt": row.attempt,
        "name": row.name, "ref": row.ref,
    }  # fmt: skip
    if row.payload is not None:
        fields |= _payload_fields(row.payload)
    return {**fields, "sequence": row.sequence}


def lines(recorded: Recorded) -> Iterator[bytes]:
    """Each ends with a line feed."""
    for fields in chain([head_fields(recorded.head)], map(row_fields, recorded.rows)):
        yield line(fields)


def line(fields: Mapping[str, Any]) -> bytes:
    """One line of the file."""
    return codec.encode_value(fields) + b"\n"


def read(written: Iterable[bytes], *, what: str = "the recorded history") -> Recorded:
    """From lines; empty ones count for nothing. what: names the file, for the error.

    Raises HistoryUnreadable with the number of the line, what is wrong there and the cure.
    """
    head: Head | None = None
    rows: list[Row] = []
    for number, text in enumerate(written, 1):
        if not text.strip():
            continue
        try:
            fields = _object(text)
            if head is None:
                head = _head(fields)
            else:
                rows.append(_next_row(fields, rows))
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryUnreadable(f"{what}, line {number}: {_said(error)}") from error
    if head is None or not rows:
        raise HistoryUnreadable(f"{what} holds no history: write it with `sagabus show ID --export FILE`")
    return Recorded(head, rows)


def _object(text: bytes) -> dict[str, Any]:
    fields = from_json(text, allow_inf_nan=False)
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    return fields


def _head(fields: Mapping[str, Any]) -> Head:
    if "sagabus" not in fields:
        raise ValueError('the first line has no field "sagabus": write the file with `sagabus show ID --export FILE`')
    if fields["sagabus"] != FORM:
        raise ValueError(f'"sagabus" is {fields["sagabus"]!r}; this release reads {FORM}: read it with a newer release')
    texts = {name: _text(fields, name) for name in ("saga", "id", "run", "fingerprint")}
    status, started_at = SagaStatus(_text(fields, "status")), _microseconds(_text(fields, "started_at"))
    return Head(**texts, version=_number(fields, "version"), status=status, started_at=started_at)


def _next_row(fields: Mapping[str, Any], before: list[Row]) -> Row:
    row = _row(fields)
    if row.seq != len(before) + 1:
        raise ValueError(f"row {row.seq} stands where row {len(before) + 1} belongs: export the whole history again")
    return row


def _row(fields: Mapping[str, Any]) -> Row:
    """A kind that only a later release knows is read as `unknown`, with its word as the name."""
    word, name = _text(fields, "kind"), _text(fields, "name")
    kind = _KINDS.get(word, Kind.UNKNOWN)
    return Row(
        seq=_number(fields, "seq"), at=_microseconds(_text(fields, "at")), kind=kind, step=_number(fields, "step"),
        attempt=_number(fields, "attempt"), name=name if word in _KINDS else word, ref=_text(fields, "ref"),
        payload=_payload(fields), sequence=_number(fields, "sequence"),
    )  # fmt: skip


def _payload_fields(payload: bytes) -> dict[str, JsonValue]:
    try:
        value = codec.decode_value(payload)
        if codec.encode_value(value) == payload:
            return {"payload": value}
    except (MessageInvalid, ValueError):
        pass  # no JSON, or none that we read
    return {"payload_base64": b64encode(payload).decode()}


def _payload(fields: Mapping[str, Any]) -> bytes | None:
    if "payload_base64" in fields:
        return b64decode(_text(fields, "payload_base64"), validate=True)
    return codec.encode_value(fields["payload"]) if "payload" in fields else None


def _time(at: int) -> str:
    return moment(at).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _microseconds(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset: give it in UTC, as 2026-01-31T12:00:00.000000Z")
    return microseconds(at)


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int:
        raise ValueError(f'"{name}" is {value!r}; it must be a whole number')
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is {value!r}; it must be text')
    return value


def _said(error: Exception) -> str:
    return f'the field "{error.args[0]}" is missing' if isinstance(error, KeyError) else str(error)
