"""The producer that all relays of a process share, made anew after it has failed.

A failed producer cannot go on (see `producer`), and whoever was publishing through it does not know what arrived: their
tenures end. The others have nothing under way, and go on with the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.producer import PublishRefused


class Producer(Protocol):
    """Publishes until it fails; then another one has to be made."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def publish(self, messages: Sequence[Message]) -> None: ...


class SharedProducer:
    """`make` gives a producer that is not started. A relay's `Publisher`."""

    def __init__(self, make: Callable[[], Producer]) -> None:
        self._make = make
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Raises what Kafka raises."""
        await self._working()

    async def stop(self) -> None:
        """The producer is stopped; a later `publish` would start another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def publish(self, messages: Sequence[Message]) -> None:
        """As the producer's; any error but PublishRefused is the end of that producer."""
        producer = await self._working()
        try:
            await producer.publish(messages)
        except PublishRefused:
            raise
        except Exception:
            if self._producer is producer:
                await self.stop()
            raise

    async def _working(self) -> Producer:
        async with self._starting:
            if self._producer is None:
                producer = self._make()
                await producer.start()
                self._producer = producer
            return self._producer
