"""What ownership of shards needs from others: a processor that decides, a bus, a stream of records.

`Processor` is implemented by the coordinator and by the participant kit; the rest by the Kafka parts of this house.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Message, Record
from sagabus.messaging.shards.tenure import Tenure


class Processor(Protocol):
    """What a service does with its shards. One call at a time, but for turns over different shards (`Lanes`).

    What it remembers under a tenure belongs to that object, not to the shard's number: the same shard acquired again
    is another tenure, and begins with what the database says.
    """

    async def acquired(self, tenure: Tenure) -> None:
        """Load what the shard needs. Raising ends the tenure."""

    async def turn(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        """Take these records in, decide, commit with one `Turn` over all these tenures, tell the `Turn` so.

        Records are in order per topic, none lies before the tenure's offset. An empty sequence is the heartbeat, or
        something is due; timers of a tenure may fire only once it has caught up. Raising, or returning without a
        commit, ends all these tenures: they are acquired again, and the records come again.

        What takes several commits is broken off after the one under way once a tenure is `leaving`.
        """

    def lost(self, tenure: Tenure) -> None:
        """Drop all memory of it. Called once for each tenure that was given to `acquired`. Must not raise."""

    def next_due(self) -> float | None:
        """When the next timer is due, in seconds since 1970; None without one. Asked for after each turn.

        What has come to an end outside of any turn is no timer: `Tenure.request_turn` says so.
        """


class TopicFacts(Protocol):
    """A topic as Kafka has it."""

    @property
    def id(self) -> str: ...
    @property
    def partitions(self) -> int: ...


class Producer(Protocol):
    """Publishes for everybody in the process. Of what fails it alone does not know what arrived: it goes on."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def publish(self, messages: Sequence[Message]) -> None: ...


class Cluster(Protocol):
    """Kafka, apart from the records."""

    async def cluster_id(self) -> str: ...
    async def ping(self) -> None:
        """Whether it answers, within seconds. Raises KafkaUnreachable."""

    async def topics(self, names: Collection[str]) -> Mapping[str, TopicFacts]:
        """Those of these topics that exist."""

    async def log_range(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First offset and offset of the next record."""

    def producer(self) -> Producer: ...
    def close_unused(self) -> None:
        """Connections that are kept for the next question."""


class Stream(Protocol):
    """Records of the partitions that the group has given to this process. Started and stopped once."""

    @property
    def problem(self) -> str:
        """Why nothing is read now, in words; empty where nothing is known."""

    async def start(self) -> None: ...
    async def stop(self, *, leave: bool | None = None) -> None:
        """`leave`: also as a static member."""

    async def seek(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    async def suspend(self, partitions: Collection[TopicPartition]) -> None:
        """Hand on nothing of these until `seek`. Also called while the listener has a batch."""

    async def position(self, partition: TopicPartition) -> int | None:
        """The offset up to which the listener has dealt with it, control records included; None if it is not read."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """For tools that show lag; nothing depends on it. False if Kafka has not taken them."""
