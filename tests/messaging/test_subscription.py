"""The subscription on a real broker and on the embedded bus: who gets what, from where, and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from sagabus.contracts.envelope import Message, Record
from sagabus.messaging.background import PartDied, Supervisor
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.subscription import Assignment, Subscription
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.counters import Counters, Family
from tests.messaging.clusters import Listener, message, numbers, places, publish, real_kafka, running
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port


async def made(cluster: Kafka, *topics: str, partitions: int = 4) -> None:
    await cluster.create_topics(dict.fromkeys(topics, TopicSpec(partitions)))


async def test_reads_from_where_the_listener_says(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    await publish(cluster, *(message(namespace, number, partition=number % 2) for number in range(20)))
    listener = Listener(lambda place: 7 if place.partition == 0 else 10)
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await listener.has(14, 16, 18)
        await publish(cluster, message(namespace, 21, partition=1))
        await listener.has(14, 16, 18, 21)
    assert listener.assignment is None, "stopping is told"


async def test_nothing_that_was_fetched_before_the_place_was_known_is_handed_on(real: Kafka, namespace: str) -> None:
    """Kafka holds another offset for the group, from which aiokafka would begin while the listener is still asked."""
    await made(real, namespace, partitions=1)
    place = TopicPartition(namespace, 0)
    await publish(real, *(message(namespace, number) for number in range(50)))
    earlier = Listener()
    counters = Counters()
    subscription = Subscription(real, group=namespace, topics=[namespace], listener=earlier, counters=counters)
    async with running(subscription):
        await earlier.has(*range(50))
        await subscription.commit({place: 3})
        assert counters.family(Family.OFFSET_COMMITS) == {"told": 1}

    class Slow(Listener):
        async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
            fetching = Listener(lambda _: 3)  # what aiokafka had time for, if it were let
            async with running(Subscription(real, group=f"{namespace}.other", topics=[namespace], listener=fetching)):
                await fetching.has(*range(3, 50))
            return await super().assigned(assignment)

    listener = Slow(lambda _: 40)
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=listener)):
        await listener.has(*range(40, 50))


async def test_nothing_that_was_fetched_before_a_seek_is_handed_on(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    place = TopicPartition(namespace, 0)
    await publish(cluster, *(message(namespace, number) for number in range(30)))
    other = Listener()

    class SeeksOnce(Listener):
        async def batch(self, records: Sequence[Record]) -> None:
            await super().batch(records)
            if self.batches == 1:
                async with running(Subscription(cluster, group=f"{namespace}.o", topics=[namespace], listener=other)):
                    await other.has(*range(30))  # meanwhile aiokafka fetches what comes after this batch
                await subscription.seek({place: 20})

    listener = SeeksOnce()
    subscription = Subscription(cluster, group=namespace, topics=[namespace], listener=listener, max_records=5)
    async with running(subscription):
        await listener.has(*range(5), *range(20, 30))
        assert listener.read == [*range(5), *range(20, 30)]
        await subscription.seek({place: 28})
        await listener.has(*range(5), *range(20, 30), 28, 29)
        with pytest.raises(IllegalStateError):
            await subscription.seek({TopicPartition(namespace, 99): 0})


async def test_partition_that_is_left_out_stays_closed_until_seek(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    await publish(cluster, *(message(namespace, number, partition=number) for number in range(2)))

    class LeavesOneOut(Listener):
        async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
            offsets = await super().assigned(assignment)
            return {place: offset for place, offset in offsets.items() if place.partition != 0}

    listener, place = LeavesOneOut(), TopicPartition(namespace, 0)
    subscription = Subscription(cluster, group=namespace, topics=[namespace], listener=listener)
    async with running(subscription):
        await listener.has(1)
        assert await subscription.position(place) is None
        await publish(cluster, message(namespace, 3, partition=1))
        await listener.has(1, 3)
        await subscription.seek({place: 0})
        await listener.has(0, 1, 3)
        assert await subscription.position(place) == 1


async def test_records_come_as_they_were_written(cluster: Kafka, namespace: str) -> None:
    """Null and non-UTF-8 headers make FastStream's own parser skip the record without a word."""
    await made(cluster, namespace)
    headers = (("null", None), ("bytes", b"\xff\xfe"), ("twice", b"1"), ("twice", b"2"), ("", b""))
    odd = Message.of(namespace, None, None, headers, "S", 2)
    await publish(cluster, odd, Message.of(namespace, b"\xff", b"\xff", (), "S", 2), message(namespace, 3, partition=2))
    listener = Listener()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await until(lambda: len(listener.records) == 3)
    first, second, third = listener.records
    assert (first.key, first.value) == (None, None)
    assert list(first.headers) == list(headers)
    assert (second.key, second.value, tuple(second.headers)) == (b"\xff", b"\xff", ())
    assert (third.topic, third.partition, third.offset) == (namespace, 2, 2)
    assert third.timestamp > 1_700_000_000_000


