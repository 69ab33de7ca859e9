"""What a record of an outside topic is to sagas: requests, nothing, or a fault with words (H6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.contracts import DeclarationError, Service, event
from sagabus.contracts.envelope import Message
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator import SagaContext, SagaDefinition, saga
from sagabus.coordinator.routing.routes import Routed, Routes
from tests.coordinator.shard_fixture import Given, headers_of


class Placed(BaseModel):
    order_id: str
    amount: int = 0


class Paid(BaseModel):
    order_id: str


web = Service("web")
placed = web.event("placed", Placed)
paid = event("payment.confirmed", Paid, topic="payments", key="order_id")
billed = event("payment.billed", Paid, topic="payments", key="order_id")


def definition(name: str = "order", *, version: int = 1) -> SagaDefinition[Placed, None]:
    @saga(name, version=version)
    async def order(ctx: SagaContext, order: Placed) -> None:
        await ctx.event(paid)

    return order


def followed(
    *definitions: SagaDefinition[Any, Any], topic: str = "web.events", value: bytes | None, **headers: str
) -> Routed:
    given = Given(topic, 3, 17, b"key", value, [(name, text.encode()) for name, text in headers.items()])
    return Routes(definitions, namespace="sagabus").follow(given, at=1_000_000)


def body(message: Message) -> Any:
    return json.loads(message.value or b"")


PLACED = b'{"order_id": "ORD-1", "amount": 5}'


def test_h6_an_event_starts_a_saga_with_its_data() -> None:
    order = definition()
    order.on(placed, saga_id=lambda e: e.order_id, start=True)
    (message,) = followed(order, value=PLACED, ce_type="web.placed").messages
    assert body(message) == {"type": "start", "saga": "order", "input": {"order_id": "ORD-1", "amount": 5}}
    assert (message.topic, message.saga_id) == ("sagabus.requests", "ORD-1")


def test_h6_a_function_makes_the_input() -> None:
    order = definition()
    order.on(paid, saga_id=lambda e: f"bill-{e.order_id}", start=lambda e: Placed(order_id=e.order_id, amount=7))
    (message,) = followed(order, topic="payments", value=b'{"order_id": "A"}', ce_type="payment.confirmed").messages
    assert body(message)["input"] == {"order_id": "A", "amount": 7}
    assert message.saga_id == "bill-A"


def test_h6_an_event_wakes_a_saga() -> None:
    order = definition()
    order.on(paid, saga_id=lambda e: e.order_id)
    (message,) = followed(order, topic="payments", value=b'{"order_id": "A", "more": 1}').messages
    assert body(message) == {"type": "event", "name": "payment.confirmed", "data": {"order_id": "A", "more": 1}}


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ({}, "payments:3:17"),
        ({"ce_id": "7"}, "7"),
        ({"ce_id": "7", "ce_source": "/shop"}, "/shop#7"),
        ({"ce_id": "7" * 200, "ce_source": "/" * 200}, "payments:3:17"),
    ],
)
def test_h6_the_id_of_a_request_is_that_of_its_record(headers: dict[str, str], id: str) -> None:
    """Equal ids of two sources are two events."""
    order = definition()
    order.on(paid, saga_id=lambda e: e.order_id)
    (message,) = followed(order, topic="payments", value=b'{"order_id": "A"}', **headers).messages
    assert headers_of(message)["ce_id"] == id


def test_the_trace_goes_on() -> None:
    order = definition()
    order.on(paid, saga_id=lambda e: e.order_id)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    (message,) = followed(order, topic="payments", value=b'{"order_id": "A"}', traceparent=trace).messages
    assert headers_of(message)["traceparent"] == trace


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (PLACED, {"ce_type": "web.cancelled"}),  # another event of the topic
        (None, {"ce_type": "web.placed"}),  # a tombstone
        (b'{"order_id": ""}', {"ce_type": "web.placed"}),  # for no saga, as saga_id says
    ],
)
def test_what_is_for_no_saga_leads_to_nothing(value: bytes | None, headers: dict[str, str]) -> None:
    order = definition()
    order.on(placed, saga_id=lambda e: e.order_id or None)
    routed = followed(order, value=value, **headers)
    assert (routed.messages, routed.faults) == ([], [])


def raises(_: Placed) -> str:
    raise KeyError("customer")


def no_text(_: Placed) -> Any:
    return 5


@pytest.mark.parametrize(
    ("saga_id", "start", "reason", "words"),
    [
        (raises, False, "route.saga_id", "saga_id raised KeyError: 'customer'"),
        (no_text, False, "route.saga_id", "saga_id gave a int; it is to give a text, or None"),
        (lambda _: "no blanks", False, "saga_id.invalid", "saga id 'no blanks'"),
        (lambda e: e.order_id, raises, "route.start", "start raised KeyError: 'customer'"),
        (lambda e: e.order_id, no_text, "route.start", "start gave a int; it is to give a Placed"),
    ],
)
def test_h6_a_fault_of_one_route_is_told_and_the_others_go_on(
    saga_id: Any, start: Any, reason: str, words: str
) -> None:
    order, other = definition(), definition("other")
    order.on(placed, saga_id=saga_id, start=start)
    other.on(placed, saga_id=lambda e: f"other-{e.order_id}")
    routed = followed(order, other, value=PLACED, ce_type="web.placed")
    ((code, said),) = routed.faults
    assert code == reason
    assert said.startswith("the route of web.placed to saga order: ")
    assert words in said
    assert [message.saga_id for message in routed.messages] == ["other-ORD-1"]


def test_data_that_the_model_does_not_read_is_a_fault_of_the_record() -> None:
    order = definition()
    order.on(placed, saga_id=lambda e: e.order_id)
    with pytest.raises(MessageInvalid, match="order_id"):
        followed(order, value=b"{}", ce_type="web.placed")


def test_without_a_type_a_topic_of_several_events_says_nothing() -> None:
    order = definition()
    order.on(paid, saga_id=lambda e: e.order_id)
    order.on(billed, saga_id=lambda e: e.order_id)
    with pytest.raises(MessageInvalid, match=r"payment\.billed, payment\.confirmed"):
        followed(order, topic="payments", value=b'{"order_id": "A"}')


def test_two_sagas_that_wait_under_one_id_are_one_request() -> None:
    order, other = definition(), definition("other")
    order.on(placed, saga_id=lambda e: e.order_id)
    other.on(placed, saga_id=lambda e: e.order_id)
    assert len(followed(order, other, value=PLACED, ce_type="web.placed").messages) == 1


def test_of_several_versions_the_newest_routes_count() -> None:
    old, new = definition(version=1), definition(version=2)
    old.on(placed, saga_id=lambda e: f"old-{e.order_id}")
    new.on(placed, saga_id=lambda e: f"new-{e.order_id}")
    for versions in ((old, new), (new, old)):
        (message,) = followed(*versions, value=PLACED, ce_type="web.placed").messages
        assert message.saga_id == "new-ORD-1"


def misdeclared(order: SagaDefinition[Placed, None], **wrong: Any) -> None:
    declared: dict[str, Any] = {"event": placed, "saga_id": lambda e: e.order_id, **wrong}
    order.on(declared.pop("event"), **declared)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"event": "web.placed"}, "give an event type"),
        ({"event": event("loose", Placed)}, "event loose has no topic to read"),
        ({"saga_id": "order_id"}, "saga_id='order_id' cannot be called"),
        ({"start": "yes"}, "start='yes': give True, or a function"),
        ({"event": paid, "start": True}, "Paid is no Placed; give start=lambda data: Placed"),
    ],
)
def test_a_wrong_route_is_refused_when_it_is_declared(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match="saga order: on") as refused:
        misdeclared(definition(), **wrong)
    assert words in str(refused.value)


def test_a_route_is_declared_once() -> None:
    order = definition()
    order.on(placed, saga_id=lambda e: e.order_id)
    with pytest.raises(DeclarationError, match=r"declared twice for web\.placed of topic web\.events"):
        order.on(placed, saga_id=lambda e: e.order_id, start=True)


def test_topics_of_the_coordinator_itself_are_refused() -> None:
    order = definition()
    order.on(event("sagabus.saga.completed", Placed, topic="sagabus.events", key="order_id"), saga_id=lambda e: "A")
    with pytest.raises(DeclarationError, match=r"sagabus\.events is a topic of the coordinator itself"):
        Routes([order], namespace="sagabus")
