"""Kafka's FetchRequest and FetchResponse, in version 11: made and read here without aiokafka's field-by-field classes.

A consumer of 72 partitions makes and reads these two for each hop of a saga. aiokafka builds a Python object for each
field of each partition; here a partition is one call of `struct`. Nothing else knows the layout, and the values are
those of aiokafka's classes (tests/messaging/test_fetch_messages.py compares them both ways).

Where a broker does not speak version 11, the request that aiokafka has made is sent as it is.

Format: KIP-227 for the session, KIP-392 for the last two fields; without tagged fields, which begin with version 12.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple

from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11

VERSION: Final = 11

NO_EPOCH: Final = -1
NO_LOG_START: Final = -1
CONSUMER: Final = -1
"""In the place of a replica's id."""

_HEAD: Final = struct.Struct(">iiiibii")
_WANTED: Final = struct.Struct(">iiqqi")
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")
_ANSWER_HEAD: Final = struct.Struct(">ihii")
_PARTITION: Final = struct.Struct(">ihqqqi")
_ABORTED: Final = struct.Struct(">qq")
_RECORDS: Final = struct.Struct(">ii")

Place = tuple[str, int]
"""A topic, and the number of a partition."""


class Wanted(NamedTuple):
    """From which offset on a partition is read, and how many bytes at most."""

    offset: int
    bytes: int


class SessionFetch:
    """A request of one fetch session, in the place of aiokafka's `plain` one.

    changed: what the broker is to read from now on, or from another offset. gone: what it is to read no more.
    """

    def __init__(
        self, plain: FetchRequest, *, session: int, epoch: int, changed: Mapping[Place, Wanted], gone: Collection[Place]
    ) -> None:
        self._plain = plain
        self._session = session
        self._epoch = epoch
        self._changed = changed
        self._gone = gone

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Called by aiokafka's connection, which knows what its broker speaks."""
        lowest, highest = versions.get(FetchRequest.API_KEY, (0, 0))
        return _Encoded(self.encode()) if lowest <= VERSION <= highest else self._plain.prepare(versions)

    def encode(self) -> bytes:
        """Without the header."""
        plain, rack = self._plain, self._plain._rack_id.encode()
        parts = [
            _HEAD.pack(
                CONSUMER, plain._max_wait_ms, plain._min_bytes, plain._max_bytes, plain._isolation_level,
                self._session, self._epoch,
            )
        ]  # fmt: skip
        topics = _by_topic(self._changed)
        parts.append(_COUNT.pack(len(topics)))
        for topic, numbers in topics.items():
            parts += [_string(topic), _COUNT.pack(len(numbers))]
            for number in numbers:
                offset, size = self._changed[topic, number]
                parts.append(_WANTED.pack(number, NO_EPOCH, offset, NO_LOG_START, size))
        topics = _by_topic(self._gone)
        parts.append(_COUNT.pack(len(topics)))
        for topic, numbers in topics.items():
            parts += [_string(topic), struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)]
        return b"".join([*parts, _LENGTH.pack(len(rack)), rack])


class Answer(FetchResponse_v11):  # type: ignore[misc]    # aiokafka has no types
    """aiokafka's, decoded faster. Raises struct.error or ValueError for what is no answer; its connection ends then."""

    @classmethod
    def decode(cls, data: BytesIO) -> Answer:
        body, at = data.getvalue(), data.tell()
        throttled, error, session, count = _ANSWER_HEAD.unpack_from(body, at)
        at += _ANSWER_HEAD.size
        topics = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(body, at)
            at += _LENGTH.size + length
            topic = body[at - length : at].decode()
            (partitions,) = _COUNT.unpack_from(body, at)
            at += _COUNT.size
            found = []
            for _ in range(partitions):
                partition, at = _partition(body, at)
                found.append(partition)
            topics.append((topic, found))
        return cls(throttled, error, session, topics)


class _Encoded(FetchRequest_v11):  # type: ignore[misc]    # aiokafka has no types
    """What aiokafka's connection sends. The header that it makes for it is aiokafka's own."""

    RESPONSE_TYPE = Answer

    def __init__(self, body: bytes) -> None:
        self._body = body

    def encode(self) -> bytes:
        return self._body

    def __repr__(self) -> str:
        return f"FetchRequest_v{VERSION}({len(self._body)} bytes)"


def wanted_of(plain: FetchRequest) -> dict[Place, Wanted]:
    """What this request of aiokafka's reads."""
    return {
        (topic, number): Wanted(offset, size)
        for topic, partitions in plain.topics
        for number, offset, size in partitions
    }


def _partition(body: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    """Number, error, high watermark, last stable offset, start of the log, aborted transactions, replica, records."""
    *fixed, count = _PARTITION.unpack_from(body, at)
    at += _PARTITION.size
    aborted: list[Any] | None = None if count == -1 else []
    for _ in range(count):
        aborted.append(_ABORTED.unpack_from(body, at))  # type: ignore[union-attr]    # there is one if there are some
        at += _ABORTED.size
    replica, length = _RECORDS.unpack_from(body, at)
    at += _RECORDS.size
    if length < 0:
        return (*fixed, aborted, replica, None), at
    end = at + length
    if end > len(body):
        raise ValueError(f"a fetch response ends {end - len(body)} bytes too early")
    return (*fixed, aborted, replica, body[at:end]), end


def _by_topic(places: Iterable[Place]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, number in places:
        topics.setdefault(topic, []).append(number)
    return topics


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded
