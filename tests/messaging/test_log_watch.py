"""What is told to Kafka for tools that show lag, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from aiokafka import TopicPartition

from sagabus.messaging.shards.log_watch import LogWatch


class Tenure:
    def __init__(self, **offsets: int) -> None:
        self.offsets = offsets

    @property
    def places(self) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, 0): at for topic, at in self.offsets.items()}


class Stand:
    """In the place of the tenures and of the group."""

    def __init__(self, **offsets: int) -> None:
        self.held = {0: Tenure(**offsets)}
        self.told: list[Mapping[TopicPartition, int]] = []
        self.takes = True

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        self.told.append(offsets)
        return self.takes


async def test_offsets_are_told_when_they_have_moved_and_again_where_that_failed() -> None:
    stand = Stand(commands=3)
    watch = LogWatch(cast("Any", stand), cast("Any", stand))
    stand.takes = False
    await watch.tell()
    stand.takes = True
    for _ in range(3):
        await watch.tell()
    stand.held[0].offsets["commands"] = 5
    for _ in range(3):
        await watch.tell()
    place = TopicPartition("commands", 0)
    assert stand.told == [{place: 3}, {place: 3}, {place: 5}]
