"""Whether a model holds values of exactly the types that it declares, nested ones included.

pydantic's serializer can tell it as well, and takes longer to be asked than to write. What is not of exactly its type
may still be written and read as it is: then the serializer is asked. It is asked at once of models that hold long lists
of models, through which it is faster, unless they hold times: it does not look at offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from math import inf
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import BaseModel

from sagabus.contracts.round_trip.check import doubts_of
from sagabus.contracts.round_trip.findings import Schema

Check = Callable[[Any], bool]

SHORT: Final = 5
"""Items of a list that are looked through in the time in which the serializer is asked."""


@cache
def exactness_of(model: type[BaseModel]) -> Check:
    """The check of its instances. Where it says no, nothing is known.

    An instance that passes is of no subclass in any of its places, lacks no field, and its offsets from UTC are whole
    minutes.
    """
    schema: Any = model.__pydantic_core_schema__
    doubts = doubts_of(model)
    forms = _Forms(with_times=doubts is not None and doubts.offsets)
    form = forms.form(schema) if isinstance(schema, dict) else None
    return _unknown if form is None or form.inside is None else form.inside


def _unknown(value: object) -> bool:
    return False


class _Form(NamedTuple):
    """What one value has to be. inside: looks at what it holds; None if it holds nothing."""

    types: frozenset[type[Any]]
    inside: Check | None = None


class _Forms:
    """Of the nodes of one core schema. with_times: they hold times, so that lists of any length are looked into."""

    def __init__(self, *, with_times: bool) -> None:
        self._with_times = with_times
        self._definitions: dict[str, Schema] = {}

    def form(self, node: Schema) -> _Form | None:
        """None where the types do not say whether a value is one of this node."""
        if node.get("serialization", {}).get("type", "none") not in ("none", "any"):
            return None
        if (leaf := _LEAVES.get(node["type"])) is not None:
            return leaf
        make = _MAKERS.get(node["type"])
        return None if make is None else make(self, node)

    def _default(self, node: Schema) -> _Form | None:
        return self.form(node["schema"])

    def _nullable(self, node: Schema) -> _Form | None:
        form = self.form(node["schema"])
        if form is None:
            return None
        inside = form.inside
        return _Form(form.types | {type(None)}, inside and (lambda value: value is None or inside(value)))

    def _enum(self, node: Schema) -> _Form:
        return _Form(frozenset((node["cls"],)))

    def _list(self, node: Schema) -> _Form | None:
        form = self.form(node["items_schema"]) if "items_schema" in node else None
        if form is None:
            return None
        return _Form(frozenset((list,)), _of_items(*form, most=inf if self._with_times else SHORT))

    def _model(self, node: Schema) -> _Form | None:
        inner = node["schema"]
        takes_more = inner.get("extra_behavior", node.get("config", {}).get("extra_fields_behavior")) == "allow"
        if node.get("root_model") or inner["type"] != "model-fields" or takes_more:
            return None
        forms = {name: self.form(field["schema"]) for name, field in inner["fields"].items()}
        known = {name: form for name, form in forms.items() if form is not None}
        return _Form(frozenset((node["cls"],)), _of_fields(known)) if len(known) == len(forms) else None

    def _define(self, node: Schema) -> _Form | None:
        self._definitions.update({one["ref"]: one for one in node["definitions"]})
        return self.form(node["schema"])

    def _refer(self, node: Schema) -> _Form | None:
        """Of a model that holds itself nothing is known: while it is looked at, it is not to be found."""
        target = self._definitions.pop(node["schema_ref"], None)
        if target is None:
            return None
        form = self.form(target)
        self._definitions[node["schema_ref"]] = target
        return form


def _of_items(types: frozenset[type[Any]], inside: Check | None, most: float) -> Check:
    def check(items: list[Any]) -> bool:
        if not types.issuperset(map(type, items)):
            return False
        return inside is None or (len(items) <= most and all(map(inside, items)))

    return check


def _of_fields(forms: Mapping[str, _Form]) -> Check:
    """A plain loop: `map`, `tuple` and `==` take three times as long for the few fields of a model."""
    count = len(forms)
    leaves = tuple((name, form.types) for name, form in forms.items() if form.inside is None)
    others = tuple((name, form.types, form.inside) for name, form in forms.items() if form.inside is not None)

    def check(model: BaseModel) -> bool:
        held = model.__dict__
        if len(held) != count:
            return False
        try:
            for name, types in leaves:
                if type(held[name]) not in types:
                    return False
            for name, types, inside in others:
                value = held[name]
                if type(value) not in types or not inside(value):
                    return False
        except KeyError:  # one is missing, and something else stands in its place
            return False
        return True

    return check


def _is_in_whole_minutes(moment: datetime | time) -> bool:
    if moment.tzinfo is None or moment.tzinfo is UTC:
        return True
    offset = moment.utcoffset()
    return offset is None or not offset % timedelta(minutes=1)


_TYPES: Final[Mapping[str, type[Any]]] = {
    "str": str, "int": int, "bool": bool, "float": float, "bytes": bytes, "decimal": Decimal, "uuid": UUID,
    "date": date, "timedelta": timedelta, "none": type(None),
}  # fmt: skip

_LEAVES: Final[Mapping[str, _Form]] = {
    **{kind: _Form(frozenset((only,))) for kind, only in _TYPES.items()},
    "datetime": _Form(frozenset((datetime,)), _is_in_whole_minutes),
    "time": _Form(frozenset((time,)), _is_in_whole_minutes),
}

_MAKERS: Final[Mapping[str, Callable[[_Forms, Schema], _Form | None]]] = {
    "default": _Forms._default, "nullable": _Forms._nullable, "enum": _Forms._enum, "list": _Forms._list,
    "model": _Forms._model, "definitions": _Forms._define, "definition-ref": _Forms._refer,
}  # fmt: skip
