"""What passes as exactly of its declared types is what pydantic's serializer has no word against."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.round_trip import exactness_of


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    name: str
    weight: float | None = None


class Heavy(Part):
    extra: str = "more"


class Parcel(BaseModel):
    number: int
    paid: bool
    price: Decimal
    key: UUID
    sent: datetime
    colour: Colour
    parts: list[Part]
    first: Part | None
    notes: list[str] = Field(default_factory=list)

    @cached_property
    def label(self) -> str:
        return f"{self.number}"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int


class Chain(BaseModel):
    next: Chain | None = None


VALUES: dict[str, Any] = {
    "number": 1, "paid": True, "price": Decimal("1.5"), "key": UUID(int=1), "sent": datetime(2026, 1, 1, tzinfo=UTC),
    "colour": Colour.RED, "parts": [Part(name="a", weight=1.5), Part(name="b")], "first": None, "notes": ["x"],
}  # fmt: skip


def test_values_of_the_declared_types_are_exact() -> None:
    assert exactness_of(Parcel)(Parcel(**VALUES))
    assert exactness_of(Parcel)(Parcel(**VALUES | {"first": Part(name="c")}))
    assert exactness_of(Parcel)(Parcel(**VALUES | {"parts": [], "notes": []}))
    east = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert exactness_of(Parcel)(Parcel(**VALUES | {"sent": east}))


@pytest.mark.parametrize(
    "other",
    [
        {"number": True},
        {"number": "1"},
        {"number": 1.0},
        {"paid": 1},
        {"price": 1.5},
        {"key": str(UUID(int=1))},
        {"sent": "2026-01-01T00:00:00Z"},
        {"sent": datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))},
        {"sent": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=1)))},
        {"colour": "red"},
        {"parts": (Part(name="a"),)},
        {"parts": [Heavy(name="a")]},
        {"parts": [{"name": "a"}]},
        {"parts": [Part.model_construct(name=1)]},
        {"parts": [Part(name="b"), Part.model_construct(weight=1)]},
        {"first": Heavy(name="a")},
        {"first": {"name": "a"}},
        {"notes": [1]},
        {"notes": None},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_not_exact_wherever_it_stands(other: dict[str, Any]) -> None:
    assert not exactness_of(Parcel)(Parcel.model_construct(**VALUES | other))


def test_a_field_that_is_missing_is_noticed_though_something_else_stands_in_its_place() -> None:
    without = {name: value for name, value in VALUES.items() if name != "notes"}
    parcel = Parcel.model_construct(**without)
    parcel.__dict__.pop("notes", None)
    assert not exactness_of(Parcel)(parcel)
    parcel.__dict__["label"] = ["x"]
    assert not exactness_of(Parcel)(parcel)


def test_a_cached_property_is_nothing_that_travels_and_the_serializer_is_asked() -> None:
    parcel = Parcel(**VALUES)
    assert parcel.label == "1"
    assert not exactness_of(Parcel)(parcel)
    assert codec.decode(Parcel, codec.encode(parcel), what="parcel") == Parcel(**VALUES)


@pytest.mark.parametrize("value", [Open(number=1), RootModel[list[int]]([1]), Chain(next=Chain())], ids=repr)
def test_of_models_whose_types_do_not_say_it_nothing_is_known(value: BaseModel) -> None:
    assert not exactness_of(type(value))(value)


def test_what_is_not_exact_is_refused_where_it_would_be_read_as_something_else() -> None:
    with pytest.raises(MessageInvalid, match=r"Parcel: .*number"):
        codec.encode(Parcel.model_construct(**VALUES | {"number": "1"}))
    with pytest.raises(MessageInvalid, match=r"parts"):
        codec.encode(Parcel.model_construct(**VALUES | {"parts": [Heavy(name="a")]}))


def test_rules_hold_for_exact_values_too() -> None:
    class Ruled(BaseModel):
        name: str = Field(min_length=2)

    value = Ruled(name="ab")
    value.name = "a"
    assert exactness_of(Ruled)(value)
    with pytest.raises(MessageInvalid, match="name"):
        codec.encode(value)
