"""Refusals, as they are declared and as they are written: alike for a handler that refuses and for a saga that does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sagabus.contracts import codec, names
from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.replies import read_failure
from sagabus.contracts.words import words_of


def declared(what: str, codes: Iterable[str]) -> tuple[str, ...]:
    """The codes. what: the activity or the saga that may refuse with them. Raises DeclarationError."""
    if isinstance(codes, str):
        raise DeclarationError(f'{what}: refusals={codes!r} is one text: give a tuple, refusals=("{codes}",)')
    return tuple(_code(what, one) for one in codes)


def _code(what: str, code: object) -> str:
    """The same. Raises DeclarationError for what nobody may refuse with."""
    if not isinstance(code, str) or not names.is_code(code) or names.is_own_code(code):
        raise DeclarationError(f"{what}: the refusal {code!r} is no code of yours: give {names.CODES}")
    return code


def failure_body(code: str, message: object, details: Mapping[str, Any], *, again_after: float | None = None) -> bytes:
    """The body of a `replies.Failure`, such as its reader takes.

    Details may hold whatever pydantic can write as JSON; what it cannot, or nobody could read, is written as text. If
    they are too large they are left out.
    """
    whole = {"code": code, "message": words_of(message), "again_after": again_after}
    as_text = {words_of(name): words_of(value) for name, value in details.items()}
    for tried in (details, as_text):
        if (body := _readable({**whole, "details": tried})) is not None:
            return body
    return codec.encode_value({**whole, "details": {}})


def _readable(failure: Mapping[str, object]) -> bytes | None:
    """None for what cannot be written, or would not be read."""
    try:
        body = codec.checked(codec.encode_value(failure))
        read_failure(body)
    except Exception:  # of pydantic_core, of a value's own functions, or MessageInvalid
        return None
    return body
