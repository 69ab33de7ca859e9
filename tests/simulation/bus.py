"""A simulated Kafka: topics, logs, consumer groups, and each process's clients of them.

Records keep their order within a partition and nowhere else. Everybody hears of a rebalance in his own time, so two
processes may believe for a while that they own the same shard. A bus may be replaced by an
empty one, a topic made anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Headers, Message, Record
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.bus.subscription import Assignment, SubscriptionListener

if TYPE_CHECKING:
    from tests.simulation.process import SimulatedProcess

SESSION = 6.0
"""Seconds after which a member that is silent is put out of its group."""

MOST = 50
"""Records of one poll."""


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record as it stands in a log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass
class Topic:
    """Its logs, by partition."""

    id: str
    partitions: int
    logs: list[list[LoggedRecord]]


@dataclass
class Bus:
    """One cluster at a time. fate: asked before each append: how often and after what pauses it arrives."""

    names: Sequence[str]
    partitions: int
    random: Random
    now: Callable[[], float]
    later: Callable[[float, Callable[[], None]], None]
    fate: Callable[[str], Sequence[float]]
    up: bool = True
    number: int = 0
    cluster: str = ""
    topics: dict[str, Topic] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Sagas whose messages it will not take, until somebody does something about it."""
    published: list[LoggedRecord] = field(default_factory=list)
    """All that ever stood in a log, in the order of appending."""

    def __post_init__(self) -> None:
        self.replace()

    def back(self) -> None:
        """It can be reached again."""
        self.up = True
        for group in self.groups.values():
            for stream in group.members:
                stream.wake()

    def replace(self) -> None:
        """An empty cluster in place of this one; nobody is in a group there yet."""
        self.number += 1
        self.cluster = f"cluster-{self.number}"
        self.topics = {}
        for name in self.names:
            self.make_anew(name)
        for group in self.groups.values():
            group.begin_anew()

    def make_anew(self, name: str) -> None:
        self.number += 1
        self.topics[name] = Topic(f"{name}-{self.number}", self.partitions, [[] for _ in range(self.partitions)])

    def send(self, message: Message) -> None:
        """What a producer hands over."""
        topic = self.topics.get(message.topic)
        if topic is None:
            self.make_anew(message.topic)
            topic = self.topics[message.topic]
        if message.partition is not None:
            partition = message.partition % topic.partitions
        else:
            partition = partition_of(message.key or b"", topic.partitions)
        for pause in self.fate(message.topic):
            if pause:
                self.later(pause, lambda: self.append(message, partition))
            else:
                self.append(message, partition)

    def append(self, message: Message, partition: int) -> None:
        topic = self.topics.get(message.topic)
        if topic is None:
            return
        log = topic.logs[partition]
        record = LoggedRecord(
            message.topic, partition, len(log), round(self.now() * 1000), message.key, message.value, message.headers
        )
        log.append(record)
        self.published.append(record)
        for group in self.groups.values():
            group.wake(record.topic)

    def group(self, name: str, pattern: str) -> Group:
        return self.groups.setdefault(name, Group(self, pattern))


@dataclass
class Group:
    """The consumer group of one service."""

    bus: Bus
    pattern: str
    generation: int = 0
    rebalances: int = 0
    members: list[Stream] = field(default_factory=list)

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(name for name in self.bus.topics if re.fullmatch(self.pattern, name))

    def join(self, stream: Stream) -> None:
        if stream not in self.members:
            self.members.append(stream)
            self.rebalance()

    def leave(self, stream: Stream) -> None:
        if stream in self.members:
            self.members.remove(stream)
            self.rebalance()

    def begin_anew(self) -> None:
        """The cluster knows no group; its members find out, and join."""
        self.generation = 0
        members, self.members = self.members, []
        for stream in members:
            self.bus.later(self.bus.random.uniform(0.0, 1.0), stream.rejoin)

    def rebalance(self) -> None:
        self.generation += 1
        shares: list[set[int]] = [set() for _ in self.members]
        start = self.bus.random.randrange(len(shares)) if shares else 0
        for shard in range(self.bus.partitions):
            if shares:
                shares[(start + shard) % len(shares)].add(shard)
        self.rebalances += 1
        for stream, share in zip(self.members, shares, strict=True):
            assignment = Assignment(frozenset(share), self.topics, self.generation)
            tell = partial(stream.tell, assignment, self.rebalances)
            self.bus.later(self.bus.random.choice((0.0, 0.01, 0.3, 1.0)), tell)

    def wake(self, topic: str) -> None:
        if re.fullmatch(self.pattern, topic):
            for stream in self.members:
                stream.wake()


