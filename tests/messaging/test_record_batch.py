"""Our batch is byte for byte the one that aiokafka makes of the same records, and aiokafka reads it."""

from __future__ import annotations

from itertools import pairwise

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts.record_bytes import PlainRecord, before_record
from sagabus.messaging.bus.record_batch import HEADER_BYTES, RecordBatch
from tests.contracts.test_record_bytes import made, records

times = st.integers(0, 4 * 10**12)
producers = st.tuples(st.integers(-1, 2**63 - 1), st.integers(-1, 2**15 - 1), st.integers(0, 2**31 - 1))


def batch_of(time: int, plain: list[PlainRecord]) -> RecordBatch:
    batch = RecordBatch(time)
    assert batch.extend(map(made, plain), most=2**20, enough=2**20) == len(plain)
    return batch


@given(st.lists(records, min_size=1, max_size=20), times, producers)
def test_the_bytes_are_aiokafkas(plain: list[PlainRecord], time: int, producer: tuple[int, int, int]) -> None:
    ours, theirs = batch_of(time, plain), DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**20)
    for number, (key, value, headers) in enumerate(plain):
        theirs.append(number, time, key, value, [*headers])
    assert (ours.size(), ours.record_count()) == (theirs.size(), len(plain))
    ours._set_producer_state(*producer)
    theirs.set_producer_state(*producer)
    assert ours._build() == theirs.build()
    assert ours.size() == len(ours._build())


@given(st.lists(records, min_size=1, max_size=20), times, producers)
def test_aiokafka_reads_it(plain: list[PlainRecord], time: int, producer: tuple[int, int, int]) -> None:
    batch = batch_of(time, plain)
    batch._set_producer_state(*producer)
    found = MemoryRecords(batch._build())
    read = found.next_batch()
    assert read is not None
    assert read.validate_crc()
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == producer
    assert [PlainRecord(one.key, one.value, tuple(one.headers)) for one in read] == plain
    assert not found.has_next()


def test_it_is_sent_again_as_it_was() -> None:
    """A producer's id and sequence are part of what the checksum covers, and a copy must have the same."""
    batch = batch_of(5, [PlainRecord(b"k", b"v", ())])
    batch._set_producer_state(7, 1, 3)
    assert batch._build() is batch._build()


@given(st.lists(st.integers(0, 400), min_size=1, max_size=20), st.integers(1, 3_000), st.integers(1, 3_000))
def test_it_takes_what_there_is_room_for_and_its_first_record_always(sizes: list[int], most: int, enough: int) -> None:
    records = [made(PlainRecord(None, b"v" * size, ())) for size in sizes]
    ends = [HEADER_BYTES]
    for number, record in enumerate(records):
        ends.append(ends[-1] + len(b"".join(before_record(record, number))) + len(record))
    fitting = [end <= most and before < enough for before, end in pairwise(ends)]
    expected = next((number for number, fits in enumerate(fitting) if number and not fits), len(records))
    batch = RecordBatch(0)
    assert batch.extend(records, most=most, enough=enough) == batch.record_count() == expected
    assert batch.size() == ends[expected]
    assert batch.extend(records[expected : expected + 1], most=most, enough=enough) == 0
    assert batch.record_count() == expected


@given(st.lists(records, min_size=2, max_size=20), st.data())
def test_it_may_take_them_in_parts(plain: list[PlainRecord], draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(plain)))
    batch = batch_of(5, plain[:cut]) if cut else RecordBatch(5)
    batch.extend(map(made, plain[cut:]), most=2**20, enough=2**20)
    assert batch._build() == batch_of(5, plain)._build()
