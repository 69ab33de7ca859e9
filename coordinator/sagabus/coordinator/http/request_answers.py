"""Waiting for what becomes of a verb.

The process that owns the saga's shard says it at once, after the commit. For all others the rows that are newer than
the request are looked at again and again, the more rarely the longer it takes: by the primary key of history, so that a
look costs the same however long that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sagabus.coordinator.core.saga.effects import RequestAnswer
from sagabus.coordinator.http.closings import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    OWN_PAUSE_SECONDS,
    set_within,
)

ANSWER_SECONDS: Final = 5.0
"""That a verb waits for its answer, if the caller does not say otherwise."""


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who waits for one request. answer: once this process has given it."""

    signal: asyncio.Event = field(default_factory=asyncio.Event)
    answer: RequestAnswer | None = None

    async def wait(
        self,
        look: Callable[[], Awaitable[RequestAnswer | None]],
        *,
        seconds: float,
        owned: Callable[[], bool],
        given_up: Callable[[], Awaitable[bool]],
    ) -> RequestAnswer | None:
        """What became of it; None after these seconds, or once it is `given_up`. look: what the rows say of it."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + seconds, FIRST_PAUSE_SECONDS
        while True:
            left = max(0.0, end - loop.time())
            await set_within(self.signal, min(left, OWN_PAUSE_SECONDS if owned() else pause))
            self.signal.clear()
            found = self.answer if self.answer is not None else await look()
            if found is not None or loop.time() >= end or await given_up():
                return found
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


class RequestAnswers:
    """Who waits for which request in this process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Waiting]] = {}

    def answered(self, answers: Iterable[RequestAnswer]) -> None:
        """The transaction that decided upon these verbs is committed. Costs nothing while nobody waits."""
        if self._waiting:
            for answer in answers:
                for waiting in self._waiting.get(answer.request, ()):
                    waiting.answer = answer
                    waiting.signal.set()

    def wake_all(self) -> None:
        """Everybody who waits looks again."""
        for waiting in self._waiting.values():
            for one in waiting:
                one.signal.set()

    @contextmanager
    def awaited(self, request: str) -> Iterator[Waiting]:
        """From before the request is published: no answer of this process is missed."""
        one = Waiting()
        together = self._waiting.setdefault(request, set())
        together.add(one)
        try:
            yield one
        finally:
            together.discard(one)
            if not together:
                self._waiting.pop(request, None)