class Stream:
    """A process's membership in a group. `Stream` of the code under test."""

    def __init__(
        self, process: SimulatedProcess, bus: Bus, *, group: str, pattern: str, listener: SubscriptionListener
    ):
        self.problem = ""
        self._process = process
        self._loop = process.loop  # of this life of the process
        self._bus = bus
        self._group = bus.group(group, pattern)
        self._listener = listener
        self._places: dict[TopicPartition, int] = {}
        self._done: dict[TopicPartition, int] = {}
        self._news: list[Assignment] = []
        self._assignment: Assignment | None = None
        self._bell = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._left = False
        self._heard = 0

    # What the group does. Called from outside of the process: it only leaves a note.

    def tell(self, assignment: Assignment, rebalance: int) -> None:
        if not self._left and self in self._group.members and rebalance > self._heard:
            self._heard = rebalance
            self._news.append(assignment)
            self.wake()

    def rejoin(self) -> None:
        if not self._left and self._loop.alive:
            self._group.join(self)

    def wake(self) -> None:
        if self._loop.alive:
            self._loop.call_soon(self._bell.set)

    # Stream.

    async def start(self) -> None:
        await self._process.boundary("bus")
        if not self._bus.up:
            raise KafkaUnreachable("no broker answers")
        self._group.join(self)
        self._process.streams.append(self)
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._poll())]

    async def stop(self, *, leave: bool | None = None) -> None:
        self._left = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._assignment is not None:
            self._assignment = None
            await self._listener.revoked()
        self._group.leave(self)
        if self in self._process.streams:
            self._process.streams.remove(self)

    async def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        assignment = self._assignment
        if assignment is None or any(place.partition not in assignment.shards for place in offsets):
            raise RuntimeError("not assigned")
        self._places |= offsets
        self._done |= offsets
        self._bell.set()

    async def suspend(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self._places.pop(partition, None)

    async def position(self, partition: TopicPartition) -> int | None:
        return self._done.get(partition)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        return True

    def expire(self) -> None:
        """The group has not heard of this member for a session's length."""
        self._group.leave(self)
        if not self._left and self._loop.alive:  # it finds out with its next heartbeat
            self._loop.call_later(self._bus.random.uniform(0.0, 0.5), self.rejoin)

    # In the process.

    async def _follow(self) -> None:
        while True:
            await self._bell.wait()
            if self._news:
                latest = self._news[-1]
                self._news.clear()
                await self._change(latest)
            elif self._strayed():
                assert self._assignment is not None
                await self._change(self._assignment)
            await asyncio.sleep(0.01)

    async def _change(self, assignment: Assignment) -> None:
        self._places, self._done = {}, {}
        if self._assignment is not None:
            self._assignment = None
            await self._listener.revoked()
        self._assignment = assignment
        pause = 0.2
        while not self._news:
            try:
                places = await self._listener.assigned(assignment)
            except Exception:
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
                continue
            if not self._news:
                self._places |= {place: at for place, at in places.items() if place.partition in assignment.shards}
                self._done |= self._places
                self._bell.set()
            return

    def _strayed(self) -> bool:
        """A place beyond a log's end: `auto_offset_reset=none` stops the consumer there."""
        return self._assignment is not None and any(at > len(self._log(place)) for place, at in self._places.items())

    async def _poll(self) -> None:
        while True:
            records, reached = self._next()
            if records:
                await self._hand_on(records, reached)
            else:
                self._bell.clear()
                if self._news or self._strayed():
                    self._bell.set()
                    await asyncio.sleep(0.02)
                else:
                    with suppress(TimeoutError):  # who is back after a while rings for nobody
                        async with asyncio.timeout(1.0 if not self._bus.up else None):
                            await self._bell.wait()
                await asyncio.sleep(self._bus.random.choice((0.0, 0.001, 0.005)))

    async def _hand_on(self, records: Sequence[Record], reached: Mapping[TopicPartition, int]) -> None:
        await self._process.boundary("bus")
        try:
            await self._listener.batch(records)
        except Exception:
            for record in reversed(records):
                self._places[TopicPartition(record.topic, record.partition)] = record.offset
            await asyncio.sleep(0.5)
            return
        self._done |= {place: at for place, at in reached.items() if self._places.get(place) == at}

    def _next(self) -> tuple[list[Record], Mapping[TopicPartition, int]]:
        if not self._bus.up:
            return [], {}
        found: list[Record] = []
        for place, at in list(self._places.items()):
            new = self._log(place)[at : at + MOST]
            found += new
            self._places[place] = at + len(new)
        return found, dict(self._places)

    def _log(self, place: TopicPartition) -> list[LoggedRecord]:
        topic = self._bus.topics.get(place.topic)
        return topic.logs[place.partition] if topic is not None else []


class Cluster:
    """A process's view of the bus apart from records. `Cluster` of the code under test."""

    def __init__(self, process: SimulatedProcess, bus: Bus) -> None:
        self._process = process
        self._bus = bus

    async def ping(self) -> None:
        """Always answers: it is for readiness alone, which no run looks at."""

    async def cluster_id(self) -> str:
        await self._reach()
        return self._bus.cluster

    async def topics(self, names: Collection[str]) -> Mapping[str, Topic]:
        await self._reach()
        return {name: topic for name, topic in self._bus.topics.items() if name in names}

    async def log_range(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        await self._reach()
        return {place: (0, len(self._bus.topics[place.topic].logs[place.partition])) for place in partitions}

    def producer(self) -> Producer:
        return Producer(self._process, self._bus)

    def close_unused(self) -> None: ...

    async def _reach(self) -> None:
        await self._process.boundary("bus")
        if not self._bus.up:
            raise KafkaUnreachable("no broker answers")


class Producer:
    """Publishes in order; what fails has been published up to somewhere."""

    def __init__(self, process: SimulatedProcess, bus: Bus) -> None:
        self._process = process
        self._bus = bus

    async def start(self) -> None:
        await self._process.boundary("bus")
        if not self._bus.up:
            raise KafkaUnreachable("no broker answers")

    async def stop(self) -> None: ...

    async def publish(self, messages: Sequence[Message]) -> None:
        cut = self._process.publish_fate(len(messages))
        for number, message in enumerate(messages):
            if number == cut:
                raise PublishFailed("connection lost; whether the last ones arrived is not known")
            await self._process.boundary("bus")
            if not self._bus.up:
                raise PublishFailed("no broker answers")
            if message.saga_id in self._bus.refused:
                raise PublishRefused(message, Reason.TOO_LARGE, "more than this broker takes")
            self._bus.send(message)
        await self._process.boundary("bus")
        if cut == len(messages):
            raise PublishFailed("connection lost before the acknowledgement")
