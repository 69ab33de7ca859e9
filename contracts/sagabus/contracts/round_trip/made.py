"""Whether a model that was validated when it was made is still as it was made: then its rules need no second look.

Rules are passed by when somebody assigns to a field, and by `model_construct`. Whoever makes a model by calling its
class remembers its values; the same objects there are still valid, where none of them can change in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from operator import is_
from typing import Any, Final

from pydantic import BaseModel

from sagabus.contracts.round_trip.findings import Schema

Values = tuple[Any, ...]

_UNCHANGING: Final = frozenset(("str", "int", "bool", "float", "bytes", "decimal", "uuid", "date", "enum", "literal"))
_WRAPPERS: Final = frozenset(("default", "nullable"))
_COMPUTING: Final = frozenset(("default_factory", "serialization", "allow_inf_nan"))
"""Of a node: a default that a function makes is not validated; of a Decimal that may be no number a NaN that signals is
written, and not read."""


def made(model: BaseModel) -> Values | None:
    """The values of a model that has just been made by calling its class; None where they would say nothing."""
    return tuple(model.__dict__.values()) if _is_plain(type(model)) else None


def is_as_made(model: BaseModel, values: Values) -> bool:
    """Whether it holds the very same objects."""
    held = model.__dict__.values()
    return len(held) == len(values) and all(map(is_, held, values))


@cache
def _is_plain(model: type[BaseModel]) -> bool:
    """Nothing of its author's runs when it is made, and what its fields hold cannot change in place."""
    schema: Any = model.__pydantic_core_schema__
    if not isinstance(schema, Mapping) or schema["type"] != "model":
        return False
    inner = schema["schema"]
    computes = any(schema.get(key) for key in ("post_init", "custom_init", "root_model", "serialization"))
    plain = inner["type"] == "model-fields" and inner.get("extra_behavior") != "allow" and not computes
    takes_more = schema.get("config", {}).get("extra_fields_behavior") == "allow"
    return plain and not takes_more and all(_is_unchanging(field["schema"]) for field in inner["fields"].values())


def _is_unchanging(node: Schema) -> bool:
    if any(node.get(key) for key in _COMPUTING):
        return False
    if node["type"] in _WRAPPERS:
        return _is_unchanging(node["schema"])
    return node["type"] in _UNCHANGING
