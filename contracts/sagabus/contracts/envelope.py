"""What a Kafka record looks like to us, and how its headers are written.

Headers follow the CloudEvents 1.0 Kafka protocol binding in binary mode (section 3.2: attributes as `ce_` headers,
`content-type` for the media type of the value). Nothing here reads a clock or a socket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

Headers = tuple[tuple[str, bytes], ...]

MAX_PAYLOAD: Final = 900 * 1024
"""Bytes of one value. Brokers take 1 MiB a batch by default; the rest is room for headers and framing."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = -1
_PACKED_NULL: Final = _LENGTH.pack(_NULL)
_FIXED: Final[Headers] = (("content-type", b"application/json"), ("ce_specversion", b"1.0"))


class Record(Protocol):
    """A record as it was read. `timestamp` is in milliseconds; `aiokafka.ConsumerRecord` fits as it is."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(slots=True, unsafe_hash=True)
class Message:
    """A record that is to be published. Without a partition the key's murmur2 hash chooses it.

    A partition counts modulo those of the topic: whoever sends to a shard need not know how many a topic has. Never
    changed. It is not frozen, since making a frozen one takes three times as long and each turn makes hundreds.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    saga_id: str
    partition: int | None = None
    common: Common | None = field(default=None, repr=False, compare=False)
    """What its headers begin with, where all messages of its saga begin so."""

    @property
    def packed_headers(self) -> bytes:
        """As `pack_headers` has them."""
        if self.common is None:
            return pack_headers(self.headers)
        return self.common.packed + pack_headers(self.headers[len(self.common.headers) :])


class Common:
    """Headers that all messages of one saga begin with, and their packed form: made once, needed by each message."""

    __slots__ = ("headers", "packed")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.packed = pack_headers(headers)


def pack_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Headers as one byte string, for a bytea column. A null value stays null; order and repeats are kept."""
    parts: list[bytes] = []
    add = parts.append
    for name, value in headers:
        if value is None:
            add(_packed(name.encode()) + _PACKED_NULL)
            continue
        try:
            add(_PACKED[name][len(value)])
        except LookupError:
            add(_packed(name.encode()) + _LENGTH.pack(len(value)))
        add(value)
    return b"".join(parts)


def _packed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


_OUR_NAMES: Final = (
    "content-type", "ce_specversion", "ce_source", "ce_subject", "ce_correlationid", "ce_id", "ce_type", "ce_time",
    "ce_causationid", "ce_run", "ce_step", "ce_attempt", "ce_issued", "ce_replyto", "ce_replypartition",
    "ce_compensates", "ce_settles", "ce_timeout", "ce_sequence", "traceparent", "tracestate",
)  # fmt: skip
_USUAL_LENGTHS: Final = 160
"""Bytes of a value: most of ours have some twenty, and an id of a saga and its step seldom more than a hundred."""
_PACKED: Final = {
    name: tuple(_packed(name.encode()) + _LENGTH.pack(length) for length in range(_USUAL_LENGTHS))
    for name in _OUR_NAMES
}
"""All that stands before a value of this length, ready: each message has fifteen. Others take a little longer."""


def unpack_headers(data: bytes) -> Headers:
    """The reverse of `pack_headers`. Raises ValueError for bytes that it did not write."""
    fields: list[bytes | None] = []
    at = 0
    while at < len(data):
        if len(data) - at < _LENGTH.size:
            raise ValueError(f"packed headers end in the middle of a length, at byte {at}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if not _NULL <= length <= len(data) - at:
            raise ValueError(f"packed headers are cut short: {length} bytes wanted at byte {at}")
        fields.append(None if length == _NULL else data[at : at + length])
        at += max(length, 0)
    if len(fields) % 2:
        raise ValueError("packed headers end with a name without a value")
    return tuple((_name(fields[i]), fields[i + 1]) for i in range(0, len(fields), 2))  # type: ignore[misc]


def _name(field: bytes | None) -> str:
    return "" if field is None else field.decode()


@lru_cache(maxsize=1024)
def rfc3339(at: int) -> bytes:
    """Microseconds since 1970 as RFC 3339 in UTC: the form of `ce_time` and `ce_issued`."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


def microseconds(at: datetime) -> int:
    """Microseconds since 1970. Exact, unlike `timestamp()`, which is a float."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def common_headers(source: bytes, subject: str) -> Headers:
    """The attributes that all messages of one saga share: made once for each saga, since every message has them."""
    saga = subject.encode()
    return (*_FIXED, ("ce_source", source), ("ce_subject", saga), ("ce_correlationid", saga))


def cloud_event(*, id: str, source: bytes, type: str, time: int, subject: str, cause: str | None) -> Headers:
    """The attributes that every message of ours bears. `cause` is the id of the message that led to this one."""
    return own_headers(common_headers(source, subject), id=id, type=type, time=time, cause=cause)


def own_headers(common: Headers, *, id: str, type: str, time: int, cause: str | None) -> Headers:
    """One message's attributes behind those that it shares with others. time: microseconds since 1970."""
    if cause is None:
        return (*common, ("ce_id", id.encode()), ("ce_type", type.encode()), ("ce_time", rfc3339(time)))
    return (
        *common, ("ce_id", id.encode()), ("ce_type", type.encode()), ("ce_time", rfc3339(time)),
        ("ce_causationid", cause.encode()),
    )  # fmt: skip


def source_of(namespace: str, service: str | None = None) -> bytes:
    """`ce_source`: who speaks."""
    return (f"/sagabus/{namespace}" if service is None else f"/sagabus/{namespace}/{service}").encode()
