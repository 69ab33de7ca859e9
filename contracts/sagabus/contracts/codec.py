"""JSON to models and back, within limits that are checked before parsing (`json_value`).

The limits exist so that one hostile record costs a scan of its bytes and no more: size first, then nesting.

`encode` makes sure that what is written is read as the same value. `round_trip` says of each class what might differ
(its doubts); only where a value, or what was written of it, gives rise to one of them is it read back and compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.json_value import (
    LONGEST_DOUBLE,
    MAX_DEPTH,
    TOO_LARGE,
    checked,
    decode_value,
    encode_exactly,
    encode_value,
    may_be_no_json,
    may_name_no_number,
    may_overflow,
)
from sagabus.contracts.round_trip import Doubts, difference, doubts_of, exactness_of, rules_of

__all__ = [
    "MAX_DEPTH",
    "TOO_LARGE",
    "checked",
    "decode",
    "decode_value",
    "encode",
    "encode_as",
    "encode_exactly",
    "encode_value",
    "first_fault",
    "first_faults",
]

M = TypeVar("M", bound=BaseModel)

_OFFSET: Final = re.compile(rb'(?:[+-]\d\d:\d\d|Z)"')
"""The end of a time with an offset. Z too: an offset of less than a minute is written as UTC."""


def encode(model: BaseModel) -> bytes:
    """What the same model reads as it was: by alias, in pydantic's round-trip mode.

    Raises MessageInvalid for a value that would be read as another one or not at all, naming its field, and
    pydantic_core.PydanticSerializationError (a ValueError) for one that cannot be written. Where the model's schema can
    hold no such value (`round_trip`), nothing is read back.
    """
    return _encoder_of(type(model))(model)


Encoder = Callable[[BaseModel], bytes]


@cache
def _encoder_of(kind: type[BaseModel]) -> Encoder:
    """What decides for a class whether its values need a second look is found once. Most need none."""
    doubts = doubts_of(kind) or Doubts()
    whole = _whole_way(kind, doubts)
    return whole if doubts.compare else _short_way(kind, doubts, whole)


def _short_way(kind: type[BaseModel], doubts: Doubts, whole: Encoder) -> Encoder:
    """For values of exactly the declared types, whose bytes give rise to no doubt: nearly all. It writes the same bytes
    as the whole way, or leaves the value to it: what is wrong is found, and said, there alone."""
    write, is_exact = kind.__pydantic_serializer__.to_json, exactness_of(kind)
    is_suspect = partial(_is_suspect, doubts) if doubts.nulls or doubts.constants or doubts.numbers else None
    holds = rules_of(kind).validate_json if doubts.read else None

    def encoded(model: BaseModel) -> bytes:
        if not is_exact(model):
            return whole(model)
        data = write(model, by_alias=True, round_trip=True, warnings=False)
        if is_suspect is not None and is_suspect(data):
            return whole(model)
        if holds is not None:
            try:
                holds(data)
            except ValidationError:
                return whole(model)
        return data

    return encoded


def _whole_way(kind: type[BaseModel], doubts: Doubts) -> Encoder:
    """For any value. The serializer is asked whether one that is not exact is of the declared types all the same; of
    None in a place that takes none, and of a field that is missing, it has no word: the rules have."""
    write, is_exact = kind.__pydantic_serializer__.to_json, exactness_of(kind)

    def encoded(model: BaseModel) -> bytes:
        exact = is_exact(model)
        try:
            data: bytes = write(model, by_alias=True, round_trip=True, warnings=False if exact else "error")
        except PydanticSerializationError:  # perhaps only of another type than was declared, as 5 in a float
            data = write(model, by_alias=True, round_trip=True, warnings=False)
            _confirm(model, data)
            return data
        trusted = not _is_suspect(doubts, data) and (exact or _is_as_exact(doubts, data))
        if not trusted or ((doubts.read or not exact) and not _holds(kind, data)):
            _confirm(model, data)
        return data

    return encoded


def _is_suspect(doubts: Doubts, data: bytes) -> bool:
    """Whether something that was written may be read as another value."""
    if doubts.compare or (doubts.nulls and b"null" in data) or (doubts.constants and may_name_no_number(data)):
        return True
    return doubts.numbers and len(data) >= LONGEST_DOUBLE and may_overflow(data)


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


def _holds(kind: type[BaseModel], data: bytes) -> bool:
    """Whether its rules do. If not, what the model itself says of these bytes counts, and has the words."""
    try:
        rules_of(kind).validate_json(data)
    except ValidationError:
        return False
    return True


def decode(model: type[M], data: bytes | None, *, what: str, checked_before: bool = False) -> M:
    """Raises MessageInvalid with the first fault in words. what: names the thing, for the sentence. checked_before:
    these very bytes have been decoded, as whatever model: how large they are, and whether they are JSON, is known."""
    text = data or b"null"
    if not checked_before:
        if len(text) > MAX_DEPTH:  # each level is a byte at least
            checked(text)
        if may_be_no_json(text):
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


def first_fault(error: ValidationError) -> str:
    """The first fault in words, and how many more there are."""
    return first_faults(error, most=1)


def first_faults(error: ValidationError, *, most: int) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}" for fault in faults[:most]]
    more = f" (and {len(faults) - most} more)" if len(faults) > most else ""
    return "; ".join(shown) + more
