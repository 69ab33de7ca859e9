"""A model's rules without the model: a check of JSON that the model itself has just written.

Reading a model back makes objects that nobody wants, and a Decimal with limits costs more than all the rest of them.
Here a model is a plain dict, and the text of a Decimal is held against a pattern. Whatever this takes, the model takes.
What it refuses the model may still take, such as a Decimal in an unusual form: then the model is to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import SchemaValidator

Schema = Mapping[str, Any]

MOST_DIGITS: Final = 30
"""Before and after the point of a Decimal without limits, as far as a pattern goes."""

USUAL_PLACES: Final = 2
"""After the point, where only the number of all digits is limited."""


@cache
def rules_of(model: type[BaseModel]) -> SchemaValidator:
    """Of a model that has no function of its author's: those of others are read back and compared anyhow."""
    schema: Any = _plain(model.__pydantic_core_schema__)
    return SchemaValidator(schema)


def _plain(node: Schema) -> Schema:
    """The same rules, or stricter ones. Of a kind of node that is not known here: itself."""
    simpler = _SIMPLER.get(node["type"])
    return node if simpler is None else simpler(node)


def _inside(key: str) -> Callable[[Schema], Schema]:
    return lambda node: {**node, key: _plain(node[key])} if isinstance(node.get(key), Mapping) else node


def _model(node: Schema) -> Schema:
    inner = node["schema"]
    if node.get("root_model") or inner["type"] != "model-fields":
        return node
    fields = {name: _field(field) for name, field in inner["fields"].items()}
    plain = {"type": "typed-dict", "config": node.get("config", {}), "fields": fields}
    return plain | _kept(node, "ref") | _kept(inner, "extra_behavior")


def _field(field: Schema) -> Schema:
    """All are written, those with a default too."""
    plain = {"type": "typed-dict-field", "required": True, "schema": _plain(field["schema"])}
    return plain | _kept(field, "validation_alias")


def _kept(node: Schema, key: str) -> dict[str, Any]:
    return {key: node[key]} if key in node else {}


def _definitions(node: Schema) -> Schema:
    return {**node, "schema": _plain(node["schema"]), "definitions": [_plain(one) for one in node["definitions"]]}


def _decimal(node: Schema) -> Schema:
    pattern = _pattern(node)
    return node if pattern is None else {"type": "str", "pattern": pattern}


def _pattern(node: Schema) -> str | None:
    """Usual texts of what this takes, zero left out; None if its limits are not the usual ones."""
    if node.keys() - {"type", "metadata", "gt", "ge", "max_digits", "decimal_places"}:
        return None
    lower = [node[key] for key in ("gt", "ge") if node.get(key) is not None]
    if any(limit > 0 for limit in lower):
        return None
    digits, places = node.get("max_digits"), node.get("decimal_places")
    if places is None:
        places = MOST_DIGITS if digits is None else USUAL_PLACES
    whole = MOST_DIGITS if digits is None else digits - places
    if whole < 1:
        return None
    sign = "" if lower else "-?"
    below_one = [f"0{{{zeros}}}[1-9][0-9]{{0,{places - zeros - 1}}}" for zeros in range(min(places, USUAL_PLACES))]
    forms = [f"[1-9][0-9]{{0,{whole - 1}}}" + (f"(?:\\.[0-9]{{1,{places}}})?" if places else "")]
    forms += [f"0\\.(?:{'|'.join(below_one)})"] if below_one else []
    return f"^{sign}(?:{'|'.join(forms)})$"


_SIMPLER: Final[Mapping[str, Callable[[Schema], Schema]]] = {
    "model": _model, "definitions": _definitions, "decimal": _decimal,
    "default": lambda node: _plain(node["schema"]),
    "nullable": _inside("schema"), "list": _inside("items_schema"), "dict": _inside("values_schema"),
}  # fmt: skip
