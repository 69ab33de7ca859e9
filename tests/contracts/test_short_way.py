"""Most values are written by a short way, which trusts what is known of their class. It is held against the plain one:
every value is written, read back and compared. Both give the same bytes, or refuse with the same words."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import PydanticSerializationError

from sagabus.contracts import DeclarationError, MessageInvalid, codec
from sagabus.contracts.round_trip import check
from sagabus.contracts.round_trip.exact import SHORT
from tests.contracts.wire_models import models


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Text(str):
    """A `str` of an own kind."""


class Inner(BaseModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=3)]
    price: Annotated[Decimal, Field(gt=0, max_digits=6, decimal_places=2)]


class Wider(Inner):
    more: int = 1


class Usual(BaseModel):
    """Of what most contracts are made."""

    id: UUID = UUID(int=1)
    name: Annotated[str, StringConstraints(pattern="^[a-z]+$")] = "abc"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    total: int = 1
    paid: bool = True
    rate: float | None = 1.5
    free: Decimal = Decimal(1)
    day: date = date(2026, 1, 1)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    word: Word = Word.A
    note: str | None = None
    one: Inner = Inner(name="a", price=Decimal("1.50"))
    items: list[Inner] = []
    notes: list[str] = []


OTHERS: list[Any] = [
    None, "", "a", "abc", "ABCD", "\0", "\ud800", "null", "NaN", "Infinity", "1", "ABC", True, False, 0, 1, 10,
    -1, 10**400, 1.0, 1.5, 1e300, math.nan, math.inf, Decimal(1), Decimal("1.005"), Decimal("NaN"), Decimal("sNaN"),
    Decimal("Infinity"), UUID(int=1), str(UUID(int=1)), date(2026, 1, 1), datetime(2026, 1, 1),  # noqa: DTZ001
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1))), "2026-01-01", b"a", b"\xff", Word.A, Number.ONE,
    Text("abc"), [], ["a"], [1], ("a",), {"a"}, {"name": "a", "price": "1.50"}, [{"name": "a", "price": "1.50"}],
    Inner(name="a", price=Decimal("1.50")), Wider(name="a", price=Decimal("1.50")), object(),
    [Inner(name="a", price=Decimal("1.50"))] * 2, [Inner(name="a", price=Decimal("1.50"))] * 9,
    [Wider(name="a", price=Decimal("1.50"))], [Inner.model_construct(name="abcd", price=Decimal("1.50"))],
    [Inner.model_construct(name="a")], Inner.model_construct(name="a", price=Decimal("1.005")),
    Inner.model_construct(name="a", price="1.50"), Inner.model_construct(name="a", price=Decimal("1.50"), more=1),
]  # fmt: skip
"""Values of which most fit nowhere."""


def plainly(model: BaseModel) -> bytes:
    data = model.__pydantic_serializer__.to_json(model, by_alias=True, round_trip=True, warnings=False)
    codec._confirm(model, data)
    return data


def outcome(write: Callable[[BaseModel], bytes], model: BaseModel) -> bytes | str:
    try:
        return write(model)
    except (MessageInvalid, PydanticSerializationError) as error:
        return f"{type(error).__name__}: {error}"


def spoilt(draw: st.DrawFn, model: BaseModel) -> BaseModel:
    """As an assignment, `model_construct` or a deletion leaves it; or a model within it."""
    held = model.__dict__
    name = draw(st.sampled_from(sorted(held)))
    inner = held[name][0] if isinstance(held[name], list) and held[name] else held[name]
    if isinstance(inner, BaseModel) and inner.__dict__ and draw(st.sampled_from([True, False])):
        spoilt(draw, inner)
        return model
    what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
    if what == "replace":
        held[name] = draw(st.sampled_from(OTHERS))
    elif what == "remove":
        del held[name]
    else:
        held["another"] = 1
    return model


@st.composite
def usual(draw: st.DrawFn) -> BaseModel:
    """One of which at most two values are spoilt."""
    item = st.builds(Inner, name=st.sampled_from(["a", "NaN"]), price=st.sampled_from([Decimal("0.05"), Decimal(10)]))
    model: BaseModel = Usual(
        items=draw(st.lists(item, max_size=7)), one=draw(item), note=draw(st.sampled_from([None, "NaN", "x"])),
        total=draw(st.integers()), rate=draw(st.none() | st.floats()),
        free=draw(st.decimals(allow_nan=False, allow_infinity=False)),
        at=draw(st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(minutes=30))))),
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        model = spoilt(draw, model) if model.__dict__ else model
    return model


def filled() -> Usual:
    """With a list that is looked through, or asked of the serializer."""
    return Usual(note="x", items=[Inner(name=str(number), price=Decimal(1)) for number in range(2)])


@pytest.mark.parametrize("name", Usual.model_fields)
def test_whatever_stands_in_a_field_is_written_or_refused_as_the_plain_way_does_it(name: str) -> None:
    for value in OTHERS:
        model = filled()
        model.__dict__[name] = copy.deepcopy(value)
        assert outcome(codec.encode, model) == outcome(plainly, model), value


@pytest.mark.parametrize("name", Inner.model_fields)
@pytest.mark.parametrize("copies", [0, 1, SHORT])
def test_so_it_is_in_a_model_within_a_model_and_in_a_list(name: str, copies: int) -> None:
    for value in OTHERS:
        model = filled()
        model.items += [Inner(name="a", price=Decimal(1)) for _ in range(copies)]
        for inner in (model.one, model.items[-1]):
            before, inner.__dict__[name] = inner.__dict__[name], copy.deepcopy(value)
            assert outcome(codec.encode, model) == outcome(plainly, model), value
            inner.__dict__[name] = before


@settings(max_examples=300, deadline=None)
@given(usual())
def test_the_short_way_writes_and_refuses_as_the_plain_one(model: BaseModel) -> None:
    plain = outcome(plainly, model)
    event("refused" if isinstance(plain, str) else "written")
    assert outcome(codec.encode, model) == plain


@st.composite
def any_model(draw: st.DrawFn) -> BaseModel | None:
    kind, values = draw(models())
    try:
        check(kind, "shop.buy")
        model = kind.model_validate(values, by_alias=False, by_name=True)
    except (DeclarationError, ValidationError):
        return None
    return spoilt(draw, model) if draw(st.booleans()) else model


@settings(max_examples=300, deadline=None)
@given(any_model())
def test_it_does_so_for_any_model_that_may_be_declared(model: BaseModel | None) -> None:
    if model is not None:
        assert outcome(codec.encode, model) == outcome(plainly, model)


class Plain(BaseModel):
    name: str
    inner: Plain | None = None
    names: dict[str, str] = {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Plain.model_construct(name=None), "Plain: name: Input should be a valid string"),
        (Plain.model_construct(), "Plain: name: Field required"),
        (Plain.model_construct(name="a", names={"a": None}), "Plain: names.a: Input should be a valid string"),
        (Plain(name="a", inner=Plain.model_construct(name=None)), "Plain: inner.name: Input should be a valid string"),
        (Usual.model_construct(day=datetime(2026, 1, 1)), "Usual: day: read back, it is another value"),  # noqa: DTZ001
    ],
    ids=str,
)  # fmt: skip
def test_what_the_serializer_lets_pass_without_a_word_is_refused(value: BaseModel, words: str) -> None:
    with pytest.raises(MessageInvalid, match=words):
        codec.encode(value)
