"""A model's core schema, walked once: what is exact, what is lost for sure, and what only its values can tell.

The schema is pydantic-core's own description of how a model is read and written. A kind of node that is not known here
leaves the strongest doubt: then each value is read back when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sagabus.contracts.round_trip.findings import Doubts, Schema, Spot, Unfaithful
from sagabus.contracts.round_trip.keys import check_keys
from sagabus.contracts.round_trip.shapes import are_apart

_EXACT: Final = frozenset({"none", "bool", "uuid", "missing-sentinel", "complex", "fraction"})

_NO_JSON: Final = {
    "callable": "a callable",
    "is-subclass": "a class",
    "generator": "a generator: it can be read once only",
    "ellipsis": "an ellipsis",
}

_LIMITS: Final = frozenset({
    "decimal_places", "ge", "gt", "le", "lt", "max_digits", "max_length", "microseconds_precision", "min_length",
    "multiple_of", "now_op", "pattern", "tz_constraint", "version",
})  # fmt: skip
_CHANGES: Final = frozenset({"strip_whitespace", "to_lower", "to_upper"})

_DEFAULT_PRECISION: Final = {"microseconds_precision": "truncate"}


class Inspection:
    """One walk over a model. Raises Unfaithful."""

    def __init__(self, schema: Schema) -> None:
        self.doubts = Doubts()
        self.definitions: dict[str, Schema] = {}
        self.places: list[Spot] = []
        """The fields and models of which samples are to be tried, the innermost first."""
        self._tried = False
        self._model_of_fields: type[Any] | None = None
        self._seen: set[str] = set()
        self._walk(schema, "", {})

    def _walk(self, node: Schema, path: str, config: Schema) -> None:
        kind: str = node["type"]
        written = node.get("serialization")
        if written is not None and written["type"] not in ("none", "any"):
            self._unsure()
        self._rules(node, kind)
        if kind in _NO_JSON:
            raise Unfaithful(path, f"{_NO_JSON[kind]} has no form in JSON", "send a value that names it")
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, node, path, config)
        elif kind not in _EXACT:
            self._unsure()
            self._inside(node, path, config)

    def _unsure(self) -> None:
        """The schema does not say what comes back."""
        self.doubts.compare = True
        self._tried = True

    def _rules(self, node: Schema, kind: str) -> None:
        if any(node.get(rule) for rule in _CHANGES):
            self._unsure()
        elif any(node.get(rule) not in (None, False, _DEFAULT_PRECISION.get(rule)) for rule in _LIMITS if rule in node):
            self.doubts.read = True

    def _inside(self, node: Schema, path: str, config: Schema) -> None:
        for key in ("schema", "items_schema", "keys_schema", "values_schema", "json_schema"):
            if isinstance(inner := node.get(key), Mapping):
                self._walk(inner, path, config)

    # Scalars.

    def _any(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()

    def _int(self, node: Schema, path: str, config: Schema) -> None:
        if not (_bounded(node, "ge", "gt") and _bounded(node, "le", "lt")):
            self.doubts.numbers = True

    def _values(self, node: Schema, path: str, config: Schema) -> None:
        """Each of them is tried."""
        self._tried = True

    def _default(self, node: Schema, path: str, config: Schema) -> None:
        if "default" in node and not _fits(node["schema"], node["default"]):
            self._tried = True
        self._walk(node["schema"], path, config)

    def _float(self, node: Schema, path: str, config: Schema) -> None:
        mode = config.get("ser_json_inf_nan", "null")
        finite = node.get("allow_inf_nan", config.get("allow_inf_nan", True)) is False
        if mode == "constants" and not finite:
            raise Unfaithful(
                path, 'ser_json_inf_nan="constants" writes Infinity and NaN, which are no JSON',
                'say ser_json_inf_nan="strings", or Field(allow_inf_nan=False)',
            )  # fmt: skip
        if mode == "strings":
            self.doubts.read |= finite
        else:
            self.doubts.nulls = True

    def _decimal(self, node: Schema, path: str, config: Schema) -> None:
        if node.get("allow_inf_nan", config.get("allow_inf_nan", False)):
            self.doubts.read = True  # a signalling NaN
        else:
            self.doubts.constants = True

    def _str(self, node: Schema, path: str, config: Schema) -> None:
        if any(config.get(f"str_{rule}") for rule in _CHANGES):
            self._unsure()
        elif config.get("str_max_length") is not None or config.get("str_min_length"):
            self.doubts.read = True

    def _bytes(self, node: Schema, path: str, config: Schema) -> None:
        written, read = config.get("ser_json_bytes", "utf8"), config.get("val_json_bytes", "utf8")
        if written != read:
            raise Unfaithful(
                path, f'bytes are written as {written} (ser_json_bytes) and read as {read} (val_json_bytes)',
                f'say ConfigDict(ser_json_bytes="{_better(written, read)}", val_json_bytes="{_better(written, read)}")',
            )  # fmt: skip

    def _moment(self, node: Schema, path: str, config: Schema) -> None:
        if node.get("now_op") == "future":
            raise Unfaithful(
                path, "what lies in the future today is refused when it is read again tomorrow",
                "take datetime or date, and check it where it is made",
            )  # fmt: skip
        self.doubts.offsets |= node["type"] != "date"
        if config.get("ser_json_temporal", "iso8601") != "iso8601":
            self._unsure()

    def _timedelta(self, node: Schema, path: str, config: Schema) -> None:
        as_text = (config.get("ser_json_timedelta", "iso8601"), config.get("ser_json_temporal", "iso8601"))
        if as_text != ("iso8601", "iso8601"):
            self._unsure()

    def _url(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()

    def _instance(self, node: Schema, path: str, config: Schema) -> None:
        name = getattr(node["cls"], "__name__", str(node["cls"]))
        raise Unfaithful(
            path, f"{name} cannot be made from JSON", "use a model, or give it __get_pydantic_core_schema__"
        )

    # What holds others.

    def _items(self, node: Schema, path: str, config: Schema) -> None:
        inner = node.get("items_schema")
        if isinstance(inner, Mapping):
            self._walk(inner, path, config)
        elif inner is None:
            self._unsure()
        else:
            for one in inner:
                self._walk(one, path, config)

    def _dict(self, node: Schema, path: str, config: Schema) -> None:
        keys, values = node.get("keys_schema"), node.get("values_schema")
        if keys is None or values is None or keys["type"] != "str":
            self._unsure()
        for inner in (keys, values):
            if inner is not None:
                self._walk(inner, path, config)

    def _union(self, node: Schema, path: str, config: Schema) -> None:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in node["choices"]]
        if node.get("mode", "smart") != "smart" or not are_apart(choices, self.definitions):
            self._unsure()
        for choice in choices:
            self._walk(choice, path, config)

    def _tagged(self, node: Schema, path: str, config: Schema) -> None:
        choices = list(node["choices"].values())
        if not isinstance(node["discriminator"], str) and not are_apart(choices, self.definitions):
            self._unsure()
        for choice in choices:
            self._walk(choice, path, config)

    def _lax_or_strict(self, node: Schema, path: str, config: Schema) -> None:
        strict = node.get("strict", config.get("strict", False))
        self._walk(node["strict_schema" if strict else "lax_schema"], path, config)

    def _json_or_python(self, node: Schema, path: str, config: Schema) -> None:
        """JSON is what is read; what was made in Python is what is written."""
        if node["json_schema"]["type"] == "any":  # as of JsonValue, whose other half says what it holds
            self._walk(node["python_schema"], path, config)
        else:
            self._walk(node["json_schema"], path, config)

    def _definitions(self, node: Schema, path: str, config: Schema) -> None:
        self.definitions.update({one["ref"]: one for one in node["definitions"]})
        self._walk(node["schema"], path, config)

    def _reference(self, node: Schema, path: str, config: Schema) -> None:
        target = self.definitions.get(node["schema_ref"])
        if target is None:
            return  # of what is being walked
        if node["schema_ref"] not in self._seen:
            self._seen.add(node["schema_ref"])
            self._walk(target, path, config)

    def _function(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()
        inner = node.get("schema")
        if inner is not None and not (node["type"] in _MAY_CONVERT and inner["type"] == "is-instance"):
            self._walk(inner, path, config)

    def _chain(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()
        for step in node["steps"]:
            self._walk(step, path, config)

    # Models.

    def _model(self, node: Schema, path: str, config: Schema) -> None:
        own = node.get("config", {})
        model = node["cls"]
        here = path or model.__name__
        if hidden := list(getattr(model, "__private_attributes__", ())):
            raise Unfaithful(
                f"{here}.{hidden[0]}", "a private attribute does not travel",
                "make it a field, or a functools.cached_property",
            )  # fmt: skip
        if path:
            self.doubts.models.append(model)
        self._walk_model(node, here, own)

    def _walk_model(self, node: Schema, path: str, config: Schema) -> None:
        outside = self._tried, self._model_of_fields
        self._tried, self._model_of_fields = False, node["cls"]
        if node.get("custom_init") or node.get("post_init") or _has_functions(node["cls"]):
            self._unsure()
        self._walk(node["schema"], path, config)
        if self._tried:
            self.places.append(Spot(path, node, config, node["cls"]))
        self._tried, self._model_of_fields = outside

    def _fields(self, node: Schema, path: str, config: Schema) -> None:
        if node.get("extra_behavior", config.get("extra_fields_behavior")) == "allow":
            self._unsure()
        check_keys(node["fields"], path, config)
        for name, field in node["fields"].items():
            self._field(name, field, f"{path}.{name}", config)

    def _field(self, name: str, field: Schema, path: str, config: Schema) -> None:
        if field.get("serialization_exclude"):
            raise Unfaithful(path, "Field(exclude=True): it is not written", "remove the exclusion")
        model, outside = self._model_of_fields, self._tried
        self._tried = False
        if field.get("serialization_exclude_if"):
            self._unsure()
        self._walk(field["schema"], path, config)
        if self._tried and model is not None:
            self.places.append(Spot(path, field, config, model, name))
        self._tried |= outside

    def _arguments(self, node: Schema, path: str, config: Schema) -> None:
        """Of a dataclass."""
        fields = {field["name"]: field for field in node["fields"]}
        check_keys(fields, path, config)
        for name, field in fields.items():
            self._field(name, field, f"{path}.{name}", config)

    def _dataclass(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()
        model, self._model_of_fields = self._model_of_fields, None
        self._walk(node["schema"], path or node["cls"].__name__, node.get("config", config))
        self._model_of_fields = model

    def _typed_dict(self, node: Schema, path: str, config: Schema) -> None:
        self._unsure()
        model, self._model_of_fields = self._model_of_fields, None
        self._fields(node, path, node.get("config", config))
        self._model_of_fields = model


def _bounded(node: Schema, *rules: str) -> bool:
    return any(node.get(rule) is not None for rule in rules)


def _has_functions(model: type[Any]) -> bool:
    """Of its author, about the model as a whole."""
    found = model.__pydantic_decorators__
    return bool(found.model_validators or found.model_serializers or found.root_validators)


_PLAIN: Final[Mapping[str, type[Any]]] = {"str": str, "int": int, "bool": bool, "float": float}


def _fits(node: Schema, default: object) -> bool:
    """Whether it is plain that this default is a value of its field, which pydantic does not look at."""
    if node["type"] == "nullable":
        return default is None or _fits(node["schema"], default)
    if node["type"] in ("list", "dict"):
        return not default and type(default).__name__ == node["type"]
    return type(default) is _PLAIN.get(node["type"]) and node.keys() <= {"type", "metadata"}


def _better(written: str, read: str) -> str:
    return read if written == "utf8" else written


_MAY_CONVERT: Final = ("function-before", "function-wrap")
"""Functions that may make an instance from JSON before the check of its class."""

Handler = Callable[[Inspection, Schema, str, Schema], None]

_HANDLERS: Final[Mapping[str, Handler]] = {
    "any": Inspection._any, "int": Inspection._int, "float": Inspection._float, "decimal": Inspection._decimal,
    "str": Inspection._str, "bytes": Inspection._bytes, "datetime": Inspection._moment, "date": Inspection._moment,
    "time": Inspection._moment, "timedelta": Inspection._timedelta, "url": Inspection._url,
    "multi-host-url": Inspection._url, "is-instance": Inspection._instance,
    "literal": Inspection._values, "enum": Inspection._values,
    "list": Inspection._items, "tuple": Inspection._items, "set": Inspection._items,
    "frozenset": Inspection._items, "deque": Inspection._items,
    "dict": Inspection._dict, "frozendict": Inspection._dict, "ordered-dict": Inspection._dict,
    "counter": Inspection._dict,
    "nullable": Inspection._inside, "default": Inspection._default, "custom-error": Inspection._inside,
    "union": Inspection._union, "tagged-union": Inspection._tagged,
    "lax-or-strict": Inspection._lax_or_strict, "json-or-python": Inspection._json_or_python,
    "definitions": Inspection._definitions, "definition-ref": Inspection._reference,
    "function-after": Inspection._function, "function-before": Inspection._function,
    "function-wrap": Inspection._function, "function-plain": Inspection._function, "chain": Inspection._chain,
    "model": Inspection._model, "model-fields": Inspection._fields,
    "dataclass": Inspection._dataclass, "dataclass-args": Inspection._arguments,
    "typed-dict": Inspection._typed_dict,
}  # fmt: skip
"""By the kind of a node. A literal's and an enum's values are all tried (`samples`)."""
