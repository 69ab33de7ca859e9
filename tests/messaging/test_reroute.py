"""Records in the wrong partition."""

from __future__ import annotations

from sagabus.messaging.publishing.reroute import forwarded
from tests.messaging.shards_fixture import Given


def test_s12_a_misplaced_record_goes_on_as_it_is() -> None:
    record = Given(partition=2, offset=9, key=b"ORD-1", value=b"\xff", headers=(("ce_id", b"7"), ("x", b"\x00")))
    message = forwarded(record, 5)
    assert message is not None
    assert (message.topic, message.partition, message.key, message.value) == ("in", 5, b"ORD-1", b"\xff")
    assert message.headers == (("ce_id", b"7"), ("x", b"\x00"), ("ce_forwarded", b"in:2:9"))
    assert message.saga_id == "ORD-1"


def test_s12_where_it_was_found_is_the_id_of_a_record_that_had_none() -> None:
    message = forwarded(Given(partition=2, offset=9), 5)
    assert message is not None
    assert dict(message.headers) == {"ce_forwarded": b"in:2:9", "ce_id": b"in:2:9"}


def test_an_empty_id_is_none_and_does_not_stand_beside_the_new_one() -> None:
    message = forwarded(Given(partition=2, offset=9, headers=(("ce_id", b""), ("x", b"1"))), 5)
    assert message is not None
    assert sorted(message.headers) == [("ce_forwarded", b"in:2:9"), ("ce_id", b"in:2:9"), ("x", b"1")]


def test_s12_a_record_is_forwarded_once_only() -> None:
    assert forwarded(Given(headers=(("ce_forwarded", b"in:1:1"),)), 5) is None


def test_s12_a_record_without_a_key_belongs_to_the_saga_that_its_reader_found() -> None:
    message = forwarded(Given(key=None), 5, saga_id="ORD-2")
    assert message is not None
    assert (message.key, message.saga_id) == (None, "ORD-2")
