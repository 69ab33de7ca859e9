"""JSON values of any shape, within limits that are checked before parsing: size first, then nesting.

It knows no models, and is quick to import.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.errors import MessageInvalid

if TYPE_CHECKING:
    from pydantic import JsonValue

MAX_DEPTH: Final = 100
"""Nested arrays and objects. Ours never need ten; PostgreSQL's jsonb and most parsers give in at some thousand."""

TOO_LARGE: Final = "payload.too_large"
"""The reason for more than `MAX_PAYLOAD` bytes."""

_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
LONGEST_DOUBLE: Final = 309
"""Digits before the point of the largest number that a double holds."""
_N, _I = b"NI"
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))


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
    if len(data) <= MAX_DEPTH:
        return data  # each level is a byte at least
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


def decode_value(data: bytes | None) -> JsonValue:
    """Any JSON value. NaN, infinities, numbers that no double holds and what is not UTF-8 are refused."""
    text = checked(data or b"")
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MessageInvalid("payload.not_json", f"not JSON: {error}") from error
    if may_overflow(text) and not _finite(value):
        raise MessageInvalid("payload.not_json", "a number is larger than any double: other languages read infinity")
    return value


def may_overflow(text: bytes) -> bool:
    """Whether a number may be larger than any double: many digits, or an exponent of three. Cheap, and often wrong."""
    plain = text.translate(_DIGITS, b"+")
    return plain.find(b"0e000") >= 0 or (len(text) >= LONGEST_DOUBLE and b"0" * LONGEST_DOUBLE in plain)


def may_name_no_number(text: bytes) -> bool:
    """Whether it may hold NaN or an infinity by name. A byte is looked for first: that takes a tenth of the time that
    a word does."""
    return (_N in text and b"NaN" in text) or (_I in text and b"Infinity" in text)


def may_be_no_json(text: bytes) -> bool:
    """Whether it may hold what is read as a number and is none in JSON: NaN, infinities, more than any double.

    Cheap, and often wrong.
    """
    return may_name_no_number(text) or may_overflow(text)


def _finite(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    try:
        return not isinstance(value, int | float) or isfinite(value)
    except OverflowError:
        return False
