"""This process's place in the consumer group, which it may have to give up and take again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from aiokafka import TopicPartition

from sagabus.messaging.backoff import Backoff, Reasons
from sagabus.messaging.bus.subscription import SubscriptionListener
from sagabus.messaging.shards.ports import Stream

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two attempts to join again; the pause doubles."""


class Subscribe(Protocol):
    """Makes a stream of records; called again each time the group is joined."""

    def __call__(self, *, listener: SubscriptionListener) -> Stream: ...


class Membership:
    """At most one stream at a time."""

    def __init__(self, subscribe: Subscribe, listener: SubscriptionListener) -> None:
        self._subscribe = subscribe
        self._listener = listener
        self._stream: Stream | None = None

    @property
    def problem(self) -> str:
        """Why nothing is read now, as far as the stream knows."""
        return "" if self._stream is None else self._stream.problem

    async def join(self) -> None:
        """Raises what Kafka raises."""
        # Kept before it starts: the listener may seek before `start` returns.
        self._stream = self._subscribe(listener=self._listener)
        try:
            await self._stream.start()
        except BaseException:
            await self.part()
            raise

    async def join_at_last(self) -> None:
        """Try until it works."""
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        reasons = Reasons()
        while True:
            try:
                return await self.join()
            except Exception as error:
                if reasons.new(error):
                    log.warning("the group cannot be joined yet, retrying: %s", error)
            await backoff.pause()

    async def part(self, *, for_good: bool = False) -> None:
        """Read no more, and leave the group; a static member keeps its place there unless `for_good`.

        Errors are logged: what Kafka has not heard, it finds out by the session's timeout.
        """
        stream = self._stream
        if stream is None:
            return
        try:
            await stream.stop(leave=for_good)
        except Exception as error:
            log.warning("leaving the group: %s", error)
        self._stream = None

    async def seek(self, places: Mapping[TopicPartition, int]) -> bool:
        """Read on from here. False if that was not possible, as in the middle of a rebalance."""
        if not places or self._stream is None:
            return not places
        try:
            await self._stream.seek(places)
        except Exception as error:
            log.warning("seek failed: %s", error)
            return False
        return True

    async def suspend(self, partitions: Collection[TopicPartition]) -> None:
        """Read nothing of these until a `seek`. Where that is not possible now, their records still come."""
        if self._stream is not None:
            try:
                await self._stream.suspend(partitions)
            except Exception as error:
                log.warning("partitions were not closed: %s", error)

    async def position(self, partition: TopicPartition) -> int | None:
        """Up to where the listener was given this partition, records without content included."""
        return None if self._stream is None else await self._stream.position(partition)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """For tools that show lag. Nothing depends on it. False if Kafka has not taken them."""
        return self._stream is not None and await self._stream.commit(offsets)
