"""aiokafka's consumer, made safe for offsets that are kept elsewhere.

A partition that was just assigned is *suspended*: nothing of it is fetched or handed on until somebody who knows says
where to read on (`place`). Three faults of aiokafka 0.14 are cured on the way:

- it starts to fetch from Kafka's committed offset before the listener has been asked, and hands that on;
- an error on one partition throws away what was drained from others in the same call, their positions moved on: after
  any error all partitions go back to what was really handed on;
- whoever waits for records meets errors of one partition, or of the group, as exceptions: they are told to an observer
  here, and the waiting goes on.

Besides, fetches go by sessions (`fetch_sessions`), who waits for records is woken early, the loss of the membership is
told to the observer, and `stop` ends in time. What it replaces or calls of aiokafka's own, to be read again with each
new version: `_client.send`, `_fetcher._proc_fetch_request`, and of `_coordinator` `_do_heartbeat`, `_do_rejoin_group`,
`reset_generation`, and the three that `stop` names.

It must never hand on a record that lies outside of what `place` said, and never skip one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, OffsetOutOfRangeError

from sagabus.messaging.bus.assignor import ShardAssignor
from sagabus.messaging.bus.bounded_codecs import BatchTooLarge, bounded
from sagabus.messaging.bus.fetch_sessions import FetchSessions
from sagabus.messaging.bus.lenient_fetch import fetch_leniently
from sagabus.messaging.loop_time import monotonic

log = logging.getLogger(__name__)

POLL_MS: Final = 1000
"""How long one look waits. A new record ends it at once."""

STOP_SECONDS: Final = 5.0

SESSION_SECONDS: Final = 6.0
"""The least that a broker takes by default (group.min.session.timeout.ms). So late a killed member is replaced."""

GROUP: Final = {
    "session_timeout_ms": int(SESSION_SECONDS * 1000),
    # A member hears of a rebalance with its next heartbeat.
    "heartbeat_interval_ms": 300,
    # For members to finish their turns when shards are dealt out anew; who takes longer is out.
    "rebalance_timeout_ms": 10_000,
    # A turn that takes longer than this hangs: others get the shards.
    "max_poll_interval_ms": 60_000,
}

METADATA_AGE_MS: Final = 5_000
"""At most so much later is a topic read from that is new to the pattern, or that is there again after it was gone: a
member that joined while its topic was missing has no partitions until then."""

FETCH_WAIT_MS: Final = 500
FETCH_WAIT_BY_HAND_MS: Final = 10
"""The embedded bus does not wake a waiting fetch, so this is its latency; less of it costs more of a core idle."""

ERROR_PAUSE_SECONDS: Final = 0.5
"""After an error. FastStream's own loop would sleep for five."""


class Observer(Protocol):
    """Who made the consumer, and looks after what it cannot cure."""

    def log_changed(self, partitions: Collection[TopicPartition]) -> None:
        """These have no record at the offset that was asked for. They are suspended."""

    def answered(self) -> None:
        """A broker has answered a fetch."""

    def member_lost(self, *, alive: bool) -> bool:
        """The group does not know this member any more. Whether it is to join anew at once.

        Called once for each membership. alive: the group has heard of it within the length of a session.
        """

    def broken(self, error: BaseException) -> None:
        """This consumer will hand nothing on any more. Said again and again."""


