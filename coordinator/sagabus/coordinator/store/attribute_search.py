"""What a list of sagas asks of their attributes, as a path that PostgreSQL's index on them answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC
from math import isfinite
from typing import Final, NamedTuple

from pydantic import AwareDatetime, TypeAdapter
from pydantic_core import from_json, to_json

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
"""Of a field of a model."""

_TIME: Final = TypeAdapter(AwareDatetime)


class Wanted(NamedTuple):
    """An attribute and its value, as text: `120` is the number or the text, `null` is nothing or the text."""

    name: str
    value: str


def path_of(wanted: tuple[Wanted, ...]) -> str | None:
    """In the language `jsonpath`: all of them. None for none."""
    if not wanted:
        return None
    return " && ".join(
        f"({' || '.join(f'$.{_json(name)} == {one}' for one in _meant(value))})" for name, value in wanted
    )


def _meant(text: str) -> Iterator[str]:
    """What may be meant by it, as JSON: text, a number, true, false, null, or a time, which has one spelling here."""
    yield _json(text)
    try:
        value = from_json(text)
    except ValueError:
        value = ""
    if value is None or isinstance(value, bool):
        yield _json(value)
    elif isinstance(value, int | float) and isfinite(value):
        yield text.strip()
    if len(text) <= 40 and (time := _time(text)) not in (None, _json(text)):
        yield str(time)


def _time(text: str) -> str | None:
    """As the attribute is written."""
    if "T" not in text and " " not in text:
        return None
    try:
        return to_json(_TIME.validate_python(text).astimezone(UTC)).decode()
    except (ValueError, OverflowError):
        return None


def _json(value: object) -> str:
    return to_json(value).decode()
