"""Where the logs of partitions begin and end, asked of the brokers that lead them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from sagabus.messaging.bus.broker_questions import QUESTION_SECONDS, BrokerQuestions, Host
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.topic_admin import TopicAdmin
from sagabus.messaging.loop_time import monotonic

ASK_AGAIN_SECONDS: Final = 0.1
"""Until a partition that has no leader, or another one, is asked for again."""

NO_REPLICA: Final = -1
READ_COMMITTED: Final = 1

Offsets = dict[TopicPartition, int]


class LogRanges:
    """Not for the embedded bus. `leaders` of the admin are believed until a broker says that it does not lead."""

    def __init__(self, questions: BrokerQuestions, admin: TopicAdmin) -> None:
        self._questions = questions
        self._admin = admin

    async def of(self, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Offsets of the first record and of the one to come, or of the first in an open transaction.

        Raises KafkaUnreachable, at once if no broker answers, after ten seconds if a partition does not exist or has
        no leader; and KafkaRefused.
        """
        end = monotonic() + QUESTION_SECONDS
        while True:
            await self._know_leaders(places)
            try:
                starts = await self._offsets(places, OffsetResetStrategy.EARLIEST, end)
                ends = await self._offsets(places, OffsetResetStrategy.LATEST, end)
            except KafkaUnreachable:
                self._forget_leaders(places)
                if monotonic() + ASK_AGAIN_SECONDS > end:
                    raise
                await asyncio.sleep(ASK_AGAIN_SECONDS)
            else:
                return {place: (starts[place], ends[place]) for place in places}

    async def _know_leaders(self, places: Iterable[TopicPartition]) -> None:
        if unknown := {place.topic for place in places if place not in self._admin.leaders}:
            await self._admin.describe(unknown)

    def _forget_leaders(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            self._admin.leaders.pop(place, None)

    async def _offsets(self, places: Iterable[TopicPartition], which: int, end: float) -> Offsets:
        by_host: dict[Host, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for place in places:
            by_host[self._leader(place)][place.topic].append((place.partition, which))
        found: Offsets = {}
        for host, topics in by_host.items():
            question = OffsetRequest(NO_REPLICA, READ_COMMITTED, [*topics.items()])
            answer = await self._questions.ask(question, seconds=max(ASK_AGAIN_SECONDS, end - monotonic()), to=host)
            for topic, partitions in answer.topics:
                for number, code, _, offset in partitions:
                    if for_code(code) is not NoError:
                        raise KafkaUnreachable(f"Kafka does not say where {topic}/{number} ends: {_words(code)}")
                    found[TopicPartition(topic, number)] = offset
        return found

    def _leader(self, place: TopicPartition) -> Host:
        if place not in self._admin.leaders:
            raise KafkaUnreachable(f"no broker leads the partition {place.partition} of {place.topic}")
        return self._admin.leaders[place]


def _words(code: int) -> str:
    return str(for_code(code).message)
