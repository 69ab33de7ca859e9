"""An undo's input comes from its step, by name and type; what cannot be filled is refused when it is declared."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sagabus.contracts import DeclarationError, Service
from sagabus.contracts.undo_input import by_field


class Line(BaseModel):
    sku: str


class Input(BaseModel):
    order: str
    lines: list[Line] = []
    amount: int = 0
    both: str = "input"


class Output(BaseModel):
    ref: str
    both: str = "output"


def filled(wanted: type[BaseModel], input: BaseModel, output: BaseModel | None) -> BaseModel:
    return by_field("shop.buy", wanted, type(input), None if output is None else type(output))(input, output)


def test_fields_come_from_the_output_and_then_from_the_input() -> None:
    class Undo(BaseModel):
        ref: str
        order: str
        both: str

    assert filled(Undo, Input(order="O"), Output(ref="R")) == Undo(ref="R", order="O", both="output")


def test_without_an_output_all_comes_from_the_input() -> None:
    class Undo(BaseModel):
        order: str
        both: str

    assert filled(Undo, Input(order="O"), None) == Undo(order="O", both="input")


def test_models_and_lists_of_models_are_taken_as_they_are() -> None:
    class Undo(BaseModel):
        lines: list[Line]

    made = filled(Undo, Input(order="O", lines=[Line(sku="a")]), Output(ref="R"))
    assert made == Undo(lines=[Line(sku="a")])


def test_what_is_not_required_may_be_missing() -> None:
    class Undo(BaseModel):
        order: str
        reason: str = "undone"
        amount: str = "another type than the input's"

    assert filled(Undo, Input(order="O"), None) == Undo(order="O")


def test_fields_with_an_alias_are_filled_by_their_names() -> None:
    class Undo(BaseModel):
        order: str = Field(alias="orderNumber")
        ref: str = Field(validation_alias="reference")

    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        order: str

    assert filled(Undo, Input(order="O"), Output(ref="R")).model_dump() == {"order": "O", "ref": "R"}
    assert filled(Frozen, Input(order="O"), Output(ref="R")) == Frozen(order="O")


@pytest.mark.parametrize("kind", [int, str | None, bytes, list[str], Line])
def test_another_type_does_not_fit(kind: Any) -> None:
    undo = type("Undo", (BaseModel,), {"__annotations__": {"order": kind, "ref": str}})
    with pytest.raises(DeclarationError) as caught:
        by_field("shop.buy", undo, Input, Output)
    assert str(caught.value) == (
        "shop.buy: Undo.order cannot be filled: no field of that name and type in Output or Input; add it, or declare "
        "compensate_with="
    )


def test_all_that_is_missing_is_named() -> None:
    class Undo(BaseModel):
        one: str
        two: str

    with pytest.raises(DeclarationError, match=r"Undo\.one, two cannot be filled: .* in Input;"):
        by_field("shop.buy", Undo, Input, None)


def test_a_rule_of_the_undos_model_is_only_known_when_it_is_filled() -> None:
    class Undo(BaseModel):
        amount: int = Field(gt=0)

    with pytest.raises(ValidationError):
        filled(Undo, Input(order="O", amount=0), None)


def test_a_function_may_fill_it_instead() -> None:
    class Undo(BaseModel):
        words: str

    shop = Service("shop")
    undo = shop.compensation("undo", Undo)
    buy = shop.activity(
        "buy", Input, Output, compensation=undo, compensate_with=lambda input, done: Undo(words=input.order + done.ref)
    )
    assert buy.fill is not None
    assert buy.fill(Input(order="O"), Output(ref="R")) == Undo(words="OR")
