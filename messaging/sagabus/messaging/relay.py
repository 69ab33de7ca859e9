"""Publishes what a tenure has committed, from memory and in order, one call of the producer after the other.

A relay never looks at the database and never tries again: what it cannot publish, or does not know to be published,
ends the tenure, and the next one reads the rows anew. Only a message that can never be published is taken out, with all
that follows of its saga (S8); the next turn moves these rows to `outbox_parked`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from sagabus.contracts.envelope import Message
from sagabus.messaging.producer import PublishRefused

log = logging.getLogger(__name__)

Positioned = tuple[int, Message]
"""A message and its position in the shard's outbox."""


class Publisher(Protocol):
    """What a relay needs of the producer."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when all are acknowledged. Order is kept per topic and partition.

        Raises PublishRefused for a message that can never be published; after that, and after any other exception,
        some of the others may have been published.
        """


class Parking(NamedTuple):
    """The rows of this saga from this position on are to be moved to `outbox_parked`."""

    saga_id: str
    position: int
    reason: str


class Relay:
    """The publisher of one tenure. It works from `start` until `stop`, or until something cannot be published."""

    def __init__(self, *, position: int) -> None:
        self.position = position
        """Every message up to here has been published, or is in `parkings`. Moves after the acknowledgement."""
        self.ended = False
        self.parkings: list[Parking] = []
        """Not yet moved by a turn, oldest first."""
        self._pushed_to = position
        self._parked: set[str] = set()
        self._queue: list[Positioned] = []
        self._sending: list[Positioned] = []
        self._pushed = asyncio.Event()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Messages that are committed and not yet acknowledged."""
        return len(self._queue) + len(self._sending)

    def start(self, producer: Publisher, *, on_end: Callable[[], None]) -> None:
        """`on_end` is called once, when publishing has failed."""
        self._task = asyncio.create_task(self._run(producer, on_end), name="sagabus relay")

    def push(self, messages: Sequence[Positioned]) -> None:
        """Publish these after all that was pushed before. Positions rise. After the end it does nothing."""
        if not messages or self.ended:
            return
        self._pushed_to = messages[-1][0]
        self._queue += messages
        for saga in self._parked.intersection(message.saga_id for _, message in messages):
            self._take_out(saga, 0, "an earlier message of this saga is parked")
        self._pushed.set()

    def park(self, sagas: Iterable[str]) -> None:
        """These sagas have rows in `outbox_parked`: what follows of them goes there too."""
        self._parked.update(sagas)

    async def below(self, depth: int) -> None:
        """Returns when fewer messages than that are waiting, or the relay has ended."""
        while self.depth >= depth and not self.ended:
            self._moved.clear()
            await self._moved.wait()

    async def stop(self) -> None:
        """Nothing is handed to the producer any more when this returns. What it was given before may still go out."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, producer: Publisher, on_end: Callable[[], None]) -> None:
        try:
            while True:
                await self._pushed.wait()
                self._pushed.clear()
                await self._publish(producer)
        except Exception as error:
            log.warning("publishing failed, the shard will be taken again: %s", error)
            self._end()
            on_end()

    async def _publish(self, producer: Publisher) -> None:
        self._sending, self._queue = self._queue, []
        last = self._pushed_to
        while self._sending:
            try:
                await producer.publish([message for _, message in self._sending])
                self._sending = []
            except PublishRefused as refusal:
                self._park(refusal)
        self.position = last
        self._moved.set()

    def _park(self, refusal: PublishRefused) -> None:
        for position, message in self._sending:
            if message is refusal.message:
                log.error("what saga %s sends is parked: %s", message.saga_id, refusal)
                self._parked.add(message.saga_id)
                self._take_out(message.saga_id, position, str(refusal))
                return
        raise refusal

    def _take_out(self, saga: str, start: int, reason: str) -> None:
        """Remove what waits of this saga from position `start` on, and remember it for the next turn."""
        out = {at for at, message in (*self._sending, *self._queue) if message.saga_id == saga and at >= start}
        self._sending = [row for row in self._sending if row[0] not in out]
        self._queue = [row for row in self._queue if row[0] not in out]
        self.parkings.append(Parking(saga, min(out), reason))

    def _end(self) -> None:
        self.ended = True
        self._moved.set()
