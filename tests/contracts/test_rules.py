"""A model's rules are held against what it has written, and the model is made again only where that is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, ValidationError, create_model
from pydantic_core import to_json

from sagabus.contracts import MessageInvalid, codec
from sagabus.contracts.round_trip import doubts_of, rules_of
from sagabus.shop import contracts as shop

Code = Annotated[str, StringConstraints(pattern="^[a-z]+$", max_length=3)]


class Line(BaseModel):
    sku: str = Field(min_length=1, max_length=4, alias="theSku")
    count: int = Field(default=1, ge=1, le=10)
    price: Decimal = Field(gt=0, max_digits=6, decimal_places=2)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    price: Decimal | None = Field(default=None, ge=0, decimal_places=3)


class Codes(RootModel[list[Code]]):
    pass


class Tree(BaseModel):
    name: Code
    below: list[Tree] = Field(default=[], max_length=2)


class Sheet(BaseModel):
    id: UUID
    lines: list[Line] = Field(min_length=1, max_length=2)
    by_name: dict[Code, Strict] = {}
    codes: Codes | None = None
    tree: Tree | None = None


def line(price: str = "1.10", **fields: Any) -> dict[str, Any]:
    return {"theSku": "a", "count": 1, "price": price, **fields}


LOWER: list[dict[str, Any]] = [{}, *({kind: limit} for kind in ("gt", "ge") for limit in (-1, 0, 1))]
ODD: list[dict[str, Any]] = [
    {"le": 5},
    {"lt": 5},
    {"multiple_of": Decimal("0.05")},
    {"allow_inf_nan": True},
    {"gt": 0, "ge": 1},
]
DIGITS: list[dict[str, Any]] = [
    {"max_digits": digits, "decimal_places": places} for digits in (None, 1, 2, 3, 5) for places in (None, 0, 1, 2, 3)
]
LIMITS = [*({**lower, **digits} for lower in LOWER for digits in DIGITS), *ODD]
AFTER_THE_POINT = ["", *("." + end for end in ("0", "5", "05", "10", "00", "005", "050", "001", "123", "000", "1234"))]
NUMBERS = [
    *(sign + whole + after for sign in ("", "-") for whole in ("0", "1", "7", "10", "99", "123", "99999", "123456")
      for after in AFTER_THE_POINT),
    "NaN", "-Infinity", "Infinity", "sNaN", "1E+2", "0E-7", "12E-1", "-0", "0" * 40, "9" * 31, "0." + "0" * 30 + "1",
]  # fmt: skip


def taken(validator: Any, data: bytes) -> bool:
    try:
        validator.validate_json(data)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_a_decimal_that_the_rules_take_the_model_takes(limits: dict[str, Any]) -> None:
    model = create_model("Made", value=(Decimal, Field(**limits)))
    for number in NUMBERS:
        data = to_json({"value": number})
        if taken(rules_of(model), data):
            assert taken(model.__pydantic_validator__, data), number


texts = st.sampled_from(["", "a", "abc", "abcd", "A", "ä"])
prices = st.sampled_from(["1.10", "0.50", "0.05", "0", "-1", "9999.99", "10000", "1.005", "1E+2", "NaN", "Infinity"])
lines = st.fixed_dictionaries(
    {}, optional={"theSku": texts, "sku": texts, "count": st.integers(0, 11) | texts, "price": prices, "more": texts}
)
trees = st.recursive(
    st.fixed_dictionaries({"name": texts}),
    lambda below: st.fixed_dictionaries({"name": texts, "below": st.lists(below, max_size=3)}),
    max_leaves=4,
)
strict = st.fixed_dictionaries({}, optional={"price": prices | st.none(), "x": texts})
sheets = st.fixed_dictionaries(
    {"id": st.uuids(), "lines": st.lists(st.just(line()) | lines, min_size=1, max_size=3)},
    optional={
        "by_name": st.dictionaries(st.just("a") | texts, strict, max_size=1),
        "codes": st.lists(texts, max_size=2) | st.none(),
        "tree": trees,
    },
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(sheets)
def test_what_the_rules_take_the_model_takes(sheet: dict[str, Any]) -> None:
    """Whatever it is: they never say yes to what would be refused where it is read."""
    data = to_json(sheet)
    if taken(rules_of(Sheet), data):
        event("taken")
        assert taken(Sheet.__pydantic_validator__, data)


def test_a_model_keeps_its_own_configuration() -> None:
    class Short(BaseModel):
        model_config = ConfigDict(str_max_length=3)
        code: str
        strict: Strict = Strict()

    rules = rules_of(Short)
    assert taken(rules, b'{"code":"abc","strict":{"price":"0.5"}}')
    for data in (b'{"code":"abcd","strict":{"price":"0.5"}}', b'{"code":"abc","strict":{"price":"0.5","x":1}}'):
        assert not taken(rules, data)


def broken_sku(sheet: Sheet) -> None:
    sheet.lines[0].sku = "abcde"


def broken_count(sheet: Sheet) -> None:
    sheet.lines[0].count = 11


def broken_price(sheet: Sheet) -> None:
    sheet.lines[0].price = Decimal("1.005")


def unheard_of_price(sheet: Sheet) -> None:
    sheet.lines[0].price = Decimal("NaN")


def too_many_lines(sheet: Sheet) -> None:
    sheet.lines += [sheet.lines[0], sheet.lines[0]]


def no_lines(sheet: Sheet) -> None:
    sheet.lines.clear()


def broken_key(sheet: Sheet) -> None:
    sheet.by_name["ABC"] = Strict()


def broken_value(sheet: Sheet) -> None:
    sheet.by_name["a"] = Strict.model_construct(price=Decimal(-1))


def broken_code(sheet: Sheet) -> None:
    sheet.codes = Codes(["a"])
    sheet.codes.root.append("ABC")


def broken_leaf(sheet: Sheet) -> None:
    sheet.tree = Tree(name="a", below=[Tree(name="b")])
    sheet.tree.below[0].name = "abcd"


def left_out(sheet: Sheet) -> None:
    sheet.lines[0] = Line.model_construct(sku="a", count=1)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (broken_sku, r"lines\.0\.theSku"), (broken_count, r"lines\.0\.count"), (broken_price, r"lines\.0\.price"),
        (unheard_of_price, r"lines\.0\.price"), (too_many_lines, "lines"), (no_lines, "lines"),
        (broken_key, r"by_name\.ABC"), (broken_value, r"by_name\.a\.price"), (broken_code, r"codes\.0|codes\.1"),
        (broken_leaf, r"tree\.below\.0\.name"), (left_out, r"lines\.0\.price: Field required"),
    ],
)  # fmt: skip
def test_a_change_past_the_rules_is_found_wherever_it_was_made(change: Callable[[Sheet], None], place: str) -> None:
    sheet = Sheet.model_validate({"id": UUID(int=1), "lines": [line()]})
    codec.encode(sheet)
    change(sheet)
    with pytest.raises(MessageInvalid, match=f"Sheet: {place}.*cannot be read back"):
        codec.encode(sheet)


def test_a_decimal_that_is_no_number_is_refused_where_there_is_no_other_rule() -> None:
    class Buy(BaseModel):
        note: str
        price: Decimal

    value = Buy(note="NaN", price=Decimal("1.10"))
    assert codec.encode(value) == b'{"note":"NaN","price":"1.10"}'
    for odd in ("NaN", "-Infinity", "sNaN"):
        value.price = Decimal(odd)
        with pytest.raises(MessageInvalid, match=r"Buy: price: Input should be a finite number.*cannot be read back"):
            codec.encode(value)


def test_usual_values_are_written_without_being_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_back(model: BaseModel, data: bytes) -> BaseModel:
        raise AssertionError(f"read back: {data!r}")

    monkeypatch.setattr(codec, "_read_back", read_back)
    item = shop.OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99"))
    cheap = shop.OrderItem(product_id="PROD-2", quantity=1, unit_price=Decimal("0.05"))
    values = [
        shop.ReserveInventory(order_id="ORD-1", items=[item, cheap]),
        shop.ProcessPayment(order_id="ORD-1", amount=Decimal("59.98"), customer_email="customer@example.com"),
        shop.Payment(transaction_id="TXN-1", amount=Decimal(60), status="completed"),
        Tree(name="a", below=[Tree(name="b")]),
        Strict(), Strict(price=Decimal("0.125")),
        Sheet.model_validate({"id": UUID(int=1), "lines": [line(), line("0.50")], "by_name": {"a": {"price": None}}}),
    ]  # fmt: skip
    for value in values:
        doubts = doubts_of(type(value))
        assert doubts is not None
        assert doubts.read
        assert codec.decode(type(value), codec.encode(value), what="it") == value
