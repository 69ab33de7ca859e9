"""Attributes of sagas: what may be declared, and what may be set."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from sagabus.contracts import DeclarationError, SagaType
from sagabus.contracts.attributes import MAX_ATTRIBUTES, MAX_ATTRIBUTES_BYTES, attributes_type, changed, defaults, same
from tests.core.services import Order, Result

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # on purpose


class Colour(StrEnum):
    RED = "red"


class Odd(Enum):
    PAIR = (1, 2)


class Stages(BaseModel):
    stage: str = "new"
    amount: int | None = None
    due: datetime | None = None
    colour: Colour = Colour.RED
    kind: Annotated[Literal["a", 1], Field(description="which")] = "a"
    share: float = 0.5
    vip: bool = False


def test_a_model_of_scalars_with_defaults_is_declared() -> None:
    assert SagaType("order", Order, Result, attributes=Stages).attributes is Stages
    assert SagaType("order", Order, Result).attributes is None
    assert json.loads(defaults(Stages, "order")) == {
        "stage": "new", "amount": None, "due": None, "colour": "red", "kind": "a", "share": 0.5, "vip": False,
    }  # fmt: skip


def model(**fields: Any) -> type[BaseModel]:
    return create_model("Wrong", **fields)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (dict, "dict"),
        (model(stage=(str, ...)), "Wrong.stage has no default"),
        (model(stage=(list[str], [])), r"Wrong.stage is list\[str\]: an attribute is str, int"),
        (model(order=(Order, Order())), "Wrong.order is Order"),
        (model(price=(Decimal, Decimal(1))), "Wrong.price is Decimal: one number has several spellings"),
        (model(any=(Any, None)), "Wrong.any"),
        (model(b=(bytes, b"")), "Wrong.b is bytes"),
        (model(odd=(Odd, Odd.PAIR)), "Wrong.odd"),
        (model(raw=(Literal[b"a"], b"a")), "Wrong.raw"),
        (model(stage=(str | bytes, "")), "Wrong.stage"),
        (model(stage=(str, Field("new", alias="Stage"))), "Wrong.stage has an alias"),
        (model(stage=(str, 5)), "Wrong.stage would not come back"),
        (model(when=(datetime, NAIVE)), "when has no time zone"),
        (model(**{f"a{n}": (int, 0) for n in range(MAX_ATTRIBUTES + 1)}), "33 attributes; the limit is 32"),
        (model(text=(str, "x" * MAX_ATTRIBUTES_BYTES)), "8203 bytes as JSON, most of them in 'text'"),
    ],
)
def test_what_can_be_no_attribute_is_refused_where_it_is_declared(wrong: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        SagaType("order", Order, Result, attributes=wrong)


def test_values_are_set_one_by_one_and_the_others_stay() -> None:
    first, _ = changed(Stages, None, {"stage": "waiting"}, "saga O-1")
    second, data = changed(Stages, first, {"amount": 120, "vip": True}, "saga O-1")
    assert second == Stages(stage="waiting", amount=120, vip=True)
    assert json.loads(data)["stage"] == "waiting"


def test_a_moment_has_one_spelling() -> None:
    local = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    same_moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    _, one = changed(Stages, None, {"due": local}, "saga O-1")
    _, other = changed(Stages, None, {"due": same_moment}, "saga O-1")
    assert one == other
    assert json.loads(one)["due"] == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"stge": "x"}, TypeError, "saga O-1: Stages declares no attribute 'stge'; it has stage, amount, due"),
        ({"amount": "many"}, ValueError, "saga O-1: attribute amount: Input should be a valid integer"),
        ({"stage": {"a": 1}}, ValueError, "attribute stage: Input should be a valid string"),
        ({"share": float("nan")}, ValueError, "share"),
        ({"due": NAIVE}, ValueError, r"attribute due has no time zone: .* ctx.now\(\) has one"),
        ({"stage": "a\0b"}, ValueError, "stores no NUL"),
        ({"stage": "\ud800"}, ValueError, "saga O-1"),
        ({"stage": "x" * 10_000_000}, ValueError, r"10000\d+ bytes.*the limit is"),
    ],
)
def test_what_does_not_fit_is_said_in_words(values: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        changed(Stages, None, values, "saga O-1")


def test_the_model_itself_is_given_back() -> None:
    assert attributes_type(Stages, "saga order") is Stages


def test_postgresql_writes_the_same_in_another_way() -> None:
    assert same(b'{"a":1,"b":2}', b'{"b": 2, "a": 1}')
    assert same(None, None)
    assert not same(None, b"{}")
    assert not same(b'{"a":1}', b'{"a":2}')
