"""Which topics a subscription reads: some by name, and those that match a pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaRefused
from sagabus.messaging.bus.topic_admin import TopicInfo, TopicSpec


@dataclass(frozen=True, slots=True)
class TopicChoice:
    """`pattern` must match a topic's whole name; topics that are made later count too."""

    names: tuple[str, ...]
    pattern: str | None

    @property
    def regex(self) -> str:
        """One pattern for both: Kafka's clients subscribe to names or to a pattern."""
        choices = [re.escape(name) for name in self.names] + ([self.pattern] if self.pattern else [])
        return rf"(?:{'|'.join(choices)})\Z"

    async def require(self, kafka: Kafka) -> None:
        """The named topics must be there; on the embedded bus they are now. Raises KafkaRefused or KafkaUnreachable."""
        if kafka.embedded:
            await kafka.create_topics({name: TopicSpec(1) for name in self.names})
        elif missing := set(self.names) - (await kafka.topics(self.names)).keys():
            names = ", ".join(sorted(missing))
            raise KafkaRefused(f"there is no topic {names}: `sagabus topics` makes what is needed")

    async def found(self, kafka: Kafka) -> list[TopicInfo]:
        """Those that there are now. Raises KafkaUnreachable."""
        if not self.pattern:
            return [*(await kafka.topics(self.names)).values()]
        names = filter(re.compile(self.regex).match, await kafka.names())
        return [*(await kafka.topics([*names])).values()]
