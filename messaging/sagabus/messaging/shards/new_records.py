"""What of a batch of records is new to the tenures of its shards.

Kafka may hand a record on twice (a rebalance, a seek that crossed a poll): what lies before the stored offset is
dropped. It may also seem to have left records out. A compacted or transactional topic does have gaps, but a poll that
crossed a seek looks just the same: a gap is believed only when it shows again after a seek to the expected offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Record
from sagabus.messaging.shards.tenure import Tenure


@dataclass(slots=True)
class SplitBatch:
    """Work for turns, and where to read again because of a gap."""

    work: dict[Tenure, list[Record]] = field(default_factory=dict)
    seek: dict[TopicPartition, int] = field(default_factory=dict)


class NewRecords:
    """Splits batches; remembers the gaps that were seen once."""

    def __init__(self) -> None:
        self._gaps: dict[tuple[str, int], tuple[int, int]] = {}

    def split(self, records: Sequence[Record], tenures: Mapping[int, Tenure]) -> SplitBatch:
        """Split a batch by tenure. Records of shards that are not held, and of unknown topics, are dropped."""
        split = SplitBatch()
        expected: dict[tuple[str, int], int] = {}
        for record in records:  # for every record of this process: nothing here that could be done per batch
            tenure = tenures.get(record.partition)
            if tenure is None or record.topic not in tenure.offsets:
                continue
            place = (record.topic, record.partition)
            want = expected.get(place, tenure.offsets[record.topic])
            if record.offset < want or place in split.seek:
                continue
            if record.offset > want and not self._believes(place, want, record.offset):
                split.seek[TopicPartition(*place)] = want
                continue
            expected[place] = record.offset + 1
            split.work.setdefault(tenure, []).append(record)
        return split

    def _believes(self, place: tuple[str, int], want: int, found: int) -> bool:
        if self._gaps.get(place) == (want, found):
            del self._gaps[place]
            return True
        self._gaps[place] = (want, found)
        return False
