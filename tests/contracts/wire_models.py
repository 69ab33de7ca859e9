"""Models made at random, over all that pydantic has for fields, and values for them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    JsonValue,
    SecretBytes,
    SecretStr,
    StringConstraints,
    computed_field,
    create_model,
)


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Level(enum.IntEnum):
    LOW = 1


class Pair(enum.Enum):
    """A tuple is read back as a list, which is none of the members."""

    BOTH = (1, 2)


class Point(NamedTuple):
    x: int
    y: str


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(alias="theName")
    count: int = 0

    @computed_field
    def twice(self) -> int:
        return 2 * self.count


class Tree(BaseModel):
    value: int
    below: list[Tree] = []


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    amount: Decimal


class Twin(BaseModel):
    number: str


class OtherTwin(BaseModel):
    number: str


text = st.text(max_size=8)
zones = st.just(UTC) | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
naive = st.datetimes()
floats = st.floats()
decimals = st.decimals(allow_nan=False, allow_infinity=False)
inners = st.builds(lambda name, count: Inner(theName=name, count=count), text, st.integers())
trees = st.recursive(
    st.builds(Tree, value=st.integers()), lambda t: st.builds(Tree, value=st.integers(), below=st.lists(t, max_size=2))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)

means = st.builds(Card, number=text) | st.builds(Cash, amount=decimals)

Field_ = tuple[Any, st.SearchStrategy[Any]]
"""An annotation and values for it."""

SCALARS: Final[list[Field_]] = [
    (str, text), (int, st.integers()), (float, floats), (bool, st.booleans()), (Decimal, decimals),
    (UUID, st.uuids()), (datetime, naive | st.datetimes(timezones=zones)), (date, st.dates()),
    (time, st.times() | st.times(timezones=st.just(UTC))), (timedelta, st.timedeltas()),
    (Colour, st.sampled_from(Colour)), (Level, st.sampled_from(Level)), (Literal["a", 1], st.sampled_from(["a", 1])),
    (bytes, st.binary(max_size=8)), (IPv4Address, st.ip_addresses(v=4)), (IPv6Address, st.ip_addresses(v=6)),
]  # fmt: skip

ODD: Final[list[Field_]] = [
    (Path, st.sampled_from([Path("/a"), Path("b/c")])),
    (HttpUrl, st.sampled_from(["http://a.b", "https://a.b/c?d=é"])),
    (Json[list[int]], st.just("[1,2]")), (JsonValue, json_values), (Any, json_values | st.dates() | st.tuples(text)),
    (object, text), (Inner, inners), (Tree, trees), (Point, st.builds(Point, st.integers(), text)),
    (Annotated[str, StringConstraints(pattern="^[a-z]+$", max_length=3)], st.sampled_from(["a", "abc"])),
    (Annotated[int, Field(ge=0, le=10)], st.integers(0, 10)), (Annotated[str, StringConstraints(to_lower=True)], text),
    (Annotated[float, Field(allow_inf_nan=False)], st.floats(allow_nan=False, allow_infinity=False)),
    (Annotated[Decimal, Field(allow_inf_nan=True)], st.sampled_from([Decimal("Infinity"), Decimal("1.10")])),
    (Annotated[Card | Cash, Field(discriminator="kind")], means), (Card | Cash, means),
    (Twin | OtherTwin, st.builds(Twin, number=text) | st.builds(OtherTwin, number=text)),
    (SecretStr, text), (SecretBytes, st.binary(max_size=4)), (Pair, st.just(Pair.BOTH)),
    (complex, st.complex_numbers()),
]  # fmt: skip


def held(field: Field_) -> st.SearchStrategy[Field_]:
    """The same, alone or within something."""
    kind, values = field
    kept: list[Field_] = [field, (kind | None, values | st.none()), (list[kind], st.lists(values, max_size=3))]  # type: ignore[valid-type]
    kept += [(tuple[kind, str], st.tuples(values, text)), (tuple[kind, ...], st.lists(values, max_size=3).map(tuple))]  # type: ignore[valid-type]
    kept += [(dict[str, kind], st.dictionaries(text, values, max_size=3))]  # type: ignore[valid-type]
    if field in SCALARS:
        kept += [(set[kind], st.sets(values, max_size=3)), (frozenset[kind], st.frozensets(values, max_size=3))]  # type: ignore[valid-type]
        kept += [(dict[kind, int], st.dictionaries(values, st.integers(), max_size=3))]  # type: ignore[valid-type]
    return st.sampled_from(kept)


single = st.sampled_from([*SCALARS, *ODD])
unions = st.tuples(st.sampled_from(SCALARS), st.sampled_from(SCALARS)).map(
    lambda two: (two[0][0] | two[1][0] if two[0][0] is not two[1][0] else two[0][0], two[0][1] | two[1][1])
)
fields = (single | unions).flatmap(held)

ALIASES: Final[list[Mapping[str, Any]]] = [
    {}, {}, {}, {"alias": "firstName"}, {"validation_alias": "vA"}, {"serialization_alias": "sA"},
    {"validation_alias": "x", "serialization_alias": "x"}, {"alias": "x", "serialization_alias": "y"},
    {"validation_alias": AliasChoices("a", "b"), "serialization_alias": "b"},
    {"validation_alias": AliasPath("a", 0), "serialization_alias": "a"}, {"exclude": True},
]  # fmt: skip

CONFIGS: Final[list[ConfigDict]] = [
    {}, {}, {"extra": "forbid"}, {"frozen": True}, {"strict": True}, {"validate_by_name": True},
    {"validate_by_alias": False, "validate_by_name": True}, {"ser_json_bytes": "base64"},
    {"ser_json_bytes": "base64", "val_json_bytes": "base64"}, {"ser_json_bytes": "hex", "val_json_bytes": "hex"},
    {"ser_json_inf_nan": "strings"}, {"ser_json_inf_nan": "constants"}, {"ser_json_timedelta": "float"},
    {"ser_json_temporal": "milliseconds"}, {"use_enum_values": True}, {"str_to_upper": True},
    {"alias_generator": str.upper}, {"serialize_by_alias": False},
]  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> tuple[type[BaseModel], dict[str, Any]]:
    """A model of one to three fields, and values for them by name. Two may claim one alias."""
    kinds, values = {}, {}
    for name in ("one", "two", "three")[: draw(st.integers(1, 3))]:
        annotation, inner = draw(fields)
        kinds[name] = (annotation, Field(**draw(st.sampled_from(ALIASES))))
        values[name] = draw(inner)
    made: type[BaseModel] = create_model("Made", __config__=draw(st.sampled_from(CONFIGS)), **kinds)  # type: ignore[call-overload]
    return made, values
