"""Whether two outputs say the same: equal as JSON; or as bytes, where they are not JSON. Void has several forms."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid

_VOID: Final = (b"", b"null", b"{}")


SMALL_BYTES: Final = 256
"""A body that takes no more memory than the step that it belongs to: it is kept as it is, which costs nothing."""


def remembered(body: bytes | None) -> bytes | int:
    """What is kept of a body, to be told from others by `is_same`: small whatever its size."""
    return body or b"" if len(body or b"") <= SMALL_BYTES else _digest(body)


def is_same(kept: bytes | int, body: bytes | None) -> bool:
    return kept == body or (_digest(kept) if isinstance(kept, bytes) else kept) == _digest(body)


def is_legible(body: bytes | None) -> bool:
    """Whether it is a body at all: JSON, and not larger than one may be. What model it fits is not asked."""
    try:
        codec.decode_value(body or b"null")
    except MessageInvalid:
        return False
    return True


def _digest(body: bytes | None) -> int:
    """Equal in this process for bodies that say the same. Void has 0."""
    if not body or body in _VOID:
        return 0
    try:
        value = from_json(body)
    except ValueError:
        return hash(body)
    return hash(_frozen(value))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _frozen(one)) for key, one in value.items())
    if isinstance(value, list):
        return tuple(_frozen(one) for one in value)
    return value


def same_body(one: bytes | None, other: bytes | None) -> bool:
    return one == other or _digest(one) == _digest(other)
