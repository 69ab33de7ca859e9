"""A few values for a place in a model, to send them through pydantic as the wire would.

They need not be all that a field can hold: they show what the schema cannot, such as a type whose own functions write
something else than they read, or a member of a union that another member reads first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

from pydantic_core import SchemaSerializer, SchemaValidator, ValidationError

from sagabus.contracts.round_trip.findings import Schema, Spot, Unfaithful
from sagabus.contracts.round_trip.inspection import Inspection
from sagabus.contracts.round_trip.same import difference

MOST: Final = 40
"""Values for one place: enums and literals may have many."""

DEEPEST: Final = 6
"""Models within models; one that holds itself has no end."""

_NOON: Final = datetime(2024, 5, 17, 12, 30, 15, 250)  # noqa: DTZ001
_ID: Final = UUID("8f14e45f-ceea-467f-a0e6-1b5a2c3d4e5f")

_SCALARS: Final[Mapping[str, tuple[Any, ...]]] = {
    "none": (None,), "bool": (True,), "int": (7,), "float": (1.5,), "decimal": (Decimal("12.50"),),
    "str": ("text", str(_ID), "12.50", "2024-05-17", "P1D"), "bytes": (b"text",), "date": (_NOON.date(),),
    "time": (_NOON.time(), _NOON.time().replace(tzinfo=UTC)), "datetime": (_NOON, _NOON.replace(tzinfo=UTC)),
    "timedelta": (timedelta(days=1, seconds=2, microseconds=3),), "uuid": (_ID,),
    "any": ("text",), "url": ("https://example.org/a?b=c",), "complex": (1 + 2j,),
}  # fmt: skip

_COLLECTIONS: Final[Mapping[str, Any]] = {"list": list, "set": set, "frozenset": frozenset, "deque": deque}

_ANYTHING: Final[tuple[Any, ...]] = (
    "text", b"text", 7, 1.5, True, Decimal("12.50"), _ID, _NOON, _NOON.replace(tzinfo=UTC), _NOON.date(), time(12, 30),
    timedelta(days=1), [7], (7,), ["text"], ("text",), {7}, {"text": 7}, {"text": "text"}, "7", "2024-05-17",
    date(2024, 5, 17), "https://example.org/a", "postgresql://user@example.org/a", "127.0.0.1", "::1", "10.0.0.0/8",
    "user@example.org", '{"text":7}', "#ffffff", str(_ID), "4111111111111111",
)  # fmt: skip
"""For types whose own functions say what they take."""


def try_all(inspection: Inspection) -> None:
    """Raises Unfaithful for the first value that does not come back."""
    samples = _Samples(inspection.definitions)
    for place in inspection.places:
        _try(place, samples)


def _try(place: Spot, samples: _Samples) -> None:
    alone = _Alone(place, samples)
    schema = place.schema["schema"] if place.field else place.schema
    for sample in islice(samples.of(schema), MOST):
        try:
            value = alone.made(sample)
        except Exception:  # not a value of this place, by a rule or a validator of its author
            continue
        alone.send(value)
    if schema["type"] == "default" and "default" in schema:
        alone.send(_holding(place.field, schema["default"]))


class _Stranger:
    """In place of the model: pydantic takes a model's own validator for it, whatever schema it is given."""


def _holding(field: str, value: Any) -> _Stranger:
    """With this field and no other, past all validators, which do not see a default either."""
    made = _Stranger()
    made.__dict__ = {field: value}
    made.__pydantic_fields_set__ = {field}  # type: ignore[attr-defined]
    return made


class _Alone:
    """A field as if its model had no other, or a whole model."""

    def __init__(self, place: Spot, samples: _Samples) -> None:
        self._place = place
        schema: Any = place.schema
        if place.field:  # within a model, since a serializer of an author is given one
            fields = {"type": "model-fields", "fields": {place.field: place.schema}}
            schema = {"type": "model", "cls": _Stranger, "schema": fields, "config": place.config}
        self._validator, self._serializer = samples.built(schema, place.config)

    def made(self, sample: Any) -> Any:
        """Raises ValidationError, and whatever a validator of its author raises."""
        given = {self._place.field: sample} if self._place.field else sample
        return self._validator.validate_python(given, by_alias=False, by_name=True)

    def send(self, value: Any) -> None:
        """Raises Unfaithful."""
        try:
            data = self._serializer.to_json(value, by_alias=True, round_trip=True, warnings=False)
        except Exception as error:
            if self._needs_others():
                return
            raise self._unfaithful(value, f"cannot be written as JSON ({_why(error)})") from error
        text = data[:LONGEST_SHOWN].decode(errors="replace")
        try:
            read = self._validator.validate_json(data)
        except Exception as error:
            raise self._unfaithful(value, f"is written as {text}, which it does not read ({_why(error)})") from error
        one, other = self._own(value), self._own(read)
        if difference(one, other):
            cure = _CURES.get((type(one).__name__, type(other).__name__), _CURE)
            raise self._unfaithful(value, f"is written as {text} and read back as {_shown(other)}", cure)

    def _needs_others(self) -> bool:
        """A serializer of the model's author may look at other fields: the whole model is tried afterwards."""
        return bool(self._place.field) and "is_field_serializer" in repr(self._place.schema)

    def _own(self, value: Any) -> Any:
        return value.__dict__[self._place.field] if self._place.field else value

    def _unfaithful(self, value: Any, reason: str, cure: str | None = None) -> Unfaithful:
        return Unfaithful(self._place.path, f"{_shown(self._own(value))} {reason}", cure or _CURE)


