"""Names that a person may have meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

MOST_NAMED: Final = 3


def near(given: str, known: Iterable[str]) -> list[str]:
    """The likeliest first; at most MOST_NAMED, perhaps none."""
    return get_close_matches(given, sorted(known), n=MOST_NAMED)


def did_you_mean(names: Iterable[str]) -> str:
    """The question; empty for no names."""
    either = " or ".join(map(repr, names))
    return f"did you mean {either}?" if either else ""
