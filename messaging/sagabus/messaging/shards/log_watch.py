"""Holds tenures against what Kafka says of their logs: replaced or cut under them, or read to the end.

And tells Kafka how far they are, for tools that show lag.
"""

from __future__ import annotations

import logging

from aiokafka import TopicPartition

from sagabus.messaging.shards.membership import Membership
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.tenures import Tenures

log = logging.getLogger(__name__)


class LogWatch:
    """What touches tenures is called under the lock that guards the tenures."""

    def __init__(self, tenures: Tenures, membership: Membership) -> None:
        self._tenures = tenures
        self._membership = membership
        self._told: dict[TopicPartition, int] = {}

    async def strayed(self) -> list[Tenure]:
        """Tenures whose logs are not what they were (S6). Asks Kafka: not to be called under the lock."""
        before = {shard: (tenure, dict(tenure.offsets)) for shard, tenure in self._tenures.held.items()}
        logs = await self._tenures.logs(list(before))
        strayed = [tenure for shard, (tenure, offsets) in before.items() if tenure.strayed(logs[shard], offsets)]
        if strayed:
            log.warning("Kafka's logs were replaced or truncated while %s read them", strayed)
        return strayed

    async def catch_up(self) -> bool:
        """Whether a tenure has caught up by what was read without a record in it: transaction markers (H4)."""
        found = False
        for tenure in self._tenures.held.values():
            for topic, end in [*tenure.behind.items()]:
                position = await self._membership.position(TopicPartition(topic, tenure.shard))
                if position is not None and position >= end:
                    tenure.skip_to_end(topic)
                    found |= tenure.caught_up
        return found

    async def tell(self) -> None:
        """Commit the offsets to Kafka, if they have moved. Nothing depends on it."""
        offsets = {place: at for tenure in self._tenures.held.values() for place, at in tenure.places.items()}
        if offsets != self._told and await self._membership.commit(offsets):
            self._told = offsets
