"""Requests: what anybody may ask of a saga, as a bare JSON value."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import MessageInvalid, SagaType
from sagabus.contracts.envelope import MAX_PAYLOAD, Message, source_of
from sagabus.contracts.headers import CUT_BATCH
from sagabus.contracts.requests import (
    MAX_NAME,
    VERBS,
    RequestType,
    event_message,
    raw_message,
    read_request,
    start_message,
)
from tests.core.services import Order, Result, paid
from tests.core.wire import Read, as_read

START = {"type": "start", "saga": "order", "input": {"order": "O"}}
SENDER: Any = {"namespace": "shop", "message_id": "m-1", "source": source_of("shop"), "time": 0}


def record(
    body: object, *, key: bytes | None = b"ORD-1", headers: dict[str, bytes] | None = None, raw: bytes | None = None
) -> Read:
    value = json.dumps(body).encode() if raw is None else raw
    return Read("shop.requests", 2, 17, 0, key, value, list((headers or {}).items()))


def refused(body: object, **rest: Any) -> str:
    with pytest.raises(MessageInvalid) as caught:
        read_request(record(body, **rest))
    assert caught.value.message
    return caught.value.reason


def test_a_bare_json_value_with_the_saga_id_as_key_is_enough() -> None:
    given_record = record(START)
    request = read_request(given_record)
    assert (request.type, request.saga_id, request.name) == (RequestType.START, "ORD-1", "order")
    assert request.body is given_record.value
    assert request.message_id == request.dedupe == "shop.requests:2:17"


@pytest.mark.parametrize("name", ["ce_id", "ce_type"])
def test_a_header_that_stands_twice_with_other_values_makes_a_request_unreadable(name: str) -> None:
    said: Any = [(name, b"sagabus.start"), (name, b"sagabus.cancel"), ("x", b"1"), ("x", b"2")]
    with pytest.raises(MessageInvalid, match=f"{name} stands more than once") as caught:
        read_request(replace(record(START), headers=said))
    assert caught.value.reason == "headers.repeated"
    assert read_request(replace(record(START), headers=[said[0], said[0], *said[2:]])).type is RequestType.START


@pytest.mark.parametrize("key", [None, b""])
def test_the_saga_id_may_stand_in_the_body(key: bytes | None) -> None:
    assert read_request(record({**START, "saga_id": "ORD-2"}, key=key)).saga_id == "ORD-2"
    assert read_request(record({**START, "saga_id": "ORD-1"})).saga_id == "ORD-1"


def test_headers_say_the_messages_id_and_its_trace() -> None:
    headers = {"ce_id": b"mine", "ce_type": b"sagabus.start", "traceparent": b"00-1-2-01", "tracestate": b"a=b"}
    request = read_request(record(START, headers=headers))
    assert request.message_id == "mine"
    assert request.trace == (("traceparent", b"00-1-2-01"), ("tracestate", b"a=b"))
    assert read_request(record(START, headers={"ce_type": b"start"})).type is RequestType.START


def test_an_event_and_what_makes_two_of_them_the_same() -> None:
    body = {"type": "event", "name": "payment.confirmed", "data": {"amount": 1}}
    assert read_request(record(body)).dedupe == "shop.requests:2:17"
    with_id = {**body, "event_id": "E-1"}
    assert (read_request(record(with_id)).dedupe, read_request(record(with_id)).name) == ("E-1", "payment.confirmed")
    assert read_request(record(with_id, headers={"ce_id": b"C-1"})).dedupe == "C-1"


def test_s12_what_the_forwarder_gave_as_id_does_not_make_two_copies_of_an_event_two_events() -> None:
    """Sent twice by a producer that hashes keys otherwise, it is forwarded twice, from two offsets."""
    body = {"type": "event", "name": "payment.confirmed", "event_id": "E-1"}
    for found in (b"shop.requests:0:1", b"shop.requests:0:2"):
        copy = read_request(record(body, headers={"ce_id": found, "ce_forwarded": found}))
        assert (copy.dedupe, copy.message_id) == ("E-1", found.decode())
    without = read_request(record({**body, "event_id": None}, headers={"ce_id": b"a:0:1", "ce_forwarded": b"a:0:1"}))
    assert without.dedupe == "a:0:1"
    own = read_request(record(body, headers={"ce_id": b"C-1", "ce_forwarded": b"a:0:1"}))
    assert own.dedupe == "C-1"


def test_a_cancel_has_a_reason_if_it_is_given() -> None:
    assert read_request(record({"type": "cancel"})).reason == ""
    assert read_request(record({"type": "cancel", "reason": "no longer wanted"})).reason == "no longer wanted"


@pytest.mark.parametrize("verb", ["retry", "skip", "resume", "pause", "terminate"])
def test_the_operators_verbs(verb: str) -> None:
    request = read_request(record({"type": verb, "step": 2, "actor": "ann", "reason": "why", "request_id": "1"}))
    assert (request.type, request.step, request.actor, request.reason) == (verb, 2, "ann", "why")


@pytest.mark.parametrize(("verb", "needed"), [(verb.value, one) for verb, fields in VERBS.items() for one in fields])
def test_u8_a_verb_names_what_it_needs(verb: str, needed: str) -> None:
    whole = {"type": verb, "step": 2, "output": None, "reason": "why"}
    read_request(record(whole))
    assert refused({name: value for name, value in whole.items() if name != needed}) == "request.incomplete"


def test_a_verb_may_name_the_run_that_it_means() -> None:
    assert read_request(record({"type": "pause", "reason": "why", "run": "r1"})).run == "r1"
    assert read_request(record({"type": "pause", "reason": "why"})).run is None
    assert read_request(record({"type": "event", "name": "x", "run": "r1"})).run is None


def test_unknown_fields_are_ignored() -> None:
    assert read_request(record({**START, "later": {"deep": [1, 2]}, "priority": 5})).name == "order"


@pytest.mark.parametrize("body", [[], "start", 5, None, {}, {"saga": "order"}, {"type": 5}, {"type": None}])
def test_what_is_no_request(body: object) -> None:
    assert refused(body) == "payload.invalid"


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"type":"start","saga":"x","input":NaN}', b'{"type":"\\ud800"}'])
def test_what_is_no_json(raw: bytes) -> None:
    assert refused(None, raw=raw) in ("payload.invalid", "payload.not_json")


def test_an_unknown_type_is_refused_and_the_known_ones_are_named() -> None:
    assert refused({"type": "begin"}) == "request.type"
    with pytest.raises(MessageInvalid, match=r"give one of acknowledge, cancel, .*, start, terminate"):
        read_request(record({"type": "begin"}))


@pytest.mark.parametrize("header", [b"sagabus.cancel", b"cancel", b"", b"sagabus.sagabus.start"])
def test_a_header_that_disagrees_with_the_body_is_refused(header: bytes) -> None:
    assert refused(START, headers={"ce_type": header}) == "request.type"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"type": "start"}, "request.incomplete"), ({"type": "start", "saga": ""}, "request.incomplete"),
        ({"type": "event", "data": {}}, "request.incomplete"), ({"type": "start", "saga": "x\0"}, "request.name"),
        ({"type": "event", "name": "x" * (MAX_NAME + 1)}, "request.name"),
    ],
)  # fmt: skip
def test_a_start_names_its_saga_and_an_event_itself(body: object, reason: str) -> None:
    assert refused(body) == reason


@pytest.mark.parametrize(
    ("key", "in_body", "reason"),
    [
        (b"ORD-1", "ORD-2", "saga_id.differs"), (None, None, "saga_id.missing"), (b"", "", "saga_id.missing"),
        (b"\xff", None, "saga_id.invalid"), (b"a b", None, "saga_id.invalid"), (None, "x" * 201, "saga_id.invalid"),
    ],
)  # fmt: skip
def test_a_request_without_a_proper_saga_id(key: bytes | None, in_body: str | None, reason: str) -> None:
    assert refused({**START, "saga_id": in_body}, key=key) == reason


@pytest.mark.parametrize("name", ["ce_id", "ce_type"])
def test_headers_that_are_not_utf8(name: str) -> None:
    assert refused(START, headers={name: b"\xff\xfe"}) == "headers.not_utf8"


@given(st.binary(max_size=120), st.none() | st.binary(max_size=20), st.binary(max_size=10))
def test_any_other_bytes_are_refused_with_a_reason(value: bytes, key: bytes | None, header: bytes) -> None:
    with pytest.raises(MessageInvalid) as caught:
        read_request(record(None, raw=value, key=key, headers={"ce_id": header}))
    assert caught.value.reason
    assert caught.value.message


# Making them.


def reread(message: Message) -> Any:
    assert message.topic == "shop.requests"
    assert message.partition is None, "murmur2 of the key chooses it"
    return read_request(as_read(message))


def test_a_start_comes_back() -> None:
    contract = SagaType("order", Order, Result)
    request = reread(start_message(contract(order="O"), id="ORD-1", **SENDER))
    assert (request.type, request.saga_id, request.name, request.message_id) == ("start", "ORD-1", "order", "m-1")
    assert json.loads(request.body) == START


@pytest.mark.parametrize("id", [".", ".."])
def test_a_start_whose_id_a_url_loses_is_refused_and_what_is_asked_of_an_old_one_is_not(id: str) -> None:
    contract = SagaType("order", Order, Result)
    with pytest.raises(MessageInvalid, match="a URL loses it"):
        start_message(contract(order="O"), id=id, **SENDER)
    assert refused(START, key=id.encode()) == "saga_id.invalid"
    assert read_request(record({"type": "cancel"}, key=id.encode())).saga_id == id
    assert reread(event_message(paid(amount=5), saga_id=id, **SENDER)).saga_id == id


def test_an_event_comes_back() -> None:
    request = reread(event_message(paid(amount=5), saga_id="ORD-1", **SENDER))
    assert (request.type, request.name, request.dedupe) == ("event", "payment.confirmed", "m-1")
    assert json.loads(request.body)["data"] == {"amount": 5}


def test_any_request_comes_back_from_its_json_form() -> None:
    request = reread(raw_message({"type": "cancel", "reason": "r", "more": [1]}, saga_id="ORD-1", **SENDER))
    assert (request.type, request.reason) == ("cancel", "r")


def test_what_cannot_be_a_request_is_not_made() -> None:
    with pytest.raises(MessageInvalid, match="give one of"):
        raw_message({"type": "begin"}, saga_id="ORD-1", **SENDER)
    with pytest.raises(MessageInvalid, match="saga id 'a b'"):
        raw_message({"type": "cancel"}, saga_id="a b", **SENDER)
    with pytest.raises(MessageInvalid, match=f"the limit is {MAX_PAYLOAD}"):
        raw_message({"type": "cancel", "reason": "x" * MAX_PAYLOAD}, saga_id="ORD-1", **SENDER)


def test_a_record_that_stands_for_a_batch_which_was_not_unpacked_says_so() -> None:
    assert refused(START, headers={CUT_BATCH: b"the batch of the offsets 2 to 4"}) == "batch.too_large"


@pytest.mark.parametrize("run", [5, [], {}, "", "a\0b", "x" * 301])
def test_a_verb_names_its_run_by_text(run: Any) -> None:
    with pytest.raises(MessageInvalid) as refused:
        read_request(record({"type": "cancel", "run": run}))
    assert refused.value.reason == "request.run"


def test_the_run_of_a_verb_and_of_nothing_else() -> None:
    assert read_request(record({"type": "cancel", "run": "r1"})).run == "r1"
    assert read_request(record({"type": "cancel"})).run is None
    event = {"type": "event", "name": "race.ended", "run": 5}
    assert read_request(record(event)).run is None, "what an event calls so is its own"
