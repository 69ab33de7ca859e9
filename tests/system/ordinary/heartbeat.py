"""Asks a coordinator again and again whether it is alive and ready, and keeps how long each answer took."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import httpx

EVERY_SECONDS = 0.05
UNANSWERED_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """asked: by the monotonic clock. reason: why it is not ready, empty when it is, None where nobody listens."""

    asked: float
    seconds: float
    reason: str | None


class Heartbeat:
    """`start` and `stop`. path: /livez or /readyz."""

    def __init__(self, url: str, path: str = "/livez") -> None:
        self.answers: list[Answer] = []
        self._url, self._path = url, path
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._ask(), name="heartbeat")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def slowest(self, since: float = 0.0) -> float:
        """Seconds that an answer took at most, of a process that was there."""
        return max((one.seconds for one in self.answers if one.reason is not None and one.asked >= since), default=0.0)

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=UNANSWERED_SECONDS) as client:
            while True:
                asked = time.monotonic()
                reason = await self._reason(client)
                self.answers.append(Answer(asked, time.monotonic() - asked, reason))
                await asyncio.sleep(EVERY_SECONDS)

    async def _reason(self, client: httpx.AsyncClient) -> str | None:
        try:
            answer = await client.get(self._path)
        except httpx.TimeoutException:
            return "no answer"
        except httpx.HTTPError:
            return None
        return "" if answer.is_success else str(answer.json()["reason"])
