"""Whether what was read is what was written. Stricter than `==` where JSON mixes things up, and kinder to NaN."""

from __future__ import annotations

from cmath import isnan
from collections import deque
from collections.abc import Iterator, Mapping, Set
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from pydantic import BaseModel


def difference(written: Any, read: Any, path: str = "") -> str | None:
    """Where the first difference lies, as `items.0.price`, or "value" for the whole; None if there is none."""
    if isinstance(written, BaseModel):
        return _of_models(written, read, path)
    if isinstance(written, list | tuple | deque):
        same = isinstance(read, type(written)) and len(read) == len(written)
        return (
            _first(((str(at), pair) for at, pair in enumerate(zip(written, read, strict=True))), path)
            if same
            else path or "value"
        )
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        if {(type(key), key) for key in written} != {(type(key), key) for key in read}:
            return path or "value"
        return _first(((str(key), (written[key], read[key])) for key in written), path)
    if isinstance(written, Set) and isinstance(read, Set):
        same_ones = {each: each for each in read}
        return _first(((str(each), (each, same_ones.get(each, _ABSENT))) for each in written), path) or (
            None if len(written) == len(read) else path or "value"
        )
    return None if _equal(written, read) else path or "value"


def _of_models(written: BaseModel, read: Any, path: str) -> str | None:
    if type(written) is not type(read):
        return path or "value"
    names = type(written).model_fields
    pairs = [(name, (getattr(written, name, _ABSENT), getattr(read, name, _ABSENT))) for name in names]
    return _first(iter([*pairs, *_extras(written, read)]), path)


def _extras(written: BaseModel, read: BaseModel) -> list[tuple[str, tuple[Any, Any]]]:
    one, other = written.__pydantic_extra__ or {}, read.__pydantic_extra__ or {}
    return [(name, (one.get(name, _ABSENT), other.get(name, _ABSENT))) for name in {**one, **other}]


_ABSENT = object()


def _first(pairs: Iterator[tuple[str, tuple[Any, Any]]], path: str) -> str | None:
    for name, (written, read) in pairs:
        if found := difference(written, read, f"{path}.{name}" if path else name):
            return found
    return None


def _equal(written: Any, read: Any) -> bool:
    if written is _ABSENT or read is _ABSENT:
        return False
    if type(written) is not type(read) and not _narrower(written, read):
        return False
    if isinstance(written, float | complex) and isnan(written):
        return isnan(read)
    if isinstance(written, Decimal) and written.is_nan():
        return bool(read.is_nan())
    if isinstance(written, datetime | time) and written.utcoffset() != read.utcoffset():
        return False
    if isinstance(written, datetime):  # at a change of the clocks Python holds equal times of two zones for unequal
        return bool(written.replace(tzinfo=None, fold=0) == read.replace(tzinfo=None, fold=0))
    return bool(written == read)


def _narrower(written: Any, read: Any) -> bool:
    """A `str` of an own kind in a field of `str`, say, or 5 in one of `float` or `Decimal`. True is no 1, and midnight
    no day."""
    if isinstance(written, bool) or (isinstance(written, datetime) and not isinstance(read, datetime)):
        return False
    return isinstance(written, type(read)) or (isinstance(written, int) and isinstance(read, float | Decimal))