async def test_batch_that_fails_comes_again_and_nothing_is_skipped(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    await publish(cluster, *(message(namespace, number, partition=number % 3) for number in range(60)))

    class FailsEveryOther(Listener):
        async def batch(self, records: Sequence[Record]) -> None:
            self.batches += 1
            if self.batches % 2:
                raise RuntimeError("as it happens")
            self.records.extend(records)

    listener = FailsEveryOther()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener, max_records=25)):
        await listener.has(*range(60))
    for partition in range(3):
        assert numbers([r for r in listener.records if r.partition == partition]) == list(range(partition, 60, 3))


async def test_listener_that_cannot_take_is_asked_again(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    await publish(cluster, message(namespace, 1))

    class SecondTime(Listener):
        async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
            offsets = await super().assigned(assignment)
            if len(self.told) == 1:
                raise RuntimeError("no database")
            return offsets

    listener = SecondTime()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await listener.has(1)
    assert listener.told[0] == listener.told[1]
    assert listener.told[2:] == [None]


async def test_s6_place_beyond_the_log_is_asked_for_again(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    await publish(cluster, message(namespace, 1))
    listener = Listener(lambda place: 1000 if place.partition == 0 and len(listener.told) < 2 else 0)
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await listener.has(1)
    assert listener.told == [listener.told[0], None, listener.told[0], None]


async def test_position_counts_what_was_dealt_with(cluster: Kafka, namespace: str) -> None:
    await made(cluster, namespace)
    place, release = TopicPartition(namespace, 0), asyncio.Event()
    await publish(cluster, *(message(namespace, number) for number in range(5)))

    class Waits(Listener):
        async def batch(self, records: Sequence[Record]) -> None:
            await super().batch(records)
            await release.wait()

    listener = Waits()
    subscription = Subscription(cluster, group=namespace, topics=[namespace], listener=listener)
    async with running(subscription):
        await listener.has(*range(5))
        assert await subscription.position(place) == 0, "the batch is still being dealt with"
        release.set()
        position: int | None = await until(lambda: subscription.position(place))
        assert position == 5
    assert await subscription.position(place) is None


async def test_pattern_finds_a_topic_that_is_made_later(cluster: Kafka, namespace: str) -> None:
    fixed, first, later = f"{namespace}.requests", f"{namespace}.replies.one", f"{namespace}.replies.two"
    await made(cluster, fixed, first, f"{namespace}.replies.no.match", f"x{namespace}.requests")
    listener = Listener()
    pattern = rf"{namespace}\.replies\.[a-z]{{3}}"
    async with running(Subscription(cluster, group=namespace, topics=[fixed], pattern=pattern, listener=listener)):
        await publish(cluster, message(fixed, 1), message(first, 2), message(f"{namespace}.replies.no.match", 3))
        await listener.has(1, 2)
        assert listener.topics == {fixed, first}
        await made(cluster, later)
        await publish(cluster, message(later, 4, partition=3))
        await until(lambda: listener.topics == {fixed, first, later})
        await until(lambda: 4 in listener.read)
    assert None in listener.told[:-1], "the first assignment ended before the second began"


async def test_embedded_bus_has_no_group(embedded: Kafka, namespace: str) -> None:
    listener, counters = Listener(), Counters()
    subscription = Subscription(
        embedded, group=namespace, topics=["t"], listener=listener, instance="one", counters=counters
    )
    async with running(subscription) as one:
        await until(lambda: listener.assignment)
        assert listener.assignment == Assignment(frozenset(range(4)), frozenset({"t"}), 0)
        await one.commit({TopicPartition("t", 0): 0})
        assert counters.family(Family.OFFSET_COMMITS) == {}


async def test_two_members_share_shards_over_all_topics(real: Kafka, namespace: str) -> None:
    topics = [f"{namespace}.requests", f"{namespace}.replies.a", f"{namespace}.replies.b"]
    await made(real, *topics, partitions=6)
    first, second = Listener(), Listener()
    async with running(Subscription(real, group=namespace, topics=topics, listener=first)):
        await first.owns(*range(6))
        alone = first.assignment
        async with running(Subscription(real, group=namespace, topics=topics, listener=second)):
            await until(lambda: len(first.shards) == len(second.shards) == 3)
            assert first.shards | second.shards == set(range(6))
            assert first.assignment
            assert second.assignment
            assert alone
            assert first.assignment.generation == second.assignment.generation > alone.generation
            assert first.assignment.topics == second.assignment.topics == set(topics)
            await publish(real, *(message(topic, n, partition=n) for topic in topics for n in range(6)))
            await until(lambda: len(first.records) + len(second.records) == 18)
            for listener in (first, second):
                assert {(r.topic, r.partition) for r in listener.records} == {*places(listener.assignment or alone)}
        await first.owns(*range(6))
        assert first.told.count(None) == 2
        assert second.assignment is None


async def test_shards_stay_with_their_member_when_others_come_and_go(real: Kafka, namespace: str) -> None:
    await made(real, namespace, partitions=6)
    listeners = [Listener() for _ in range(3)]
    members = [Subscription(real, group=namespace, topics=[namespace], listener=listener) for listener in listeners]
    async with running(members[0]):
        async with running(members[1]):
            await until(lambda: len(listeners[0].shards) == len(listeners[1].shards) == 3)
            before = [listener.shards for listener in listeners[:2]]
            async with running(members[2]):
                await until(lambda: all(len(listener.shards) == 2 for listener in listeners))
                assert all(listener.shards < had for listener, had in zip(listeners, before, strict=False))
                within = [listener.shards for listener in listeners[:2]]
            await until(lambda: all(len(listener.shards) == 3 for listener in listeners[:2]))
            assert all(had < listener.shards for listener, had in zip(listeners, within, strict=False))


async def test_assignment_may_end_while_the_listener_is_asked(real: Kafka, namespace: str) -> None:
    await made(real, namespace, partitions=2)
    await publish(real, message(namespace, 1), message(namespace, 2, partition=1))

    class NeverAnswersFirst(Listener):
        async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
            offsets = await super().assigned(assignment)
            if len(self.told) == 1:
                await asyncio.Event().wait()
            return offsets

    first, second = NeverAnswersFirst(), Listener()
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=first)):
        await first.owns(0, 1)
        async with running(Subscription(real, group=namespace, topics=[namespace], listener=second)):
            await until(lambda: len(first.shards) == len(second.shards) == 1)
            assert first.told[1] is None
            await until(lambda: sorted(first.read + second.read) == [1, 2])


