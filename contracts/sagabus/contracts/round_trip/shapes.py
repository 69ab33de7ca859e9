"""The forms in JSON that a value may have: they say which choice of a union has written it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sagabus.contracts.round_trip.findings import Schema

_ANYTHING: Final = frozenset({"null", "bool", "int", "float", "str", "array", "object"})
_SHAPES: Final = {
    **{kind: frozenset({"str"}) for kind in ("str", "bytes", "uuid", "date", "time", "datetime", "decimal")},
    **{kind: frozenset({"array"}) for kind in ("list", "tuple", "set", "frozenset", "deque")},
    **{kind: frozenset({"object"}) for kind in ("dict", "model", "typed-dict", "dataclass")},
    "none": frozenset({"null"}), "bool": frozenset({"bool"}), "int": frozenset({"int"}), "float": frozenset({"float"}),
}  # fmt: skip


def shape_of(node: Schema, definitions: Mapping[str, Schema]) -> frozenset[str]:
    """The forms in JSON that a value of this node may have."""
    kind = node["type"]
    if kind in ("default", "nullable"):
        inner = shape_of(node["schema"], definitions)
        return inner | {"null"} if kind == "nullable" else inner
    if "serialization" in node:
        return _ANYTHING
    if kind == "definition-ref":
        kind = definitions.get(node["schema_ref"], {}).get("type", "")
    if node.get("root_model"):
        return shape_of(node["schema"], definitions)
    return _SHAPES.get(kind, _ANYTHING)


def are_apart(choices: Iterable[Schema], definitions: Mapping[str, Schema]) -> bool:
    """Whether no two choices share a form: then the form says whose value it is."""
    met: set[str] = set()
    for choice in choices:
        shape = shape_of(choice, definitions)
        if met & shape:
            return False
        met |= shape
    return True
