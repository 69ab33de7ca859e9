"""The shop's three services, in this process, each of which can be away for a while."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Self

from sagabus.commands.demo.narrator import Narrator
from sagabus.messaging.service.participation import Participation


class Services:
    """Leaving the block sends everybody home."""

    def __init__(self, participants: Iterable[Participation], narrator: Narrator) -> None:
        self._participants = {one.service.name: one for one in participants}
        self._present: dict[str, AsyncExitStack] = {}
        self._teller = narrator

    async def come(self, *services: str) -> None:
        """Take commands from here on. Returns when they do."""
        for service in services:
            stack = AsyncExitStack()
            await stack.enter_async_context(self._participants[service].running())
            self._present[service] = stack
            self._teller.tell(service, "has started")

    async def leave(self, *services: str) -> None:
        """Drain, and take no more commands; they wait on their topic."""
        for service in services:
            await self._present.pop(service).aclose()
            self._teller.tell(service, "has stopped")

    async def __aenter__(self) -> Self:
        await self.come(*self._participants)
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in [*self._present]:
            await self._present.pop(service).aclose()
