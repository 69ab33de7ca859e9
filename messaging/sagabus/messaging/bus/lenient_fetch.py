"""Reads what aiokafka cannot: records that have a header whose name is not UTF-8, and batches that are too large.

Kafka's protocol calls the name a string, no broker looks at it, and aiokafka's parser raises in the middle of the
batch, each time anew: one such record would stop its partition for good. Here bytes that are not UTF-8 become `\\xff`
and the like, as text; everything else of the record stays as it was written.

A batch that would be larger than MOST_UNPACKED is not unpacked. In its place stands one record at its last offset, with
the header CUT_BATCH, and so it becomes a dead letter. All in all one fetch unpacks at most a batch more than that.
Slow, and used for such batches only.

Format: KIP-98, message format v2.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from random import sample
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.util import decode_varint

from sagabus.contracts.headers import CUT_BATCH
from sagabus.messaging.bus.bounded_codecs import MOST_UNPACKED, BatchTooLarge, bounded

FETCH_BYTES: Final = 1024 * 1024
"""Of each partition. A larger batch comes whole."""

PREFERRED_REPLICA_SINCE: Final = 11
"""The version of the fetch response in which a field was put between the aborted transactions and the records."""

_LENGTH: Final = struct.Struct(">8xi")
_MAGIC_AT: Final = 16


async def fetch_leniently(
    client: AIOKafkaClient, positions: Mapping[TopicPartition, int], *, most: int | None = None
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """The next committed records from these offsets on, without waiting for more. Raises aiokafka's KafkaError.

    most: records of one partition. Where there is more than one fetch may unpack, some partitions are left out, each
    time others.
    """
    by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    for place, offset in sample([*positions.items()], len(positions)):
        leader = client.cluster.leader_for_partition(place)
        if leader not in (None, -1):
            by_leader[leader][place.topic].append((place.partition, offset, FETCH_BYTES))
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    room = _Room()
    for leader, topics in by_leader.items():
        answer = await client.send(leader, FetchRequest(0, 1, 50 * FETCH_BYTES, READ_COMMITTED, list(topics.items())))
        for topic, partitions in answer.topics:
            for partition, error, _, *rest in partitions:
                place = TopicPartition(topic, partition)
                aborted = rest[2] if answer.API_VERSION >= PREFERRED_REPLICA_SINCE else rest[-2]
                if error:
                    continue
                batches = _Batches(rest[-1] or b"", room)
                # As aiokafka reads them: without control records, and without what was taken back.
                all = PartitionRecords(place, batches, aborted, positions[place], None, None, True, READ_COMMITTED)
                if records := list(islice(all, most)):
                    found[place] = records
    return found


class _Room:
    """For what one fetch unpacks."""

    def __init__(self) -> None:
        self.left = MOST_UNPACKED


class _Batches:
    """Whole batches, as long as there is room."""

    def __init__(self, data: bytes, room: _Room) -> None:
        self._data = data
        self._room = room
        self._at = 0

    def has_next(self) -> bool:
        return self._room.left > 0 and self._end() <= len(self._data)

    def next_batch(self) -> _Batch | _OldBatch:
        begin, self._at = self._at, self._end()
        batch, magic = self._data[begin : self._at], self._data[begin + _MAGIC_AT]
        return _Batch(batch, self._room) if magic >= 2 else _OldBatch(batch, magic, self._room)

    def _end(self) -> int:
        if self._at + _LENGTH.size > len(self._data):
            return len(self._data) + 1
        length: int = _LENGTH.unpack_from(self._data, self._at)[0]
        return self._at + _LENGTH.size + length


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]    # aiokafka has no types
    """aiokafka's in Python, with another way to read a record."""

    _pos: int

    def __init__(self, data: bytes, room: _Room) -> None:
        super().__init__(data)
        self._room = room

    def __iter__(self) -> Iterator[Any]:
        packed = len(self._buffer)
        try:
            with bounded():
                self._maybe_uncompress()
        except BatchTooLarge:
            return iter([_stand_in(self.base_offset, self.next_offset - 1, self.max_timestamp, packed)])
        self._room.left -= len(self._buffer)
        return self

    def _read_msg(self) -> Any:
        length, at = decode_varint(self._buffer, self._pos)
        end = at + length
        since, at = decode_varint(self._buffer, at + 1)  # a byte of attributes comes before it
        number, at = decode_varint(self._buffer, at)
        key, at = self._bytes(at)
        value, at = self._bytes(at)
        headers, self._pos = self._headers(at), end
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if appended else self.first_timestamp + since
        return _DefaultRecordPy(self.base_offset + number, timestamp, self.timestamp_type, key, value, headers)

    def _headers(self, at: int) -> list[tuple[str, bytes | None]]:
        count, at = decode_varint(self._buffer, at)
        headers = []
        for _ in range(count):
            name, at = self._bytes(at)
            value, at = self._bytes(at)
            headers.append(((name or b"").decode(errors="backslashreplace"), value))
        return headers

    def _bytes(self, at: int) -> tuple[bytes | None, int]:
        length, at = decode_varint(self._buffer, at)
        return (None, at) if length < 0 else (bytes(self._buffer[at : at + length]), at + length)


class _OldBatch(_LegacyRecordBatchPy):  # type: ignore[misc]    # aiokafka has no types
    """Of the formats before the current one, as aiokafka reads it."""

    def __init__(self, data: bytes, magic: int, room: _Room) -> None:
        super().__init__(data, magic)
        self._room = room

    def __iter__(self) -> Iterator[Any]:
        packed = len(self._buffer)
        try:
            with bounded():
                records = list(super().__iter__())
        except BatchTooLarge:
            records = [_stand_in(None, self.next_offset - 1, self._timestamp or 0, packed)]
        self._room.left -= len(self._buffer)
        return iter(records)


def _stand_in(first: int | None, last: int, timestamp: int, packed: int) -> Any:
    """For all records of a batch, at the last one's offset: reading goes on behind it."""
    offsets = f"of the offsets {first} to {last}"
    if first in (None, last):
        offsets = f"{'up to' if first is None else 'at'} offset {last}"
    words = f"the batch {offsets} was not unpacked: {packed} bytes become more than {MOST_UNPACKED}"
    return _DefaultRecordPy(last, timestamp, 0, None, None, [(CUT_BATCH, words.encode())])