async def test_more_members_than_shards(real: Kafka, namespace: str) -> None:
    await made(real, namespace, partitions=1)
    first, second = Listener(), Listener()
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=first)):
        async with running(Subscription(real, group=namespace, topics=[namespace], listener=second)):
            await until(lambda: first.assignment and second.assignment)
            await until(lambda: len(first.shards) + len(second.shards) == 1)
        await publish(real, message(namespace, 1))
        await first.has(1)


async def test_stop_waits_for_the_batch_and_leaves_the_group_at_once(real: Kafka, namespace: str) -> None:
    await made(real, namespace, partitions=2)
    begun, release = asyncio.Event(), asyncio.Event()

    class Waits(Listener):
        async def batch(self, records: Sequence[Record]) -> None:
            begun.set()
            await release.wait()
            await super().batch(records)

        async def revoked(self) -> None:
            assert self.records, "the batch is dealt with first"
            await super().revoked()

    leaving, staying = Waits(), Listener()
    member = Subscription(real, group=namespace, topics=[namespace], listener=leaving)
    await member.start()
    await publish(real, message(namespace, 1))
    await begun.wait()
    stopping = asyncio.create_task(member.stop())
    await asyncio.wait([stopping], timeout=0.1)
    assert not stopping.done()
    release.set()
    await stopping
    assert leaving.read == [1]
    assert leaving.assignment is None
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=staying)):
        async with asyncio.timeout(5):  # less than a session: the group knows that the first has left
            await staying.owns(0, 1)


