"""What a model writes the same model reads: refused when it is declared, or found when it is written, never lost."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import event, given, settings
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
    field_serializer,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from sagabus.contracts import DeclarationError, MessageInvalid, SagaType, Service, codec
from sagabus.contracts import event as foreign_event
from sagabus.contracts.round_trip import check, difference, doubts_of
from tests.contracts.wire_models import Inner, Level, models


@settings(max_examples=400)
@given(models())
def test_what_is_read_is_what_was_written_or_the_model_is_refused(made: tuple[type[BaseModel], dict[str, Any]]) -> None:
    """For any model that a declaration takes: a value comes back equal, or is refused when it is written."""
    model, values = made
    try:
        check(model, "shop.buy")
    except DeclarationError:
        event("refused when declared")
        return
    try:
        value = model.model_validate(values, by_alias=False, by_name=True)
    except ValidationError:
        event("no value")
        return
    try:
        data = codec.encode(value)
    except (MessageInvalid, PydanticSerializationError):
        event("refused when written")
        return
    event("came back")
    assert difference(value, codec.decode(model, data, what="it")) is None
    if value == value:  # NaN is not
        assert codec.decode(model, data, what="it") == value


def declared(model: type[BaseModel]) -> None:
    Service("shop").activity("buy", model)


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Plain:
    """Pydantic knows nothing of it."""


class Twin(BaseModel):
    number: str


class OtherTwin(BaseModel):
    number: str


def one(annotation: Any, default: Any = ..., **config: Any) -> type[BaseModel]:
    body = {"__annotations__": {"it": annotation}, "model_config": {"arbitrary_types_allowed": True, **config}}
    return type("Buy", (BaseModel,), body if default is ... else {**body, "it": default})


REFUSED: dict[str, tuple[type[BaseModel], str]] = {
    "secret": (one(SecretStr), r"Buy\.it .*\*\*\*.*send a reference to the secret, or a str"),
    "secret bytes": (one(SecretBytes), "send a reference to the secret, or bytes"),
    "secret in a list": (one(list[SecretStr]), "send a reference|reads what it writes"),
    "excluded": (one(str, Field(exclude=True)), r"Buy\.it .*exclude=True.*remove the exclusion"),
    "read by another key": (one(str, Field(validation_alias="x")), r"as 'it' and read from 'x'; give it one alias="),
    "written by another key": (one(str, Field(serialization_alias="x")), "written as 'x' and read from 'it'"),
    "no choice is written": (one(str, Field(validation_alias=AliasChoices("a", "b"))), "read from 'a', 'b'"),
    "constants": (one(float, ser_json_inf_nan="constants"), "no JSON; say ser_json_inf_nan=\"strings\""),
    "bytes": (one(bytes, ser_json_bytes="base64"), 'ConfigDict.ser_json_bytes="base64", val_json_bytes="base64"'),
    "tuple keys": (one(dict[tuple[int, int], str]), "which it does not read"),
    "two kinds of keys": (one(dict[int | str, str]), "read back as dict"),
    "null keys": (one(dict[str | None, str]), "read back as dict"),
    "keys alike": (one(dict[Literal[1, "1"], str]), "read back as dict"),
    "milliseconds": (one(datetime, ser_json_temporal="milliseconds"), "read back as datetime"),
    "text or UUID": (one(str | UUID), "read back as UUID"),
    "text or number": (one(Decimal | str), "read back as Decimal"),
    "text or bytes": (one(str | bytes), "read back as str"),
    "list or set": (one(list[int] | set[int]), "set .7. is written as .* and read back as list"),
    "twins": (one(Twin | OtherTwin), "OtherTwin.*read back as Twin"),
    "sequence": (one(Sequence[int]), r"tuple .7,. is written as .* and read back as list .*take list"),
    "enum of tuples": (one(Colour), "which it does not read"),
    "enum as literal": (one(Literal[Colour.RED]), "which it does not read"),
    "class": (one(Plain), "Plain cannot be made from JSON"),
    "callable": (one(Callable[[], int]), "a callable has no form in JSON"),
    "future": (one(FutureDate), "refused when it is read again tomorrow"),
    "default of another type": (one(int, None), "NoneType None is written as .*null}, which it does not read"),
    "1 and true in a set": (one(set[bool | Level]), "read back as set {True}"),
    "validator that goes on": (one(Annotated[str, AfterValidator(lambda text: text + "!")]), "read back as str"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_is_refused_when_it_is_declared(name: str) -> None:
    model, words = REFUSED[name]
    with pytest.raises(DeclarationError, match=words) as caught:
        declared(model)
    assert str(caught.value).startswith("shop.buy: Buy.it would not come back from the wire as it was: ")


def test_it_is_refused_wherever_a_model_is_declared() -> None:
    shop, secret = Service("shop"), one(SecretStr)
    declarations: list[Callable[[], object]] = [
        lambda: shop.activity("a", Twin, secret),
        lambda: shop.compensation("b", secret),
        lambda: shop.event("c", secret),
        lambda: foreign_event("d.e", secret),
        lambda: SagaType("f", secret, Twin),
        lambda: SagaType("g", Twin, secret),
    ]
    for declare in declarations:
        with pytest.raises(DeclarationError, match=r"Buy\.it would not come back"):
            declare()


def test_a_fault_within_a_model_within_a_model_is_named_by_its_path() -> None:
    class Card(BaseModel):
        number: SecretStr

    class Payment(BaseModel):
        cards: list[Card]

    with pytest.raises(DeclarationError, match=r"Payment\.cards\.number would not"):
        declared(Payment)


def test_two_fields_under_one_key_are_refused() -> None:
    class Buy(BaseModel):
        one: str = Field(alias="x")
        two: str = Field(alias="x")

    with pytest.raises(DeclarationError, match=r"Buy\.two .* one is written as 'x' too; give each an alias of its own"):
        declared(Buy)


def test_private_attributes_are_refused_and_cached_properties_are_not() -> None:
    class Hidden(BaseModel):
        name: str
        _seen: int = PrivateAttr(default=0)

    class Cached(BaseModel):
        name: str

        @functools.cached_property
        def long(self) -> str:
            return self.name * 2

    with pytest.raises(DeclarationError, match=r"Hidden\._seen .*does not travel; make it a field"):
        declared(Hidden)
    declared(Cached)
    value = Cached(name="a")
    assert value.long == "aa"
    assert codec.decode(Cached, codec.encode(value), what="it") == value


def test_a_serializer_that_loses_is_refused() -> None:
    class Buy(BaseModel):
        at: datetime

        @field_serializer("at")
        def day(self, value: datetime) -> str:
            return value.date().isoformat()

    with pytest.raises(DeclarationError, match=r"Buy\.at .*read back as datetime"):
        declared(Buy)


def test_aliases_are_written_and_read() -> None:
    class Buy(BaseModel):
        first_name: str = Field(alias="firstName")
        size: int = Field(validation_alias=AliasChoices("size", "siZe"), serialization_alias="siZe")

    declared(Buy)
    value = Buy.model_validate({"firstName": "A", "siZe": 2})
    assert codec.encode(value) == b'{"firstName":"A","siZe":2}'
    assert codec.decode(Buy, codec.encode(value), what="it") == value


def test_computed_fields_stay_at_home_so_that_a_strict_model_reads_itself() -> None:
    class Buy(BaseModel):
        model_config = ConfigDict(extra="forbid")
        price: int

        @computed_field
        def twice(self) -> int:
            return 2 * self.price

    declared(Buy)
    assert codec.encode(Buy(price=2)) == b'{"price":2}'
    assert codec.decode(Buy, b'{"price":2}', what="it") == Buy(price=2)


def test_a_model_whose_types_are_not_defined_yet_is_looked_at_when_it_is_written() -> None:
    class Early(BaseModel):
        later: Later

    declared(Early)

    class Later(BaseModel):
        rate: float

    Early.model_rebuild(_types_namespace={"Later": Later})
    with pytest.raises(MessageInvalid, match=r"Early: later\.rate"):
        codec.encode(Early(later=Later(rate=math.inf)))


# What the schema cannot tell is found when it is written.

_A_MICROSECOND_EAST = timezone(timedelta(microseconds=1))


def test_a_value_of_a_narrower_type_is_no_loss() -> None:
    """By assignment, which pydantic does not look at: the reader gets an equal value of the declared type."""

    class Price(BaseModel):
        it: Annotated[Decimal, AfterValidator(lambda value: value)]
        tags: set[str]

    price = Price(it=Decimal(1), tags=set())
    price.it, price.tags = 5, frozenset({"a"})  # type: ignore[assignment]
    assert codec.decode(Price, codec.encode(price), what="price") == Price(it=Decimal(5), tags={"a"})


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (float, math.inf, "it: Input should be a valid number: it was written and cannot be read back"),
        (float, math.nan, "it: Input should be a valid number"),
        (float | None, math.inf, "it: read back, it is another value than was written"),
        (list[float], [1.0, -math.inf], "it"),
        (int, 10**310, "larger than any double"),
        (Any, date(2024, 1, 1), "it: read back"),
        (dict[str, Any], {"a": (1, 2)}, "it.a: read back"),
        (datetime, datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=53, seconds=28))), "it: read back"),
        (datetime, datetime(2000, 1, 1, tzinfo=_A_MICROSECOND_EAST), "it: read back"),  # written as UTC
        (set[datetime], {datetime(2000, 1, 1, tzinfo=_A_MICROSECOND_EAST)}, "it.*: read back"),
        (time, time(12, tzinfo=_A_MICROSECOND_EAST), "it: read back"),
        (tuple[bool | Level, ...], (Level.LOW,), r"it\.0: read back"),  # 1, which == True
    ],
)
def test_a_value_that_would_be_lost_is_refused_when_it_is_written(annotation: Any, value: object, words: str) -> None:
    model = one(annotation)
    declared(model)
    with pytest.raises(MessageInvalid, match=words):
        codec.encode(model.model_validate({"it": value}))


def test_what_passed_by_its_rules_is_refused_when_it_is_written() -> None:
    class Buy(BaseModel):
        code: str = Field(max_length=3)
        number: int = 0
        rate: float = 1.0

    assigned = Buy(code="abc")
    assigned.code = "abcd"
    unchecked = Buy.model_construct(code="abc", number="x")
    for value, field in ((assigned, "code"), (unchecked, "number")):
        with pytest.raises(MessageInvalid, match=f"Buy: {field}: .*cannot be read back"):
            codec.encode(value)
    assigned.code, assigned.rate = "abc", 5
    assert codec.encode(assigned) == b'{"code":"abc","number":0,"rate":5.0}'


def test_what_a_subclass_adds_is_not_dropped_in_silence() -> None:
    class Line(BaseModel):
        sku: str

    class Buy(BaseModel):
        lines: list[Line]

    class Gift(Line):
        wrapping: str

    assert codec.encode(Buy(lines=[Line(sku="a")])) == b'{"lines":[{"sku":"a"}]}'
    with pytest.raises(MessageInvalid, match=r"Buy: lines\.0: read back"):
        codec.encode(Buy(lines=[Gift(sku="a", wrapping="red")]))


def test_what_a_subclass_adds_is_not_dropped_in_its_place_either() -> None:
    class Line(BaseModel):
        sku: str

    class Gift(Line):
        wrapping: str = "plain"
        card: str = ""

    class Same(Line):
        pass

    assert codec.encode_as(Line, Same(sku="a"), what="a line") == b'{"sku":"a"}'
    lost = "a line is declared as Line, and Gift has more: whoever reads it would not get card, wrapping; give a Line"
    with pytest.raises(MessageInvalid, match=lost):
        codec.encode_as(Line, Gift(sku="a"), what="a line")


def test_a_rule_of_the_whole_model_is_looked_at_too() -> None:
    class Buy(BaseModel):
        low: int
        high: int

        @model_validator(mode="after")
        def ordered(self) -> Buy:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    value = Buy(low=1, high=2)
    assert codec.decode(Buy, codec.encode(value), what="it") == value
    value.low = 3
    with pytest.raises(MessageInvalid, match="low is above high"):
        codec.encode(value)


# Nothing is read back where nothing can be lost.


def test_plain_models_leave_no_doubt() -> None:
    class Plain(BaseModel):
        name: str
        count: bool
        id: UUID
        day: date
        tags: set[str]
        parts: tuple[str, bool] | None
        by_name: dict[str, UUID] = {}

    assert doubts_of(Plain) is None


def test_a_model_in_doubt_is_read_back_only_where_its_bytes_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading(BaseModel):
        rate: float
        at: datetime
        count: int
        inner: Inner | None

    read: list[bytes] = []

    def read_back(model: BaseModel, data: bytes) -> BaseModel:
        read.append(data)
        return model

    monkeypatch.setattr(codec, "_read_back", read_back)
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    east, odd = (timezone(timedelta(hours=2, seconds=seconds)) for seconds in (0, 1))
    for zone in (UTC, east):
        codec.encode(Reading(rate=1.5, at=moment.astimezone(zone), count=2**63, inner=Inner(theName="n")))
    assert read == []
    codec.encode(Reading(rate=1.5, at=moment, count=1, inner=None))
    codec.encode(Reading(rate=1.5, at=moment.astimezone(odd), count=1, inner=Inner(theName="n")))
    assert len(read) == 2
