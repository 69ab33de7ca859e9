"""Reads what aiokafka cannot: records that have a header whose name is not UTF-8.

Kafka's protocol calls the name a string, no broker looks at it, and aiokafka's parser raises in the middle of the
batch, each time anew: one such record would stop its partition for good. Here bytes that are not UTF-8 become `\\xff`
and the like, as text; everything else of the record stays as it was written. Slow, and used for such a batch only.

Format: KIP-98, message format v2.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.util import decode_varint

FETCH_BYTES: Final = 1024 * 1024
"""Of each partition. A larger batch comes whole."""

PREFERRED_REPLICA_SINCE: Final = 11
"""The version of the fetch response in which a field was put between the aborted transactions and the records."""

_LENGTH: Final = struct.Struct(">8xi")
_MAGIC_AT: Final = 16


async def fetch_leniently(
    client: AIOKafkaClient, positions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """The next committed records from these offsets on, without waiting for more. Raises aiokafka's KafkaError."""
    by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    for place, offset in positions.items():
        leader = client.cluster.leader_for_partition(place)
        if leader not in (None, -1):
            by_leader[leader][place.topic].append((place.partition, offset, FETCH_BYTES))
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    for leader, topics in by_leader.items():
        answer = await client.send(leader, FetchRequest(0, 1, 50 * FETCH_BYTES, READ_COMMITTED, list(topics.items())))
        for topic, partitions in answer.topics:
            for partition, error, _, *rest in partitions:
                place = TopicPartition(topic, partition)
                aborted = rest[2] if answer.API_VERSION >= PREFERRED_REPLICA_SINCE else rest[-2]
                if not error and (records := _records(place, rest[-1] or b"", aborted, positions[place])):
                    found[place] = records
    return found


def _records(place: TopicPartition, data: bytes, aborted: Any, offset: int) -> list[ConsumerRecord]:
    """As aiokafka reads them: without control records, and without what was taken back."""
    return list(PartitionRecords(place, _Batches(data), aborted, offset, None, None, True, READ_COMMITTED))


class _Batches:
    """Whole batches of the current format. Older ones have no headers, so aiokafka reads them itself."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def has_next(self) -> bool:
        return self._end() <= len(self._data) and self._data[self._at + _MAGIC_AT] >= 2

    def next_batch(self) -> _Batch:
        begin, self._at = self._at, self._end()
        return _Batch(self._data[begin : self._at])

    def _end(self) -> int:
        if self._at + _LENGTH.size > len(self._data):
            return len(self._data) + 1
        length: int = _LENGTH.unpack_from(self._data, self._at)[0]
        return self._at + _LENGTH.size + length


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]    # aiokafka has no types
    """aiokafka's in Python, with another way to read a record."""

    _pos: int

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
