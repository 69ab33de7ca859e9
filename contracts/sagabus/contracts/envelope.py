"""What a Kafka record looks like to us, and how its headers are written.

Headers follow the CloudEvents 1.0 Kafka protocol binding in binary mode (section 3.2: attributes as `ce_` headers,
`content-type` for the media type of the value). Nothing here reads a clock or a socket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

from sagabus.contracts.record_bytes import header, header_bytes, header_maker, read_key, read_record, record_of

Headers = tuple[tuple[str, bytes], ...]

MAX_PAYLOAD: Final = 900 * 1024
"""Bytes of one value. Brokers take 1 MiB a batch by default; the rest is room for headers and framing."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = -1
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

    record: key, value and headers as Kafka keeps them (`record_bytes`). Nothing on the way to Kafka reads them; who
    wants to know what they say pays for the reading. A partition counts modulo those of the topic: whoever sends to a
    shard need not know how many a topic has. Never changed. It is not frozen, since making a frozen one takes three
    times as long and each turn makes hundreds.
    """

    topic: str
    saga_id: str
    partition: int | None
    record: bytes

    @classmethod
    def of(
        cls,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]],
        saga_id: str,
        partition: int | None = None,
    ) -> Message:
        """Of a record's parts. Raises ValueError or TypeError for one that cannot be written."""
        return cls(topic, saga_id, partition, record_of(key, value, header_bytes(headers)))

    @property
    def key(self) -> bytes | None:
        return read_key(self.record)

    @property
    def value(self) -> bytes | None:
        return read_record(self.record).value

    @property
    def headers(self) -> Headers:
        return read_record(self.record).headers


def pack_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Headers as one byte string, for a bytea column. A null value stays null; order and repeats are kept."""
    return b"".join(_packed(name.encode()) + _packed(value) for name, value in headers)


def _packed(data: bytes | None) -> bytes:
    return _LENGTH.pack(_NULL) if data is None else _LENGTH.pack(len(data)) + data


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
    """The attributes that all messages of one saga share, in the order in which they come first."""
    saga = subject.encode()
    return (*_FIXED, ("ce_source", source), ("ce_subject", saga), ("ce_correlationid", saga))


def cloud_event(*, id: str, source: bytes, type: str, time: int, subject: str, cause: str | None) -> Headers:
    """The attributes that every message of ours bears. `cause` is the id of the message that led to this one."""
    own = (("ce_id", id.encode()), ("ce_type", type.encode()), ("ce_time", rfc3339(time)))
    caused = () if cause is None else (("ce_causationid", cause.encode()),)
    return (*common_headers(source, subject), *own, *caused)


def common_bytes(source: bytes, subject: str) -> tuple[bytes, ...]:
    """The bytes of `common_headers`."""
    saga = subject.encode()
    return (*_sources(source), _subject(saga), _correlation(saga))


COMMON_HEADERS: Final = 5
"""Of `common_pieces`."""


def common_pieces(source: bytes, subject: bytes) -> tuple[bytes, bytes, bytes]:
    """The same bytes in three pieces: headers that all sagas have alike are joined, and kept."""
    return _joined_sources(source), _subject(subject), _correlation(subject)


def own_bytes(id: str, type: str, time: int, cause: str | None) -> list[bytes]:
    """The bytes of the others of `cloud_event`, for whatever comes behind them. time: microseconds since 1970."""
    if cause is None:
        return [_id(id.encode()), _type(type), time_bytes("ce_time", time)]
    return [_id(id.encode()), _type(type), time_bytes("ce_time", time), _cause(cause.encode())]


OWN_HEADERS: Final = 4
"""Of `own_pieces`."""


def own_pieces(id: str, type: str, time: int, cause: str) -> list[bytes]:
    """The same bytes of a message with a cause, in three pieces: type and time, which many messages of a turn have
    alike, are joined, and kept."""
    return [_id(id.encode()), _type_and_time(type, time), _cause(cause.encode())]


@lru_cache(maxsize=1024)
def time_bytes(name: str, at: int) -> bytes:
    """The bytes of a header with a time, in microseconds since 1970. All messages of a turn have the same."""
    return header(name, rfc3339(at))


@lru_cache(maxsize=4096)
def number_bytes(name: str, number: int) -> bytes:
    """The bytes of a header with a whole number. Most are small, or the same for all sagas of a definition."""
    return header(name, b"%d" % number)


@lru_cache(maxsize=256)
def trace_bytes(trace: Headers) -> tuple[bytes, ...]:
    """The bytes of the headers that all messages of a saga end with."""
    return header_bytes(trace)


@lru_cache(maxsize=1024)
def _type(type: str) -> bytes:
    return header("ce_type", type.encode())


@lru_cache(maxsize=1024)
def _type_and_time(type: str, time: int) -> bytes:
    return _type(type) + time_bytes("ce_time", time)


@lru_cache(maxsize=64)
def _sources(source: bytes) -> tuple[bytes, ...]:
    return header_bytes((*_FIXED, ("ce_source", source)))


@lru_cache(maxsize=64)
def _joined_sources(source: bytes) -> bytes:
    return b"".join(_sources(source))


_id: Final = header_maker("ce_id")
_cause: Final = header_maker("ce_causationid")
_subject: Final = header_maker("ce_subject")
_correlation: Final = header_maker("ce_correlationid")


def source_of(namespace: str, service: str | None = None) -> bytes:
    """`ce_source`: who speaks."""
    return (f"/sagabus/{namespace}" if service is None else f"/sagabus/{namespace}/{service}").encode()
