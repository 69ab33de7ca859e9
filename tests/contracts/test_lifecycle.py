"""Lifecycle events and rejections, as the world reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.lifecycle import LifecycleType, lifecycle_message, rejection_message
from tests.contracts.test_commands import ADDRESSES, TRACE


def numbered(sequence: int) -> Message:
    return lifecycle_message(
        ADDRESSES, LifecycleType.STARTED, b"{}", sequence=sequence, time=0, cause="why", trace=TRACE
    )


def test_a_numbered_event() -> None:
    message = numbered(7)
    assert (message.topic, message.key, message.partition, message.saga_id) == ("shop.events", b"ORD:1", 5, "ORD:1")
    headers = dict(message.headers)
    assert (headers["ce_id"], headers["ce_type"]) == (b"ORD:1:abc:event:7", b"sagabus.saga.started")
    assert (headers["ce_sequence"], headers["ce_run"], headers["ce_causationid"]) == (b"000000000007", b"abc", b"why")
    assert headers["traceparent"] == b"00-1-2-01"
    assert len(headers) == len(message.headers)


@given(st.integers(1, 10**12 - 1), st.integers(1, 10**12 - 1))
def test_the_sequence_sorts_as_text(one: int, other: int) -> None:
    texts = [dict(numbered(sequence).headers)["ce_sequence"] for sequence in (one, other)]
    assert (texts[0] < texts[1]) == (one < other)


def test_a_rejection_has_no_sequence_and_is_matched_by_its_cause() -> None:
    message = rejection_message(
        namespace="shop", source=source_of("shop"), type=LifecycleType.START_REJECTED, saga_id="ORD:1", body=b"{}",
        time=0, cause="m-1", shard=4,
    )  # fmt: skip
    headers = dict(message.headers)
    assert (headers["ce_id"], headers["ce_causationid"]) == (b"m-1:rejected", b"m-1")
    assert "ce_sequence" not in headers
    assert (message.topic, message.partition) == ("shop.events", 4)


def test_every_type_is_ours() -> None:
    assert all(type.startswith("sagabus.") for type in LifecycleType)
