"""Fetch requests and responses are those of aiokafka's own classes, byte by byte and value by value."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from sagabus.messaging.bus.fetch_messages import VERSION, Answer, Place, SessionFetch, Wanted, wanted_of

INT16 = st.integers(-(2**15), 2**15 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(max_size=20)
PLACES = st.tuples(NAMES, INT32)


def plain_request(topics: Any = (), *, wait: int = 500, rack: str = "") -> FetchRequest:
    return FetchRequest(wait, 1, 50 * 2**20, 1, [*topics], rack_id=rack)


def grouped(places: Any) -> list[tuple[str, list[int]]]:
    """Topics in the order of their first partition, as the request has them."""
    topics: dict[str, list[int]] = {}
    for topic, number in places:
        topics.setdefault(topic, []).append(number)
    return [*topics.items()]


@given(
    changed=st.dictionaries(PLACES, st.builds(Wanted, INT64, INT32), max_size=8),
    gone=st.lists(PLACES, unique=True, max_size=8),
    session=INT32, epoch=INT32, wait=INT32, rack=NAMES,
)  # fmt: skip
def test_request_has_the_bytes_that_aiokafka_would_make(
    changed: dict[Place, Wanted], gone: list[Place], session: int, epoch: int, wait: int, rack: str
) -> None:
    topics = [
        (topic, [(number, -1, changed[topic, number].offset, -1, changed[topic, number].bytes) for number in numbers])
        for topic, numbers in grouped(changed)
    ]
    theirs = FetchRequest_v11(-1, wait, 1, 50 * 2**20, 1, session, epoch, topics, grouped(gone), rack)
    plain = plain_request(wait=wait, rack=rack)
    ours = SessionFetch(plain, session=session, epoch=epoch, changed=changed, gone=gone)
    assert ours.encode() == theirs.encode()


@given(wanted=st.dictionaries(PLACES, st.builds(Wanted, INT64, INT32), max_size=8))
def test_request_that_names_all_reads_what_aiokafkas_reads(wanted: dict[Place, Wanted]) -> None:
    topics = [(topic, [(n, *wanted[topic, n]) for n in numbers]) for topic, numbers in grouped(wanted)]
    plain = plain_request(topics)
    assert wanted_of(plain) == wanted
    theirs = plain.build(FetchRequest_v11)
    theirs.session_epoch = 0  # aiokafka asks for no session
    assert SessionFetch(plain, session=0, epoch=0, changed=wanted, gone=[]).encode() == theirs.encode()


PARTITIONS = st.tuples(
    INT32, INT16, INT64, INT64, INT64,
    st.none() | st.lists(st.tuples(INT64, INT64), max_size=3),
    INT32, st.none() | st.binary(max_size=50),
)  # fmt: skip
ANSWERS = st.builds(
    FetchResponse_v11, INT32, INT16, INT32, st.lists(st.tuples(NAMES, st.lists(PARTITIONS, max_size=4)), max_size=4)
)


@given(ANSWERS, st.binary(max_size=9))
def test_response_has_the_values_that_aiokafka_reads(theirs: FetchResponse_v11, before: bytes) -> None:
    frame = BytesIO(before + theirs.encode())
    frame.read(len(before))  # the header, which aiokafka's connection reads
    ours = Answer.decode(frame)
    assert ours == theirs
    assert ours.API_VERSION == theirs.API_VERSION == VERSION


@given(ANSWERS, st.data())
def test_response_that_is_cut_off_is_refused(theirs: FetchResponse_v11, data: st.DataObject) -> None:
    whole = theirs.encode()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises((struct.error, ValueError)):
        Answer.decode(BytesIO(whole[:cut]))


def test_broker_that_does_not_speak_this_version_gets_aiokafkas_request() -> None:
    topics = [("commands", [(3, 7, 100)])]
    request = SessionFetch(plain_request(topics), session=9, epoch=4, changed={}, gone=[])
    for versions in ({FetchRequest.API_KEY: (0, 10)}, {FetchRequest.API_KEY: (4, 4)}):
        sent = request.prepare(versions)
        assert versions[FetchRequest.API_KEY][1] == sent.API_VERSION
        assert sent.encode() == plain_request(topics).prepare(versions).encode()
    ours = request.prepare({FetchRequest.API_KEY: (4, 18)})
    assert (ours.API_VERSION, ours.encode()) == (VERSION, request.encode())
