"""Headers as bytes, times as text, and what every message of ours bears."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts.envelope import (
    Headers,
    cloud_event,
    microseconds,
    moment,
    pack_headers,
    rfc3339,
    source_of,
    unpack_headers,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=40)), max_size=8)
times = st.integers(0, 253_402_300_799_999_999)  # to the end of the year 9999


@given(headers)
def test_packed_headers_come_back_byte_for_byte(given_headers: list[tuple[str, bytes | None]]) -> None:
    """Order, repeats, empty and null values included."""
    assert unpack_headers(pack_headers(given_headers)) == tuple(given_headers)


def test_no_headers_are_no_bytes() -> None:
    assert pack_headers(()) == b""
    assert unpack_headers(b"") == ()


@given(headers.filter(bool), st.data())
def test_what_is_cut_short_is_refused(given_headers: list[tuple[str, bytes | None]], data: st.DataObject) -> None:
    packed = pack_headers(given_headers)
    whole = {len(pack_headers(given_headers[:count])) for count in range(len(given_headers) + 1)}
    cut = data.draw(st.integers(1, len(packed) - 1).filter(lambda at: at not in whole))
    with pytest.raises(ValueError, match="packed headers"):
        unpack_headers(packed[:cut])


@given(st.binary(max_size=60))
def test_any_bytes_are_unpacked_or_refused(data: bytes) -> None:
    try:
        made: Headers = unpack_headers(data)
    except ValueError:
        return
    assert all(isinstance(name, str) for name, _ in made)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xfe" * 2, b"\0\0\0\1a", b"\0\0\0\1\xff\0\0\0\0", b"\0\0", b"\x7f\0\0\0"]
)
def test_lengths_that_nobody_wrote_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unpack_headers(data)


@given(times)
def test_a_time_is_written_in_utc_to_the_microsecond_and_comes_back(at: int) -> None:
    text = rfc3339(at).decode()
    assert text.endswith("Z")
    assert len(text) == len("2026-11-22T18:09:00.000000Z")
    assert microseconds(datetime.fromisoformat(text)) == at
    assert microseconds(moment(at)) == at


def test_times_sort_as_text() -> None:
    at = [0, 1, 999_999, 1_000_000, 1_700_000_000_000_000]
    assert [rfc3339(each) for each in at] == sorted(rfc3339(each) for each in at)
    assert rfc3339(1_700_000_000_000_001) == b"2023-11-14T22:13:20.000001Z"


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    far = datetime.fromisoformat("2026-01-01T02:00:00+02:00")
    assert microseconds(far) == microseconds(datetime(2026, 1, 1, tzinfo=UTC))
    assert moment(microseconds(far)) == far
    assert moment(1) - moment(0) == timedelta(microseconds=1)


def test_the_attributes_of_a_cloud_event() -> None:
    made = cloud_event(id="i", source=b"/sagabus/n", type="t", time=0, subject="S", cause="c")
    assert dict(made) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"i",
        "ce_source": b"/sagabus/n",
        "ce_type": b"t",
        "ce_time": b"1970-01-01T00:00:00.000000Z",
        "ce_subject": b"S",
        "ce_correlationid": b"S",
        "ce_causationid": b"c",
    }
    assert len(made) == 9, "each of them once"
    assert "ce_causationid" not in dict(cloud_event(id="i", source=b"", type="t", time=0, subject="S", cause=None))


def test_sources() -> None:
    assert (source_of("shop"), source_of("shop", "stock")) == (b"/sagabus/shop", b"/sagabus/shop/stock")