_CURE: Final = "take a type that reads what it writes"
_CURES: Final = {
    ("SecretStr", "SecretStr"): "send a reference to the secret, or a str",
    ("SecretBytes", "SecretBytes"): "send a reference to the secret, or bytes",
    ("tuple", "list"): "take list[...] or tuple[..., ...]",
}
"""By the types of what was written and what was read."""


LONGEST_SHOWN: Final = 60
"""Characters of a value, in the sentence that tells of it."""


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + '…'}"


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"])
    return f"{type(error).__name__}: {str(error)[:200]}"


class _Samples:
    """What a place may hold, a few of each kind, not validated yet."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def built(self, schema: Schema, config: Schema) -> tuple[SchemaValidator, SchemaSerializer]:
        """What reads and writes this alone."""
        whole: Any = schema
        if self._definitions:
            whole = {"type": "definitions", "schema": schema, "definitions": list(self._definitions.values())}
        options: Any = dict(config)
        return SchemaValidator(whole, options), SchemaSerializer(whole, options)

    def of(self, node: Schema, depth: int = 0) -> Iterator[Any]:
        if depth > DEEPEST:
            return
        kind = node["type"]
        if kind in _SCALARS:
            yield from _SCALARS[kind]
        elif kind == "literal":
            yield from node["expected"]
        elif kind == "enum":
            yield from node["members"]
        elif kind in ("model", "dataclass", "typed-dict"):
            yield from self._models(node, depth)
        else:
            yield from self._holders(node, depth)

    def _holders(self, node: Schema, depth: int) -> Iterator[Any]:
        match node["type"]:
            case "nullable":
                yield None
                yield from self.of(node["schema"], depth)
            case "default":
                yield from self.of(node["schema"], depth)
            case "union" | "tagged-union":
                yield from self._unions(node, depth)
            case "list" | "set" | "frozenset" | "deque" as kind:
                inner = node.get("items_schema") or {"type": "any"}
                yield from (_COLLECTIONS[kind]([item]) for item in self.of(inner, depth + 1) if _hashable(item, kind))
            case "tuple":
                yield tuple(next(self.of(one, depth + 1), None) for one in node["items_schema"])
            case "dict":
                yield from self._dicts(node, depth)
            case "definition-ref":
                yield from self.of(self._definitions.get(node["schema_ref"], {"type": "none"}), depth + 1)
            case _:
                yield from self._functions(node, depth)

    def _unions(self, node: Schema, depth: int) -> Iterator[Any]:
        choices = node["choices"].values() if isinstance(node["choices"], Mapping) else node["choices"]
        for choice in choices:
            yield from self.of(choice[0] if isinstance(choice, tuple) else choice, depth)

    def _dicts(self, node: Schema, depth: int) -> Iterator[Any]:
        keys = node.get("keys_schema") or {"type": "str"}
        value = next(self.of(node.get("values_schema") or {"type": "any"}, depth + 1), None)
        hashable = [key for key in islice(self.of(keys, depth + 1), MOST) if _hashable(key, "set")]
        yield from ({key: value} for key in hashable)
        yield dict.fromkeys(hashable, value)

    def _models(self, node: Schema, depth: int) -> Iterator[Any]:
        """One with the first value of each field that its model takes."""
        fields = node if "fields" in node else node["schema"]
        while "fields" not in fields and "schema" in fields:
            fields = fields["schema"]
        if node.get("root_model"):
            yield from self.of(fields, depth)
        elif "fields" in fields:
            named = fields["fields"]
            pairs = named.items() if isinstance(named, Mapping) else ((field["name"], field) for field in named)
            values = {name: next(self._taken(field["schema"], depth), None) for name, field in pairs}
            yield from self._made(node, values)

    def _made(self, node: Schema, values: dict[str, Any]) -> Iterator[Any]:
        if node["type"] == "model":
            with suppress(Exception):  # a rule that none of the samples keeps
                yield node["cls"].__pydantic_validator__.validate_python(values, by_alias=False, by_name=True)
        else:
            yield values

    def _taken(self, node: Schema, depth: int) -> Iterator[Any]:
        validator, _ = self.built(node, {})
        for sample in self.of(node, depth + 1):
            try:
                validator.validate_python(sample, by_alias=False, by_name=True)
            except Exception:
                continue
            yield sample

    def _functions(self, node: Schema, depth: int) -> Iterator[Any]:
        inner = node.get("schema")
        if isinstance(inner, Mapping):
            yield from self.of(inner, depth)
        yield from _ANYTHING


def _hashable(value: Any, kind: str) -> bool:
    """Whether such a collection can hold it."""
    if kind not in ("set", "frozenset"):
        return True
    try:
        hash(value)
    except TypeError:
        return False
    return True
