"""A model that is as its class has made it is written without a second look at its rules; any other is looked at."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sagabus.contracts import Service, codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.round_trip import is_as_made, made

service = Service("stock")


class Size(Enum):
    SMALL = "s"


class Plain(BaseModel):
    count: int = Field(gt=0)
    price: Annotated[Decimal, Field(gt=0, max_digits=8, decimal_places=2)]
    size: Size | None = None
    id: UUID = UUID(int=1)


class WithList(BaseModel):
    counts: list[Annotated[int, Field(gt=0)]]


class WithFactory(BaseModel):
    count: int = Field(default_factory=lambda: -1, gt=0)


class WithValidator(BaseModel):
    count: int = Field(gt=0)

    @model_validator(mode="after")
    def _lower(self) -> WithValidator:
        self.count = -self.count
        return self


class WithInit(BaseModel):
    count: int = Field(gt=0)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.count = -1


class WithExtra(BaseModel):
    model_config = ConfigDict(extra="allow")
    count: int = Field(gt=0)


class WithSignals(BaseModel):
    price: Decimal = Field(allow_inf_nan=True, gt=-5)


def test_a_plain_model_is_as_made_until_a_value_is_another_object() -> None:
    model = Plain(count=1, price=Decimal("1.50"), id=uuid4())
    values = made(model)
    assert values is not None
    assert is_as_made(model, values)
    model.count = True
    assert not is_as_made(model, values), "equal is not enough: True is written as another value than 1"
    model.count = 1
    assert is_as_made(model, values)
    del model.__dict__["size"]
    assert not is_as_made(model, values)


@pytest.mark.parametrize(
    "model",
    [
        WithList(counts=[1]), WithFactory(), WithValidator(count=1), WithInit(count=1), WithExtra(count=1),
        WithSignals(price=Decimal(1)),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_what_may_break_its_rules_unseen_is_never_as_made(model: BaseModel) -> None:
    assert made(model) is None


def test_a_command_whose_input_was_changed_is_looked_at_again() -> None:
    reserve = service.activity("reserve", Plain)
    command = reserve(count=1, price=Decimal("1.50"))
    assert command.made is not None
    assert codec.encode(command.input, valid=True) == codec.encode(command.input)
    command.input.__dict__["count"] = -1
    assert not is_as_made(command.input, command.made)
    with pytest.raises(MessageInvalid, match="count"):
        codec.encode(command.input)


def test_a_command_of_a_model_that_was_made_elsewhere_is_looked_at() -> None:
    take = service.activity("take", Plain)
    assert take.of(Plain.model_construct(count=-1, price=Decimal(1))).made is None
