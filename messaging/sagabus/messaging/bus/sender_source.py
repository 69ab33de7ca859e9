"""Which sender is in use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.lookups import STOPPED, Lookups
from sagabus.messaging.bus.sender import Sender


class SenderSource:
    """The sender that is in use, made when it is first needed, and anew when it is spoilt."""

    def __init__(self, make: Callable[[], Sender]) -> None:
        self._make = make
        self._current: Sender | None = None
        self._lookups = Lookups()
        self._given: set[Sender] = set()
        self._closed = False

    async def take(self) -> Sender:
        """To be given back. Raises KafkaUnreachable where none can be started."""
        while (sender := self._current) is None or sender.spoilt:
            if self._closed:
                raise KafkaUnreachable(STOPPED)
            await self._lookups.ask("sender", self._open)
        sender.users += 1
        return sender

    def take_at_once(self) -> Sender | None:
        """As `take`; None where one must be waited for."""
        sender = self._current
        if sender is None or sender.spoilt:
            return None
        sender.users += 1
        return sender

    def give_back_at_once(self, sender: Sender) -> bool:
        """Give it back, if nothing need be waited for: False, and nothing was done, where it is spoilt."""
        if sender.spoilt:
            return False
        sender.users -= 1
        return True

    async def give_back(self, sender: Sender, *, spoilt: bool = False) -> None:
        """spoilt: a batch was not acknowledged. The last to give it back then waits until nothing is left of it."""
        sender.users -= 1
        sender.spoilt = sender.spoilt or spoilt
        if sender.spoilt and not sender.users and sender in self._given:
            self._given.discard(sender)
            await sender.abandon()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Sender]:
        sender = await self.take()
        try:
            yield sender
        finally:
            await self.give_back(sender)

    async def close(self) -> None:
        """Whatever is under way is given up, and nothing is begun any more."""
        self._closed, self._current = True, None
        self._lookups.cancel()
        while self._given:
            await self._given.pop().abandon()

    async def _open(self) -> None:
        sender = self._make()
        await sender.start()
        self._given.add(sender)
        self._current = sender
