"""What a terminal may be given. Values of sagas, replies and records hold whatever somebody has sent.

An escape sequence would move the cursor, a bidi control would turn the line around, a line's end would forge a line.

So all that is not printable is written as a Python escape: `\\x1b`, `\\u202e`, `\\n`. Spaces of other languages stay.
"""

from __future__ import annotations

import json
from typing import Any, Final
from unicodedata import category

LINES: Final = "\n\t"
"""What stays in texts that have lines of their own: a traceback, an error with the tail of a log."""


def printable(text: str, *, but: str = "") -> str:
    """but: characters that stay though they are not printable."""
    if text.isprintable():
        return text
    return "".join(one if _shown(one) or one in but else one.encode("unicode_escape").decode() for one in text)


def printable_json(value: Any, *, ascii: bool = False) -> str:
    """One JSON value in one line, equal to this one when it is read. ascii: nothing but ASCII."""
    text = json.dumps(value, ensure_ascii=ascii, default=str)
    if text.isprintable():
        return text
    return "".join(one if _shown(one) else json.dumps(one)[1:-1] for one in text)


def _shown(one: str) -> bool:
    return one.isprintable() or category(one) == "Zs"
