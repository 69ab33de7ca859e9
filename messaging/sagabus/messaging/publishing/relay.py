"""Publishes what a tenure has committed, from memory and in order, one call of the producer after the other.

A relay never looks at the database and never tries again: what it cannot publish, or does not know to be published,
ends the tenure, and the next one reads the rows anew. Only a message that can never be published is taken out, with all
that follows of its saga (S8); the next turn moves these rows to `outbox_parked`. What follows later parks behind them,
until a turn that brings them back says `unpark`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from sagabus.contracts.envelope import Message
from sagabus.messaging.background import Supervisor, cancelled
from sagabus.messaging.bus.publish_errors import PublishRefused
from sagabus.messaging.counters import Counters, Family

log = logging.getLogger(__name__)

Positioned = tuple[int, Message]
"""A message and its position in the shard's outbox."""

NAMED: Final = 10
"""Sagas that a log line names."""

BEHIND: Final = "an earlier message of this saga is parked"


class Publisher(Protocol):
    """What a relay needs of the producer."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when all are acknowledged. Order is kept per topic and partition.

        Raises PublishRefused for a message that can never be published; after that, and after any other exception,
        some of the others may have been published.
        """


class Parking(NamedTuple):
    """The rows of this saga from this position on are to be moved to `outbox_parked`.

    behind: nothing is wrong with them, but others of the saga are there already.
    """

    saga_id: str
    position: int
    reason: str
    behind: bool = False


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
        self._counts: Counter[str] = Counter()

    @property
    def parked(self) -> Collection[str]:
        """Sagas whose messages are parked, or are to be."""
        return self._parked

    @property
    def depth(self) -> int:
        """Messages that are committed and not yet acknowledged."""
        return len(self._queue) + len(self._sending)

    def start(
        self,
        producer: Publisher,
        *,
        on_end: Callable[[], None],
        supervisor: Supervisor | None = None,
        counters: Counters | None = None,
    ) -> None:
        """`on_end` is called once, when publishing has failed."""
        self._counts = (counters or Counters()).family(Family.RELAY)
        self._task = (supervisor or Supervisor()).spawn(self._run(producer, on_end), name="relay")

    def push(self, messages: Sequence[Positioned]) -> None:
        """Publish these after all that was pushed before. Positions rise. After the end it does nothing."""
        if not messages or self.ended:
            return
        self._pushed_to = messages[-1][0]
        self._queue += messages
        waiting = self._parked and self._parked.intersection(message.saga_id for _, message in messages)
        if waiting:
            self._take_out(dict.fromkeys(waiting, 0), BEHIND, behind=True)
        self._pushed.set()

    def park(self, sagas: Iterable[str]) -> None:
        """These sagas have rows in `outbox_parked`: what follows of them goes there too."""
        self._parked.update(sagas)

    def unpark(self, sagas: Iterable[str]) -> None:
        """What was parked of these sagas is in the outbox again: to be called before it is pushed."""
        self._parked.difference_update(sagas)

    async def below(self, depth: int) -> None:
        """Returns when fewer messages than that are waiting, or the relay has ended."""
        while self.depth >= depth and not self.ended:
            self._moved.clear()
            await self._moved.wait()

    async def stop(self) -> None:
        """Nothing is handed to the producer any more when this returns. What it was given before may still go out."""
        self._end()
        if self._task is not None:
            await cancelled([self._task])

    async def _run(self, producer: Publisher, on_end: Callable[[], None]) -> None:
        try:
            while True:
                await self._pushed.wait()
                self._pushed.clear()
                await self._publish(producer)
        except Exception as error:
            self._counts["failed"] += 1
            log.warning("publishing failed, the shard will be acquired again: %s", error)
            self._end()
            on_end()

    async def _publish(self, producer: Publisher) -> None:
        self._sending, self._queue = self._queue, []
        last = self._pushed_to
        while self._sending:
            try:
                await producer.publish([message for _, message in self._sending])
                self._counts["published"] += len(self._sending)
                self._sending = []
            except PublishRefused as refusal:
                self._park(refusal)
        self.position = last
        self._moved.set()

    def _park(self, refusal: PublishRefused) -> None:
        """Of a topic that takes nothing, all messages at once: asking for each would hold up the others for long."""
        starts: dict[str, int] = {}
        for position, message in self._sending:
            if message is refusal.message or message.topic == refusal.topic:
                starts.setdefault(message.saga_id, position)
        if not any(message is refusal.message for _, message in self._sending):
            raise refusal
        shown = ", ".join([*starts][:NAMED]) + (f" and {len(starts) - NAMED} more" if len(starts) > NAMED else "")
        log.error("what saga %s sends is parked (`sagabus dead-letters parked`): %s", shown, refusal)
        self._parked.update(starts)
        self._take_out(starts, str(refusal))

    def _take_out(self, starts: Mapping[str, int], reason: str, *, behind: bool = False) -> None:
        """Remove what waits of these sagas from their positions on, and remember it for the next turn."""
        first: dict[str, int] = {}

        def stays(row: Positioned) -> bool:
            position, saga = row[0], row[1].saga_id
            if position < starts.get(saga, position + 1):
                return True
            first.setdefault(saga, position)
            return False

        self._sending = list(filter(stays, self._sending))
        self._queue = list(filter(stays, self._queue))
        self._counts["parked"] += len(first)
        self.parkings += [Parking(saga, position, reason, behind) for saga, position in first.items()]

    def _end(self) -> None:
        self.ended = True
        self._moved.set()
