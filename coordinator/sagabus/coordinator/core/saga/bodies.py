"""Whether two outputs say the same: equal as JSON; or as bytes, where they are not JSON. Void has several forms."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import from_json

_VOID: Final = (b"", b"null", b"{}")


def digest(body: bytes | None) -> int:
    """Equal in this process for bodies that say the same, and small whatever their size. Void has 0."""
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
    return one == other or digest(one) == digest(other)