class ShardConsumer(AIOKafkaConsumer):  # type: ignore[misc]    # aiokafka has no types
    """Without a group, partitions are assigned by hand: `subscribe`, which FastStream calls, does nothing then."""

    def __init__(self, *, observer: Observer, group: str | None, instance: str | None, **connection: Any) -> None:
        """`connection`: `KafkaConnection.aiokafka`. Not started, and subscribed to nothing yet."""
        super().__init__(
            **connection,
            **GROUP,
            group_id=group,
            group_instance_id=instance if group else None,
            partition_assignment_strategy=(ShardAssignor(),),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",  # what an outside application took back was never said
            metadata_max_age_ms=METADATA_AGE_MS,
            consumer_timeout_ms=POLL_MS,  # of aiokafka's fetcher, which is woken by all that it waits for
            fetch_max_wait_ms=FETCH_WAIT_MS if group else FETCH_WAIT_BY_HAND_MS,
        )
        self._client.send = FetchSessions(self._client.send, heard=observer.answered).send
        self._observer = observer
        self._handed_on: dict[TopicPartition, int] = {}
        """The next offset of each partition that is not suspended."""
        self._batch: dict[TopicPartition, int] = {}
        """Where the batch that was handed on last begins, without partitions that were placed or suspended since."""
        self._overtaken = False
        self._heard_at = float("-inf")
        """Monotonic seconds of the group's last good answer to a heartbeat, or to a joining."""

    @property
    def generation(self) -> int:
        """Of the group; 0 without one. Read it where partitions are assigned: it moves on."""
        return 0 if self._group_id is None else int(self._coordinator.generation)

    def subscribe(self, *args: Any, **options: Any) -> None:
        if self._group_id is not None:
            super().subscribe(*args, **options)

    def leave_for_good(self) -> None:
        """Let `stop` leave the group for a static member too (KIP-345): its shards go to others at once."""
        if self._coordinator is not None:
            self._coordinator._group_instance_id = None

    async def start(self) -> None:
        await super().start()
        self._wake_early()
        if self._group_id is not None:
            self._watch_membership(self._coordinator)

    def _watch_membership(self, coordinator: Any) -> None:
        """aiokafka tells of each answer to a member that is not known: the first one is the loss, the rest its echo."""
        forget = coordinator.reset_generation

        def hearing(ask: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
            async def asked(*arguments: Any) -> bool:
                if heard := await ask(*arguments):
                    self._heard_at = monotonic()
                return heard

            return asked

        def forgotten() -> None:
            alive = monotonic() - self._heard_at < SESSION_SECONDS
            if not coordinator.member_id or self._observer.member_lost(alive=alive):
                forget()

        coordinator._do_heartbeat = hearing(coordinator._do_heartbeat)
        coordinator._do_rejoin_group = hearing(coordinator._do_rejoin_group)
        coordinator.reset_generation = forgotten

    def _wake_early(self) -> None:
        """Whoever waits for records goes on before aiokafka's fetcher looks through all partitions for the next fetch.

        By itself the fetcher looks through them first, finds that records are still there, and does so again once they
        are taken: twice for each answer, and the first time while the records wait.
        """
        fetcher = self._fetcher
        fetch = fetcher._proc_fetch_request

        async def fetched(*request: Any) -> bool:
            found = bool(await fetch(*request))
            if found:
                for waiter in fetcher._fetch_waiters:
                    fetcher._notify(waiter)
            return found

        fetcher._proc_fetch_request = fetched

    async def stop(self) -> None:
        """aiokafka's own waits for a rebalance that is under way, which lasts until the slowest member has joined.

        What it would have ended after that is ended here. A heartbeat that went on would connect anew, for ever.
        """
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await super().stop()
        except TimeoutError:
            for end in (
                self._coordinator._stop_heartbeat_task,
                self._coordinator._stop_commit_offsets_refresh_task,
                self._coordinator._maybe_leave_group,
            ):
                with suppress(KafkaError, asyncio.CancelledError):
                    await end()
            await self._fetcher.close()
            await self._client.close()

    def suspend(self, partitions: Collection[TopicPartition]) -> None:
        """Hand on nothing of these. They must be assigned.

        A position of their own keeps aiokafka from asking for the group's committed offset.
        """
        self.pause(*partitions)
        for partition in partitions:
            self.seek(partition, 0)
            self._forget(partition)

    def let_go(self) -> None:
        """Hand on nothing at all: the assignment ends."""
        for partition in [*self._handed_on]:
            self._forget(partition)

    def place(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read on from here; suspended no longer. Raises IllegalStateError for a partition that is not assigned; the
        others are in place then."""
        missing = [partition for partition in offsets if partition not in self.assignment()]
        for partition, offset in offsets.items():
            if partition not in missing:
                self.seek(partition, offset)
                self._forget(partition)
                self._handed_on[partition] = offset
                self.resume(partition)
        if missing:
            raise IllegalStateError(f"not assigned: {missing}")

    async def read_to(self, partition: TopicPartition) -> int | None:
        """The offset up to which records have been read and dealt with, control records too; None if suspended."""
        if partition not in self._handed_on:
            return None
        begun = self._batch.get(partition)
        return int(await self.position(partition)) if begun is None else begun

    async def getmany(
        self, *_: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Never empty, and never an error: it waits until there is something. Ends with ConsumerStoppedError."""
        self._batch = {}
        while True:
            fetched = await self._fetched(max_records)
            ready = {partition: records for partition, records in fetched.items() if partition in self._handed_on}
            if ready:
                self._hand_on(ready)
                return ready

    def undisturbed(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Of the batch that was handed on last, what was not overtaken by `place`, `suspend` or `let_go`."""
        if not self._overtaken:
            return records
        return [record for record in records if TopicPartition(record.topic, record.partition) in self._batch]

    def hand_on_again(self) -> None:
        """The batch that was handed on last was not dealt with: read it again."""
        for partition, offset in self._batch.items():
            self._handed_on[partition] = offset
        self._batch = {}
        self._go_back()

    async def _fetched(self, max_records: int | None) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            with bounded():
                return dict(await super().getmany(timeout_ms=POLL_MS, max_records=max_records))
        except ConsumerStoppedError:
            raise
        except (UnicodeDecodeError, BatchTooLarge):
            return await self._fetched_leniently(max_records)
        except OffsetOutOfRangeError as error:
            self._go_back()
            self._log_changed([partition for partition in error.args[0] if partition in self._handed_on])
        except Exception as error:
            self._go_back()
            log.warning("reading from Kafka: %s", str(error) or type(error).__name__, exc_info=_trace(error))
            self._look_for_the_end()
            await asyncio.sleep(ERROR_PAUSE_SECONDS)
        return {}

    async def _fetched_leniently(self, max_records: int | None) -> dict[TopicPartition, list[ConsumerRecord]]:
        self._go_back()
        wanted = dict(self._handed_on)
        try:
            found = await fetch_leniently(self._client, wanted, most=max_records)
        except KafkaError as error:
            log.warning("reading from Kafka: %s", error)
            await asyncio.sleep(ERROR_PAUSE_SECONDS)
            return {}
        still = {place for place, offset in wanted.items() if self._handed_on.get(place) == offset}
        fetched = {place: records for place, records in found.items() if place in still}
        for place, records in fetched.items():
            self.seek(place, records[-1].offset + 1)
        return fetched

    def _hand_on(self, ready: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        self._overtaken = False
        for partition, records in ready.items():
            self._batch[partition] = self._handed_on[partition]
            self._handed_on[partition] = records[-1].offset + 1

    def _log_changed(self, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self.suspend(partitions)
            self._observer.log_changed(partitions)

    def _go_back(self) -> None:
        """Positions may have moved over records that were drained and lost."""
        for partition in self.assignment().intersection(self._handed_on):
            self.seek(partition, self._handed_on[partition])

    def _look_for_the_end(self) -> None:
        """A background task of aiokafka's that died of an error never comes back."""
        for task in (getattr(self._coordinator, "_coordination_task", None), self._fetcher.error_future):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()):
                self._observer.broken(error)

    def _forget(self, partition: TopicPartition) -> None:
        self._handed_on.pop(partition, None)
        self._batch.pop(partition, None)
        self._overtaken = True


def _trace(error: Exception) -> Exception | None:
    """Kafka's errors say all in their sentence."""
    return None if isinstance(error, KafkaError) else error
