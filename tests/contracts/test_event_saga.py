"""Events and saga types, as their users declare and call them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sagabus.contracts import DeclarationError, SagaType, Service, event
from sagabus.contracts.envelope import source_of
from sagabus.contracts.lifecycle import domain_event_message
from tests.core.services import Order, Paid, Result, Told, keyless, paid, told


class Color(StrEnum):
    RED = "red"


class Keyed(BaseModel):
    text: str | None = None
    number: int = 7
    color: Color = Color.RED


def test_an_event_of_a_service_has_its_name_and_topic() -> None:
    made = told(order="O")
    assert (made.type.name, made.type.topic, made.key()) == ("stock.told", "stock.events", "O")
    assert keyless(order="O").key() is None
    assert Service("shop").event("told", Told, topic="elsewhere").topic == "elsewhere"
    assert repr(made) == "Event(stock.told, Told(order='O', note=''))"
    assert repr(told) == "<event stock.told>"


def test_an_event_of_somebody_else_has_a_topic_if_it_is_given() -> None:
    assert (paid.name, paid.topic, paid.key) == ("payment.confirmed", None, None)
    outside = event("bank.Confirmed", Paid, topic="bank.facts", key="amount")
    assert (outside.topic, outside(amount=5).key()) == ("bank.facts", "5")


@pytest.mark.parametrize(("key", "expected"), [("number", "7"), ("color", "red"), ("text", None)])
def test_the_key_of_an_event_is_its_field_as_text(key: str, expected: str | None) -> None:
    assert Service("shop").event("told", Keyed, key=key)().key() == expected


def test_a_key_that_is_no_field_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"shop\.told: key='other' is no field of Told; it has order, note"):
        Service("shop").event("told", Told, key="other")


def test_events_are_equal_by_type_and_data() -> None:
    assert told(order="O") == told.of(Told(order="O"))
    assert told(order="O") != told(order="P")
    assert told(order="O") != keyless(order="O")
    assert told(order="O") != "told"
    assert len({told(order="O"), told(order="O"), keyless(order="O")}) == 2


def test_a_wrong_event_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValidationError):
        paid(amount="much")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"payment\.confirmed\.of\(\) takes a Paid, not a Told"):
        paid.of(Told(order="O"))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DeclarationError, match="is not a pydantic model"):
        event("x", dict)  # type: ignore[type-var]  # on purpose


@pytest.mark.parametrize(("given", "expected"), [("given", b"given"), (None, b"O"), ("", b"O")])
def test_the_record_key_is_the_one_given_or_declared_or_the_saga_id(given: str | None, expected: bytes) -> None:
    def message(made: Any) -> Any:
        return domain_event_message(
            made, b"{}", id="i", topic="t", source=source_of("n"), saga_id="S", cause=None, time=0, key=given
        )

    assert message(told(order="O")).key == expected
    assert message(keyless(order="O")).key == (expected if given else b"S")
    assert (message(told(order="O")).saga_id, message(told(order="O")).partition) == ("S", None)


def test_calling_a_saga_type_builds_a_start() -> None:
    contract = SagaType("order", Order, Result)
    start = contract(order="O")
    assert (start.saga, start.input) == (contract, Order(order="O"))
    assert contract.of(Order()).input == Order()
    assert (repr(start), repr(contract)) == ("Start(order, Order(order='O'))", "<saga type order>")
    with pytest.raises(TypeError, match=r"order\.of\(\) takes a Order, not a Paid"):
        contract.of(Paid(amount=1))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValidationError):
        contract(order=5)  # type: ignore[arg-type]  # on purpose


def test_a_saga_may_have_no_result_but_has_an_input() -> None:
    nothing: Any = None
    assert SagaType("silent", Order, nothing).output is None
    with pytest.raises(DeclarationError, match=r"saga wrong: .* is not a pydantic model"):
        SagaType("wrong", dict, Result)  # type: ignore[type-var]  # on purpose
    with pytest.raises(DeclarationError, match="saga name 'Wrong'"):
        SagaType("Wrong", Order, Result)
