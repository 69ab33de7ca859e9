"""The bytes of a record as Kafka keeps it. This is the one module that knows their format.

A message is made of these bytes where it is decided. The outbox keeps them, and a batch for Kafka holds them unchanged.
They are what stands in a record of Kafka's message format 2 behind its length, attributes, and differences of time and
offset: key, value, the number of headers, then name and value of each. Each of these is a length and that many bytes;
-1 is the length of null. Lengths and numbers are variable-length integers in zigzag encoding.

Most of a message's headers are the same in many messages, so their bytes are made once: `header_maker` has what stands
before a value ready, and a `Prefix` holds the headers that all messages of a saga begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple


class PlainRecord(NamedTuple):
    """What the bytes of a record say. A header's value may be None, though few expect it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def _varint(number: int) -> bytes:
    left = number << 1 if number >= 0 else ~(number << 1)
    made = bytearray()
    while left > 0x7F:
        made.append(left & 0x7F | 0x80)
        left >>= 7
    made.append(left)
    return bytes(made)


_READY: Final = tuple(map(_varint, range(8192)))
"""All of at most two bytes."""
_NULL: Final = _varint(-1)
_USUAL_LENGTHS: Final = 256
"""Bytes of a header's value. Most of ours have some twenty, ids seldom more than a hundred."""
_LONGEST: Final = 5
"""Bytes of a variable-length integer of 32 bits."""


def varint(number: int) -> bytes:
    """A number that is not negative."""
    return _READY[number] if number < len(_READY) else _varint(number)


def _sized(data: bytes | None) -> bytes:
    return _NULL if data is None else varint(len(data)) + data


def header(name: str, value: bytes | None) -> bytes:
    """One header. Raises ValueError for a name that is no Unicode text."""
    return _sized(name.encode()) + _sized(value)


def header_bytes(headers: Iterable[tuple[str, bytes | None]]) -> tuple[bytes, ...]:
    """Each of them, in their order."""
    return tuple(header(name, value) for name, value in headers)


def header_start(name: str, length: int) -> bytes:
    """What stands before a header's value of so many bytes."""
    return _sized(name.encode()) + varint(length)


def header_maker(name: str) -> Callable[[bytes], bytes]:
    """What makes the bytes of headers of this name from their values."""
    start = _sized(name.encode())
    usual = tuple(start + varint(length) for length in range(_USUAL_LENGTHS))

    def made(value: bytes) -> bytes:
        length = len(value)
        return (usual[length] if length < _USUAL_LENGTHS else start + varint(length)) + value

    return made


def record_of(key: bytes | None, value: bytes | None, headers: Sequence[bytes]) -> bytes:
    """headers: the bytes of each."""
    return b"".join((_sized(key), _sized(value), varint(len(headers)), *headers))


class Prefix:
    """The key of a saga's records, and the headers that all of them begin with."""

    __slots__ = ("_count", "_headers", "_key")

    def __init__(self, key: bytes, count: int, headers: Iterable[bytes]) -> None:
        """count: of the headers. headers: their bytes, of some together, of others alone."""
        self._key = _sized(key)
        self._count = count
        self._headers = b"".join(headers)

    def record(self, value: bytes, count: int, own: Iterable[bytes]) -> bytes:
        """As `record_of` makes it of all headers. count: of those behind the common ones. own: their bytes, in the
        same way."""
        return b"".join([self._key, varint(len(value)), value, varint(self._count + count), self._headers, *own])


def before_record(record: bytes, number: int) -> tuple[bytes, bytes]:
    """What stands before a record in its batch. number: of those before it; the time is that of the batch."""
    place = _PLACES[number] if number < len(_PLACES) else _place(number)
    return varint(len(place) + len(record)), place


def _place(number: int) -> bytes:
    """Attributes, the difference of times, that of offsets."""
    return b"\0\0" + varint(number)


_PLACES: Final = tuple(map(_place, range(1024)))


def read_key(data: bytes) -> bytes | None:
    """The key alone. Raises ValueError."""
    return _field(data, 0)[0]


def read_record(data: bytes) -> PlainRecord:
    """The reverse of `record_of`. Raises ValueError for bytes that it did not write."""
    key, at = _field(data, 0)
    value, at = _field(data, at)
    count, at = _number(data, at)
    headers: list[tuple[str, bytes]] = []
    for _ in range(count):
        name, at = _field(data, at)
        content, at = _field(data, at)
        if name is None:
            raise ValueError(f"record: a header without a name, before byte {at}")
        headers.append((name.decode(), content))  # type: ignore[arg-type]  # None only where somebody else sent it so
    if count < 0 or at != len(data):
        raise ValueError(f"record: {count} headers, and {len(data) - at} bytes behind them")
    return PlainRecord(key, value, tuple(headers))


def _field(data: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _number(data, at)
    end = at + length
    if length < 0 or end > len(data):
        if length == -1:
            return None, at
        raise ValueError(f"record: a length of {length} at byte {at} of {len(data)}")
    return data[at:end], end


def _number(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and (first := data[at]) <= 0x7F:
        return (first >> 1) ^ -(first & 1), at + 1
    made = 0
    for count, byte in enumerate(data[at : at + _LONGEST]):
        made |= (byte & 0x7F) << 7 * count
        if 0 < byte <= 0x7F:
            return (made >> 1) ^ -(made & 1), at + count + 1
        if not byte:
            break  # longer than it need be
    raise ValueError(f"record: no number at byte {at} of {len(data)}")
