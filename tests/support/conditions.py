"""Wait for something to be so.

Tests wait for effects and never for time: `within` is the patience after which a test counts as hung, not a promise of
speed.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds. Long, because a test machine may be busy with something else."""

STEP = 0.02
"""Seconds between two looks."""


class NotSo(AssertionError):
    """What a test waited for did not come."""


@overload
async def until(
    condition: Callable[[], Coroutine[Any, Any, T | None]], *, within: float = ..., every: float = ..., what: str = ...
) -> T: ...
@overload
async def until(
    condition: Callable[[], T | None], *, within: float = ..., every: float = ..., what: str = ...
) -> T: ...
async def until(condition: Callable[[], Any], *, within: float = PATIENCE, every: float = STEP, what: str = "") -> Any:
    """The first true value of `condition`, which may be a plain or an async function.

    An exception of the condition is not an answer: it is kept for the message, and the next look follows.
    """
    watch = _Watch(within, what or _name(condition))
    while True:
        try:
            answer = condition()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            watch.saw(repr(value))
        except NotSo:
            raise
        except Exception as error:
            watch.saw(f"{type(error).__name__}: {error}")
        watch.check()
        await asyncio.sleep(every)


def blocking_until(condition: Callable[[], T], *, within: float = PATIENCE, every: float = STEP, what: str = "") -> T:
    """`until` for fixtures, which run outside the loop."""
    watch = _Watch(within, what or _name(condition))
    while True:
        try:
            if value := condition():
                return value
            watch.saw(repr(value))
        except NotSo:
            raise
        except Exception as error:
            watch.saw(f"{type(error).__name__}: {error}")
        watch.check()
        time.sleep(every)


class _Watch:
    def __init__(self, within: float, what: str) -> None:
        self.within, self.what = within, what
        self.end = time.monotonic() + within
        self.last = "nothing"

    def saw(self, last: str) -> None:
        self.last = last

    def check(self) -> None:
        if time.monotonic() > self.end:
            raise NotSo(f"not so within {self.within:g} s: {self.what}; last seen: {self.last}")


def _name(condition: object) -> str:
    code = getattr(condition, "__code__", None)
    if code is None:
        return repr(condition)
    return f"{getattr(condition, '__qualname__', 'condition')} ({code.co_filename}:{code.co_firstlineno})"
