"""What a saga's code raised, for its author: where that was, and what it waited for."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Final

from sagabus.contracts.author_code import is_authors
from sagabus.contracts.words import plain, words_of

MOST_CAUSES: Final = 10
"""Exceptions of a chain that are looked at. An author may have made a ring of them."""


def origin_of(error: BaseException | None) -> str:
    """The innermost line of the author's, as `moving.py:31`; empty where there is none. Of a timeout, its wait."""
    found = ""
    for _ in range(MOST_CAUSES):
        if error is None or found:
            break
        cause = _cause(error)
        found = _innermost(cause) or _innermost(error) if isinstance(error, TimeoutError) else _innermost(error)
        error = cause
    return found


def said_by(error: BaseException | None) -> str:
    """Its words. Of one that says nothing, as TimeoutError, its type and what it waited for, if that is known."""
    if said := words_of(error):
        return said
    waited = getattr(None if error is None else _cause(error), "__notes__", ())
    return plain(" ".join((type(error).__name__, *map(words_of, waited))))


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or error.__context__


def _innermost(error: BaseException | None) -> str:
    found = ""
    for frame, line in _lines(None if error is None else error.__traceback__):
        if is_authors(frame):
            found = short(f"{frame.f_code.co_filename}:{line}")
    return found


def _lines(at: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while at is not None:
        yield at.tb_frame, at.tb_lineno
        at = at.tb_next


def short(place: str) -> str:
    """Without the folders: they are the machine's, and the error goes to everybody."""
    return place.replace("\\", "/").rpartition("/")[2]
