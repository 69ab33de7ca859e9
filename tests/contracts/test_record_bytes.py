"""The bytes of a record are those that aiokafka writes and reads, whichever way they are put together."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from sagabus.contracts.record_bytes import (
    PlainRecord,
    Prefix,
    before_record,
    header,
    header_bytes,
    header_maker,
    read_key,
    read_record,
    record_of,
    varint,
)

BATCH_HEADER = 61
"""Bytes before the first record of a batch."""

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=300)), max_size=20).map(tuple)
parts = st.none() | st.binary(max_size=200)
records = st.builds(PlainRecord, parts, parts, headers)
lengths = st.sampled_from([0, 1, 63, 64, 255, 256, 257, 8191, 8192, 8193, 1_048_575, 1_048_576, 2**21])
"""At and beside those at which a length takes one byte more, or is not ready."""


def written(*given_records: PlainRecord) -> bytes:
    """A batch, by aiokafka."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**30)
    for number, (key, value, named) in enumerate(given_records):
        builder.append(number, 5, key, value, [*named])
    return bytes(builder.build())


def made(plain: PlainRecord) -> bytes:
    return record_of(plain.key, plain.value, header_bytes(plain.headers))


@given(st.lists(records, min_size=1, max_size=5))
def test_a_record_is_as_aiokafka_writes_it(plain: list[PlainRecord]) -> None:
    """Null, empty, repeated and non-ASCII parts included."""
    ours = [made(one) for one in plain]
    behind = b"".join(b"".join((*before_record(one, number), one)) for number, one in enumerate(ours))
    assert behind == written(*plain)[BATCH_HEADER:]


@given(records)
def test_what_was_made_comes_back(plain: PlainRecord) -> None:
    assert read_record(made(plain)) == plain
    assert read_key(made(plain)) == plain.key


@given(lengths, lengths, lengths)
def test_large_parts_are_as_aiokafka_reads_and_writes_them(key: int, value: int, content: int) -> None:
    plain = PlainRecord(b"k" * key, b"v" * value, (("h", b"c" * content), ("ü" * (content % 9000), b"")))
    data = made(plain)
    assert b"".join((*before_record(data, 0), data)) == written(plain)[BATCH_HEADER:]
    assert read_record(data) == plain


def test_the_place_in_the_batch_takes_as_many_bytes_as_it_needs() -> None:
    batch = written(*[PlainRecord(b"k", b"v", ())] * 10_000)
    data = made(PlainRecord(b"k", b"v", ()))
    assert b"".join(b"".join((*before_record(data, number), data)) for number in range(10_000)) == batch[BATCH_HEADER:]
    assert len({*DefaultRecordBatch(batch)}) == 10_000


@given(headers, headers, st.binary(max_size=20), st.binary(max_size=20))
def test_a_prefix_saves_time_and_changes_nothing(
    common: tuple[tuple[str, bytes], ...], own: tuple[tuple[str, bytes], ...], key: bytes, value: bytes
) -> None:
    prefix = Prefix(key, len(common), header_bytes(common))
    expected = made(PlainRecord(key, value, (*common, *own)))
    assert prefix.record(value, len(own), header_bytes(own)) == expected
    assert prefix.record(value, len(own), [b"".join(header_bytes(own))]) == expected


@given(names, st.integers(0, 600).map(bytes) | lengths.map(bytes))
def test_a_header_maker_saves_time_and_changes_nothing(name: str, value: bytes) -> None:
    assert header_maker(name)(value) == header(name, value)


@given(st.integers(0, 2**31 - 1))
def test_no_number_takes_more_bytes_than_it_needs(number: int) -> None:
    data = varint(number)
    assert len(data) == max(1, -(-(number << 1).bit_length() // 7))
    assert [byte <= 0x7F for byte in data] == [False] * (len(data) - 1) + [True]


@given(st.binary(max_size=60))
@example(b"\x80\x00\x01\x00")  # a length in more bytes than it needs
@example(b"\x80\x00\x01" + bytes(8192) + b"\x01\x00")  # the same in the middle of a number
@example(b"\x03\x01\x00")  # a length of -2
@example(b"\x01\x01\x01")  # -1 headers
@example(b"\x01\x01\x02\x01\x00")  # a header without a name
@example(b"\x01\x01\x02\x02\xff\x00")  # a name that is not UTF-8
@example(b"\x01\x01\x00\x00")  # something behind it
@example(b"\xff\xff\xff\xff\xff\x01")  # a number of more than 32 bits
def test_what_is_read_is_what_was_written_and_everything_else_is_refused(data: bytes) -> None:
    try:
        plain = read_record(data)
    except ValueError:
        return
    assert made(plain) == data


@given(records, st.data())
def test_what_is_cut_short_is_refused(plain: PlainRecord, draw: st.DataObject) -> None:
    data = made(plain)
    with pytest.raises(ValueError, match="record"):
        read_record(data[: draw.draw(st.integers(0, len(data) - 1))])


def test_what_cannot_be_written_is_no_record() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        header("\ud800", b"")
    with pytest.raises(TypeError):
        record_of(b"k", "text", ())  # type: ignore[arg-type]