async def test_nothing_of_a_member_goes_on_whose_listener_does_not_give_up_its_shards(
    real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat neither: it would connect anew, and go on in this process for ever."""
    monkeypatch.setattr("sagabus.messaging.bus.subscription.DRAIN_SECONDS", 0.2)
    monkeypatch.setattr("sagabus.messaging.bus.shard_consumer.STOP_SECONDS", 0.2)
    await made(real, namespace, partitions=2)
    revoking = asyncio.Event()

    class Hangs(Listener):
        async def revoked(self) -> None:
            revoking.set()
            await asyncio.Event().wait()

    hanging, other = Hangs(), Listener()
    first, second = (Subscription(real, group=namespace, topics=[namespace], listener=one) for one in (hanging, other))
    await first.start()
    await hanging.owns(0, 1)
    joining = asyncio.create_task(second.start())
    await revoking.wait()
    await first.stop()
    await joining
    await second.stop()
    assert [task for task in asyncio.all_tasks() if "heartbeat" in repr(task.get_coro())] == []


async def test_static_member_comes_back_to_its_shards_without_a_rebalance(real: Kafka, namespace: str) -> None:
    await made(real, namespace, partitions=4)
    one, two = Listener(), Listener()

    def member(listener: Listener, instance: str) -> Subscription:
        return Subscription(real, group=namespace, topics=[namespace], listener=listener, instance=instance)

    first, second = member(one, "one"), member(two, "two")
    await first.start()
    async with running(second):
        await until(lambda: len(one.shards) == len(two.shards) == 2)
        before, undisturbed = one.assignment, list(two.told)
        await first.stop()
        returned = member(one, "one")
        await returned.start()
        await until(lambda: one.assignment)
        assert one.assignment == before
        assert two.told == undisturbed
        await publish(real, *(message(namespace, n, partition=n) for n in range(4)))
        await until(lambda: len(one.records) + len(two.records) == 4)
        await returned.stop(leave=True)
        async with asyncio.timeout(5):  # less than a session
            await two.owns(0, 1, 2, 3)


async def test_missing_topic_and_missing_kafka_are_said(real: Kafka, namespace: str) -> None:
    missing = Subscription(real, group=namespace, topics=[namespace], listener=Listener())
    with pytest.raises(KafkaRefused, match=f"there is no topic {namespace}"):
        await missing.start()
    away = real_kafka(f"127.0.0.1:{free_port()}")
    with pytest.raises(KafkaUnreachable):
        await Subscription(away, group=namespace, pattern="x", listener=Listener()).start()
    with pytest.raises(KafkaUnreachable, match="not read at the moment"):
        await missing.seek({})


async def test_broker_that_restarts_loses_nothing(own_broker: KafkaBroker, namespace: str) -> None:
    cluster = real_kafka(own_broker.address)
    await made(cluster, namespace, partitions=2)
    listener = Listener()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await publish(cluster, *(message(namespace, n, partition=n % 2) for n in range(10)))
        await listener.has(*range(10))
        await asyncio.to_thread(own_broker.restart)
        await publish(cluster, *(message(namespace, n, partition=n % 2) for n in range(10, 20)))
        await until(lambda: set(listener.read) == set(range(20)))


async def test_s6_topic_that_was_gone_at_the_join_is_read_soon_after_it_is_made(
    own_broker: KafkaBroker, namespace: str
) -> None:
    """An empty bus has taken the place of the old one, and is set up under its members."""
    cluster = real_kafka(own_broker.address)
    await made(cluster, namespace, partitions=2)
    listener = Listener()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
        await listener.owns(0, 1)
        await asyncio.to_thread(own_broker.wipe)
        await listener.owns()
        await made(cluster, namespace, partitions=2)
        await until(lambda: listener.shards == {0, 1}, within=30, what="the topic's partitions are owned")
        await publish(cluster, message(namespace, 1))
        await listener.has(1)


async def test_consumer_that_breaks_is_replaced(real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's coordinator dies of an error that it does not foresee, and then nothing is read ever again."""
    await made(real, namespace, partitions=2)
    listener = Listener()
    subscription = Subscription(real, group=namespace, topics=[namespace], listener=listener)
    async with running(subscription):
        await until(lambda: listener.assignment)
        broken = subscription._consumer
        assert broken is not None

        async def dies(_: object) -> None:
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(broken._coordinator, "_maybe_do_autocommit", dies)
        broken._coordinator.request_rejoin()
        await until(lambda: subscription._consumer not in (None, broken))
        await publish(real, message(namespace, 1))
        await listener.has(1)


async def test_s14_who_dies_of_a_record_is_heard(embedded: Kafka, namespace: str) -> None:
    """FastStream's task would end without a word, and nothing be read any more."""

    class Panic(BaseException): ...

    class Dies(Listener):
        async def batch(self, records: Sequence[Record]) -> None:
            raise Panic("out of cheese")

    async def read() -> None:
        listener, supervisor = Dies(), Supervisor()
        async with (
            supervisor,
            running(
                Subscription(embedded, group=namespace, topics=[namespace], listener=listener, supervisor=supervisor)
            ),
        ):
            await publish(embedded, message(namespace, 1))
            await asyncio.Event().wait()

    await made(embedded, namespace)
    with pytest.raises(PartDied, match=f"the consumer of group {namespace} has died of Panic: out of cheese"):
        await asyncio.wait_for(read(), 60)


async def test_s14_two_processes_with_one_instance_are_named_and_do_not_take_turns_at_once(
    real: Kafka, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each one's joining ends the other's membership: six times a second, if they were let."""
    await made(real, namespace)
    listeners = Listener(), Listener()
    one, other = (
        Subscription(real, group=namespace, topics=[namespace], listener=listener, instance="node-0")
        for listener in listeners
    )
    async with running(one), running(other):
        await until(lambda: one.problem or other.problem, within=60)
        said = one.problem or other.problem
        assert f"another process is in the group {namespace} as SAGABUS_INSTANCE=node-0" in said
        working = listeners[1] if one.problem else listeners[0]
        await publish(real, message(namespace, 1))
        await until(lambda: 1 in working.read)
    [line] = [record for record in caplog.records if "SAGABUS_INSTANCE" in record.getMessage()]
    assert "joining again in 10 s" in line.getMessage()
