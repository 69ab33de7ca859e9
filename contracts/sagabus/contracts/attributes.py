"""Attributes of a running saga: a few scalars, declared as a model, by which sagas are listed and searched.

They are for people and their lists. Nothing is decided by them, and no participant gets them.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined, to_json

from sagabus.contracts import codec
from sagabus.contracts.activity import model_type
from sagabus.contracts.errors import DeclarationError, MessageInvalid
from sagabus.contracts.words import words_of

Scalar = str | int | float | bool | datetime | Enum | None
"""What an attribute may be."""

MAX_ATTRIBUTES: Final = 32
"""Of one saga."""

MAX_ATTRIBUTES_BYTES: Final = 8 * 1024
"""Of all attributes of one saga as JSON. They are written with its row, and stand in each line of a list."""

_SCALARS: Final = (str, int, float, bool, datetime, NoneType)
_ALLOWED: Final = "str, int, float, bool, datetime, None, a Literal or an Enum of these"
_INSTEAD: Final = {
    "Decimal": "one number has several spellings as text (1.5, 1.50), so a search would miss it: give an int of the "
    "smallest unit, such as cents, or a float",
}


def attributes_type(model: object, what: str) -> type[BaseModel]:
    """The model itself, if sagas can have such attributes. what: for the sentence. Raises DeclarationError."""
    kind: type[BaseModel] = model_type(model, f"the attributes of {what}")
    name, fields = kind.__name__, kind.model_fields
    if len(fields) > MAX_ATTRIBUTES:
        raise DeclarationError(f"{what}: {name} has {len(fields)} attributes; the limit is {MAX_ATTRIBUTES}")
    for field, info in fields.items():
        if info.is_required():
            raise DeclarationError(
                f"{what}: {name}.{field} has no default: a saga has its attributes from its start, so give it one, "
                f"for example `{field}: str | None = None`"
            )
        if info.alias or info.serialization_alias or info.validation_alias:
            raise DeclarationError(f"{what}: {name}.{field} has an alias; a search knows one name: leave the alias out")
        if (wrong := _no_scalar(info.annotation)) is not None:
            shown = wrong.__name__ if isinstance(wrong, type) and not typing.get_origin(wrong) else str(wrong)
            cure = _INSTEAD.get(shown, f"an attribute is {_ALLOWED}; the saga's input and result hold the rest")
            raise DeclarationError(f"{what}: {name}.{field} is {shown}: {cure}")
    defaults(kind, what)
    return kind


def _no_scalar(annotation: Any) -> Any:
    """The part of an annotation that no attribute may have; None if there is none."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _no_scalar(typing.get_args(annotation)[0])
    if origin in (typing.Union, UnionType):
        return next((wrong for one in typing.get_args(annotation) if (wrong := _no_scalar(one)) is not None), None)
    if origin is Literal:
        return next((type(one) for one in typing.get_args(annotation) if not isinstance(one, _SCALARS)), None)
    if annotation is None or annotation in _SCALARS:
        return None
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next((annotation for one in annotation if not isinstance(one.value, _SCALARS)), None)
    return annotation


@lru_cache(maxsize=1_000)
def defaults(kind: type[BaseModel], what: str) -> bytes:
    """Those of a saga that has set none, as JSON. Raises DeclarationError."""
    values = {field: info.get_default(call_default_factory=True) for field, info in kind.model_fields.items()}
    if any(value is PydanticUndefined for value in values.values()):
        raise DeclarationError(f"{what}: a default of {kind.__name__} is made from other fields; give it a value")
    try:
        return changed(kind, None, values, what)[1]
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"{what}: the defaults of {kind.__name__} are no attributes: {error}") from error


def changed(
    kind: type[BaseModel], before: BaseModel | None, values: Mapping[str, Any], what: str
) -> tuple[BaseModel, bytes]:
    """All attributes after some were set, and the same as JSON. before: None for the defaults.

    Raises TypeError for a name that is not declared, ValueError for a value that does not fit, and for too many bytes.
    """
    for name in values:
        if name not in kind.model_fields:
            raise TypeError(f"{what}: {kind.__name__} declares no attribute {name!r}; it has {_listed(kind)}")
    given = {**(dict(_values(before)) if before is not None else {}), **values}
    try:
        made = kind.model_validate(given)
        data = _written(kind, made, what)
    except ValidationError as error:
        raise ValueError(f"{what}: attribute {codec.first_fault(error)}") from error
    except MessageInvalid as error:
        raise ValueError(f"{what}: attributes: {error.message}") from error
    if len(data) > MAX_ATTRIBUTES_BYTES:
        size = max(_values(made), key=lambda item: len(to_json(item[1])))
        raise ValueError(
            f"{what}: its attributes are {len(data)} bytes as JSON, most of them in {size[0]!r}; the limit is "
            f"{MAX_ATTRIBUTES_BYTES}: they are for lists and searches, store the rest elsewhere"
        )
    return made, data


def _written(kind: type[BaseModel], made: BaseModel, what: str) -> bytes:
    """Times in UTC, so that one moment has one spelling. Raises ValueError, MessageInvalid."""
    times = {name: value for name, value in _values(made) if isinstance(value, datetime)}
    for name, value in times.items():
        if value.tzinfo is None:
            raise ValueError(f"{what}: attribute {name} has no time zone: {value!r}; ctx.now() has one")
    if times:
        made = made.model_copy(update={name: value.astimezone(UTC) for name, value in times.items()})
    try:
        data = codec.encode(made)
        if b"\\u0000" in data:
            raise ValueError("PostgreSQL stores no NUL: leave it out")
        return data
    except ValueError as error:  # pydantic cannot write it: a lone surrogate
        raise ValueError(f"{what}: its attributes cannot be written as JSON: {words_of(error)}") from error


def _values(model: BaseModel) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(model, name)) for name in type(model).model_fields)


def _listed(kind: type[BaseModel]) -> str:
    return ", ".join(kind.model_fields) or "none"


def same(one: bytes | None, other: bytes | None) -> bool:
    """Of two values as JSON. PostgreSQL writes them with other spaces and in another order."""
    if one == other:
        return True
    return one is not None and other is not None and codec.decode_value(one) == codec.decode_value(other)
