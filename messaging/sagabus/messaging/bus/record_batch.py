"""A batch of records for one partition, put together from the bytes that the outbox keeps.

It has what aiokafka 0.14 asks of a `BatchBuilder` between `send_batch` and the connection: how large it is, how many
records it has, the producer's id and sequence, its bytes. Those are Kafka's record batch of format 2: a header with a
checksum of all that follows it, then the records. Nothing here reads a record, and nothing is compressed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from aiokafka.record.util import calc_crc32c

from sagabus.contracts.record_bytes import before_record

_START: Final = struct.Struct(">qiibI")
"""Offset, which the broker gives; length of what follows; leader's epoch; format; checksum of what follows that."""
_BEHIND_CHECKSUM: Final = struct.Struct(">hiqqqhii")
"""Attributes; number of the last record; time of the first and of the latest; id, epoch and sequence of the producer;
how many records."""
_LENGTH_COUNTS_FROM: Final = struct.calcsize(">qi")
_NO_EPOCH: Final = -1
_FORMAT: Final = 2
_PLAIN: Final = 0
"""Attributes: not compressed, the time is the producer's."""

HEADER_BYTES: Final = _START.size + _BEHIND_CHECKSUM.size


class RecordBatch:
    """Of at least one record when it is sent. time: of all its records, in milliseconds since 1970."""

    __slots__ = ("_built", "_count", "_parts", "_producer", "_size", "_time")

    def __init__(self, time: int) -> None:
        self._time = time
        self._parts: list[bytes] = []
        self._count = 0
        self._size = HEADER_BYTES
        self._producer = (-1, -1, 0)
        self._built: bytes | None = None

    def extend(self, records: Iterable[bytes], *, most: int, enough: int) -> int:
        """Take of these as many as there is room for, and return how many.

        most: bytes of the whole batch. enough: bytes after which no record is taken. The first one is always taken.
        """
        before, size, parts = self._count, self._size, self._parts
        for count, record in enumerate(records, before):
            length, place = before_record(record, count)
            larger = size + len(length) + len(place) + len(record)
            if count and (size >= enough or larger > most):
                break
            size = larger
            parts += (length, place, record)
        self._count, self._size = len(parts) // 3, size
        return self._count - before

    # What aiokafka asks for. None of it may be renamed.

    def size(self) -> int:
        """Bytes, its header among them."""
        return self._size

    def record_count(self) -> int:
        return self._count

    def closed(self) -> bool:
        """It is never appended to once it is handed over, and need not linger for more."""
        return True

    def close(self) -> None: ...

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Once, before it is sent for the first time: it is sent again as it was."""
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._built is None:
            last, time = self._count - 1, self._time
            covered = b"".join((
                _BEHIND_CHECKSUM.pack(_PLAIN, last, time, time, *self._producer, self._count), *self._parts
            ))  # fmt: skip
            length = self._size - _LENGTH_COUNTS_FROM
            self._parts = []
            self._built = _START.pack(0, length, _NO_EPOCH, _FORMAT, calc_crc32c(covered)) + covered
        return self._built
