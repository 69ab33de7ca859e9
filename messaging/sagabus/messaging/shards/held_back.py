"""The shards of which nothing is read because too much of theirs waits for Kafka (S9); the other shards go on.

Their partitions are closed, what was read of them already is left out, and both are read again once enough of what
waited has been acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiokafka import TopicPartition

from sagabus.messaging.background import Supervisor, cancelled
from sagabus.messaging.shards.membership import Membership
from sagabus.messaging.shards.tenure import Tenure

UNPUBLISHED_MESSAGES: Final = 20_000
"""Committed messages of one shard that may wait for Kafka before no more of its records are taken in (S9)."""


class HeldBack:
    """What touches tenures is called under the lock that guards them.

    reopen: called once when a tenure that was held back takes records in again. Not when it has ended: whoever acquires
    its shard again says where to read on.
    """

    def __init__(
        self, membership: Membership, *, reopen: Callable[[Tenure], Awaitable[None]], supervisor: Supervisor
    ) -> None:
        self._membership = membership
        self._reopen = reopen
        self._supervisor = supervisor
        self._waiting: dict[Tenure, asyncio.Task[None]] = {}

    async def others(self, tenures: Mapping[int, Tenure]) -> Mapping[int, Tenure]:
        """Those that take records in. The shards that are to be held back from here on are closed first."""
        for tenure in tenures.values():
            if tenure.relay.depth >= UNPUBLISHED_MESSAGES and tenure not in self._waiting and not tenure.ended:
                await self._close(tenure)
        if not self._waiting:
            return tenures
        return {shard: tenure for shard, tenure in tenures.items() if tenure not in self._waiting}

    async def stop(self) -> None:
        """Reopen nothing any more."""
        await cancelled([*self._waiting.values()])

    async def _close(self, tenure: Tenure) -> None:
        await self._membership.suspend([TopicPartition(topic, tenure.shard) for topic in tenure.offsets])
        self._waiting[tenure] = self._supervisor.spawn(self._wait(tenure), name=f"held back shard {tenure.shard}")

    async def _wait(self, tenure: Tenure) -> None:
        try:
            await tenure.relay.below(max(1, UNPUBLISHED_MESSAGES // 2))  # half: closing throws away what was fetched
            del self._waiting[tenure]
            await self._reopen(tenure)
        finally:
            self._waiting.pop(tenure, None)
