"""JSON to models and back, within limits that are checked before parsing.

The limits exist so that one hostile record costs a scan of its bytes and no more: size first, then nesting.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.round_trip import Doubts, difference, doubts_of, exactness_of, rules_of

M = TypeVar("M", bound=BaseModel)

MAX_DEPTH: Final = 100
"""Nested arrays and objects. Ours never need ten; PostgreSQL's jsonb and most parsers give in at some thousand."""

TOO_LARGE: Final = "payload.too_large"
"""The reason for more than `MAX_PAYLOAD` bytes."""

_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_LONGEST_DOUBLE: Final = 309
"""Digits before the point of the largest number that a double holds."""
_OFFSET: Final = re.compile(rb'(?:[+-]\d\d:\d\d|Z)"')
"""The end of a time with an offset. Z too: an offset of less than a minute is written as UTC."""
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))


def encode(model: BaseModel) -> bytes:
    """What the same model reads as it was: by alias, in pydantic's round-trip mode.

    Raises MessageInvalid for a value that would be read as another one or not at all, naming its field, and
    pydantic_core.PydanticSerializationError (a ValueError) for one that cannot be written. Where the model's schema can
    hold no such value (`round_trip`), nothing is read back.
    """
    write, kind = model.__pydantic_serializer__.to_json, type(model)
    is_exact = exactness_of(kind)(model)
    try:
        data = write(model, by_alias=True, round_trip=True, warnings=False if is_exact else "error")
    except PydanticSerializationError:  # perhaps only of another type than was declared, as 5 in a float
        data = write(model, by_alias=True, round_trip=True, warnings=False)
        _confirm(model, data)
        return data
    doubts = doubts_of(kind)
    if doubts is not None:
        if _may_differ(doubts, data) or not (is_exact or _is_as_exact(doubts, data)):
            _confirm(model, data)
        elif doubts.numbers and len(data) >= _LONGEST_DOUBLE and _may_overflow(data):
            _read_back(model, data)
        elif doubts.read:
            _check_rules(model, data)
    return data


def encode_as(kind: type[BaseModel], model: BaseModel, *, what: str) -> bytes:
    """The same for whoever reads it as this model. A subclass of it will do if it has no more fields.

    Raises as `encode` does, and MessageInvalid for more, or deeper nested, than we read. what: names the thing.
    """
    if type(model) is not kind and (lost := type(model).model_fields.keys() - kind.model_fields.keys()):
        raise MessageInvalid(
            "payload.invalid",
            f"{what} is declared as {kind.__name__}, and {type(model).__name__} has more: whoever reads it would not "
            f"get {', '.join(sorted(lost))}; give a {kind.__name__}, or declare those fields",
        )
    data = checked(encode(model))
    if type(model) is not kind:
        decode(kind, data, what=what)
    return data


def _may_differ(doubts: Doubts, data: bytes) -> bool:
    return (
        doubts.compare
        or (doubts.nulls and b"null" in data)
        or (doubts.constants and (b"NaN" in data or b"Infinity" in data))
    )


def _is_as_exact(doubts: Doubts, data: bytes) -> bool:
    """What need not be asked of an exact model."""
    has_offsets = doubts.offsets and _OFFSET.search(data) is not None
    return not (has_offsets or any(map(type.__subclasses__, doubts.models)))


def _confirm(model: BaseModel, data: bytes) -> None:
    read = _read_back(model, data)
    if found := difference(model, read):  # never by ==, which holds True for 1
        name = type(model).__name__
        raise MessageInvalid("payload.invalid", f"{name}: {found}: read back, it is another value than was written")


def _read_back(model: BaseModel, data: bytes) -> BaseModel:
    try:
        return decode(type(model), data, what=type(model).__name__)
    except MessageInvalid as fault:
        if fault.reason != "payload.invalid":  # more than may be written at all
            raise
        raise MessageInvalid(fault.reason, f"{fault.message}: it was written and cannot be read back") from fault


def _check_rules(model: BaseModel, data: bytes) -> None:
    try:
        rules_of(type(model)).validate_json(data)
    except ValidationError:  # perhaps: what the model itself says counts, and has the words
        _read_back(model, data)


def encode_value(value: Any) -> bytes:
    """What JSON has no word for (NaN, infinities) becomes null, as in models."""
    return to_json(value, inf_nan_mode="null")


def encode_exactly(value: Any) -> bytes:
    """For what somebody else is to read as it is meant. Raises MessageInvalid for what cannot be said in JSON."""
    try:
        data = to_json(value, inf_nan_mode="constants")
    except (ValueError, TypeError, RecursionError) as error:  # a lone surrogate, a type that is unknown, a circle
        raise MessageInvalid("payload.invalid", f"it cannot be written as JSON: {error}") from error
    decode_value(data)
    return data


def checked(data: bytes) -> bytes:
    """The same bytes. Raises MessageInvalid if they are more, or nested deeper, than we read."""
    if len(data) > MAX_PAYLOAD:
        raise MessageInvalid(TOO_LARGE, f"{len(data)} bytes; the limit is {MAX_PAYLOAD}")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise MessageInvalid("payload.too_deep", f"nested deeper than {MAX_DEPTH} levels")
    return data


def _depth(data: bytes) -> int:
    """How deep arrays and objects are nested, brackets in strings left out. Of what is no JSON: some number."""
    depth = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def decode(model: type[M], data: bytes | None, *, what: str) -> M:
    """Raises MessageInvalid with the first fault in words. what: names the thing, for the sentence."""
    text = checked(data or b"null")
    if b"NaN" in text or b"Infinity" in text or _may_overflow(text):
        decode_value(text)  # pydantic reads all of these, as numbers that it would write as null
    try:
        made: M = model.__pydantic_validator__.validate_json(text)
    except ValidationError as error:
        no_json = error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"
        reason = "payload.not_json" if no_json else "payload.invalid"
        raise MessageInvalid(reason, f"{what}: {first_fault(error)}") from error
    except (Exception, SystemExit) as error:  # a validator of the model's author may raise anything
        raise MessageInvalid("payload.invalid", f"{what}: its validator raised {type(error).__name__}") from error
    return made


def decode_value(data: bytes | None) -> JsonValue:
    """Any JSON value. NaN, infinities, numbers that no double holds and what is not UTF-8 are refused."""
    text = checked(data or b"")
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MessageInvalid("payload.not_json", f"not JSON: {error}") from error
    if _may_overflow(text) and not _finite(value):
        raise MessageInvalid("payload.not_json", "a number is larger than any double: other languages read infinity")
    return value


def _may_overflow(text: bytes) -> bool:
    """Whether a number may be larger than any double: many digits, or an exponent of three. Cheap, and often wrong."""
    plain = text.translate(_DIGITS, b"+")
    return b"0e000" in plain or (len(text) >= _LONGEST_DOUBLE and b"0" * _LONGEST_DOUBLE in plain)


def _finite(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    try:
        return not isinstance(value, int | float) or isfinite(value)
    except OverflowError:
        return False


def first_fault(error: ValidationError) -> str:
    """The first fault in words, and how many more there are."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    path = ".".join(str(part) for part in faults[0]["loc"]) or "value"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{path}: {faults[0]['msg']}{more}"
