"""Ownership of shards, on a real PostgreSQL and a bus in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import pytest
from aiokafka import TopicPartition

from sagabus.contracts.envelope import Record
from sagabus.messaging.bus.publish_errors import PublishFailed
from sagabus.messaging.shards import ownership, shard_row, tenures, wakeups
from sagabus.messaging.shards.lanes import Lanes
from sagabus.messaging.shards.ownership import NoSuchTopic
from sagabus.messaging.shards.shard_row import PartitionsChanged
from sagabus.messaging.shards.tenure import Tenure
from tests.messaging.shards_fixture import Condition, Given
from tests.messaging.toy_bus import ToyBus
from tests.messaging.toy_world import Process, World
from tests.support.conditions import until
from tests.support.postgres import PostgresServer


async def test_each_record_is_counted_once_and_what_follows_is_published_in_order(world: World, bus: ToyBus) -> None:
    process = await world.process()
    for shard in range(4):
        bus.put("in", shard, *range(shard * 100, shard * 100 + 50))
    process.stream.most = 17
    await process.stream.assign(0, 1, 2, 3)
    await process.counted(*(shard * 100 + number for shard in range(4) for number in range(50)))
    await until(lambda: len(bus.recorder.sent) == 200)
    for shard in range(4):
        published = [int(m.value or b"") for m in bus.recorder.sent if m.partition == shard]
        assert published == [*range(shard * 100, shard * 100 + 50)]


async def test_records_of_many_shards_share_a_turn(world: World, bus: ToyBus) -> None:
    process = await world.process()
    for shard in range(4):
        bus.put("in", shard, "a", "b")
    await process.stream.assign(0, 1, 2, 3)
    await process.counted(*"abababab")
    assert {0: 2, 1: 2, 2: 2, 3: 2} in process.processor.turns


async def test_turns_over_different_shards_are_under_way_at_once(world: World, bus: ToyBus) -> None:
    process = await world.process(lanes=Lanes(most=2, worth=4))
    process.processor.meeting = asyncio.Barrier(2)  # a turn that is alone waits here for ever
    for shard in range(4):
        bus.put("in", shard, *range(shard * 10, shard * 10 + 3))
    await process.stream.assign(0, 1, 2, 3)
    await process.counted(*(shard * 10 + number for shard in range(4) for number in range(3)))
    assert {0: 3, 2: 3} in process.processor.turns
    assert {1: 3, 3: 3} in process.processor.turns


async def test_a_turn_that_fails_ends_no_other_one_that_is_under_way(world: World, bus: ToyBus) -> None:
    process = await world.process(lanes=Lanes(most=2, worth=4))
    process.processor.meeting = asyncio.Barrier(2)
    failures = [RuntimeError("the first try of shard 1")]

    def fail(work: Mapping[Tenure, Sequence[Record]]) -> None:
        if any(tenure.shard == 1 and records for tenure, records in work.items()):
            process.processor.meeting = None
            if failures:
                raise failures.pop()

    process.processor.after = fail
    for shard in range(4):
        bus.put("in", shard, *range(shard * 10, shard * 10 + 3))
    await process.stream.assign(0, 1, 2, 3)
    await process.counted(*(shard * 10 + number for shard in range(4) for number in range(3)))
    assert sorted({tenure.shard for tenure in process.processor.lost_}) == [1, 3]


async def test_records_before_the_stored_offset_are_dropped(world: World, bus: ToyBus) -> None:
    process = await world.process()
    bus.put("in", 0, "a", "b")
    await process.stream.assign(0)
    await process.counted("a", "b")
    await process.ownership.batch([*bus.logs[TopicPartition("in", 0)], Given("in", 0, 2, value=b"c")])
    await process.counted("a", "b", "c")


async def test_a_gap_is_believed_only_when_it_shows_again(world: World, bus: ToyBus) -> None:
    process = await world.process()
    await process.stream.assign(0)
    await process.ownership.batch([Given("in", 0, 5, value=b"a poll that crossed a seek"), Given("in", 0, 6)])
    assert process.stream.seeks[1:] == [{TopicPartition("in", 0): 0}]
    bus.put("in", 0, "a", "b")
    await process.counted("a", "b")
    bus.logs[TopicPartition("in", 0)].append(Given("in", 0, 9, value=b"after a gap in the log"))
    await process.counted("a", "b", "after a gap in the log")
    assert process.stream.seeks[2:] == [{TopicPartition("in", 0): 2}]


async def test_s1_a_zombie_counts_nothing(world: World, bus: ToyBus) -> None:
    """It still reads, it still believes to own the shard; the other one took it in a later generation."""
    zombie, owner = await world.process(), await world.process()
    bus.put("in", 0, "a")
    await zombie.stream.assign(0, generation=1)
    await zombie.counted("a")
    await owner.stream.assign(0, generation=2)
    bus.put("in", 0, *"bcdefgh")
    await owner.counted(*"abcdefgh")
    await until(lambda: zombie.held == [], what="the zombie has noticed")
    assert zombie.processor.lost_ == zombie.processor.taken_
    assert owner.held == [0]


async def test_s1_an_idle_tenure_notices_that_it_is_lost(world: World) -> None:
    zombie, owner = await world.process(), await world.process()
    await zombie.stream.assign(0, generation=1)
    await owner.stream.assign(0, generation=2)
    await until(lambda: zombie.held == [], within=5, what="the zombie has noticed")


async def test_what_the_group_has_given_is_known_whether_it_is_held_or_not(world: World) -> None:
    """Readiness compares the two."""
    process, other = await world.process(), await world.process()
    assert process.ownership.given is None, "it is in no group yet"
    await other.stream.assign(1, generation=2)
    await process.stream.assign(0, 1, generation=1)
    assert [process.ownership.given, process.held] == [{0, 1}, [0]]
    await process.stream.revoke()
    assert [process.ownership.given, process.held] == [None, []]


async def test_s3_a_live_member_that_was_fenced_takes_again(world: World, bus: ToyBus) -> None:
    """One that is still a member, and in the later generation, is the rightful owner whoever took last."""
    process = await world.process()
    await process.stream.assign(0, generation=2)
    assert world.shards is not None
    await world.shards.execute("UPDATE {shard} SET token = gen_random_uuid(), generation = 1")
    bus.put("in", 0, "a")
    await process.counted("a")
    assert len(process.processor.taken_) >= 2


async def test_s3_what_was_refused_is_taken_when_the_other_one_stands_still(
    world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka has forgotten the group: generations count from one again."""
    monkeypatch.setattr(shard_row, "STANDS_STILL_SECONDS", 1.5)
    gone = await world.process()
    await gone.stream.assign(0, generation=7)
    process = await world.process()
    bus.put("in", 0, "a")
    await process.stream.assign(0, generation=1)
    assert process.held == []
    await gone.ownership.stop()
    await process.counted("a")


async def test_s2_a_failed_turn_is_repeated_from_the_database(world: World, bus: ToyBus) -> None:
    process = await world.process()
    failures = _raising(process, times=2, shard=0)
    bus.put("in", 0, *"abc")
    await process.stream.assign(0)
    await process.counted(*"abc")
    assert failures == []
    assert len(process.processor.lost_) == 2


async def test_s2_a_commit_that_was_not_heard_of_is_not_repeated(world: World, bus: ToyBus) -> None:
    process = await world.process()
    lost = [TimeoutError("the answer to the commit was lost")]

    def after(work: Mapping[Tenure, Sequence[Record]]) -> None:
        if lost and any(work.values()):
            raise lost.pop()

    process.processor.after = after
    bus.put("in", 0, *"abc")
    await process.stream.assign(0)
    await until(lambda: lost == [])
    bus.put("in", 0, "d")
    await process.counted(*"abcd")
    await until(lambda: bus.recorder.sent[-1:] and bus.recorder.sent[-1].value == b"d")


async def test_a_shard_whose_seek_failed_is_taken_again(world: World, bus: ToyBus) -> None:
    """As in the middle of a rebalance. Without the seek its records would not come again."""
    process = await world.process()
    await process.stream.assign(0)
    _raising(process, times=1, shard=0)
    seek = process.stream.seek
    failed: list[Mapping[TopicPartition, int]] = []

    async def failing_once(offsets: Mapping[TopicPartition, int]) -> None:
        if not failed:
            failed.append(offsets)
            raise RuntimeError("not assigned just now")
        await seek(offsets)

    process.stream.seek = failing_once  # type: ignore[method-assign]
    bus.put("in", 0, "a")
    await process.counted("a")
    assert len(failed) == 1


async def test_a_turn_that_returns_without_a_commit_has_failed(world: World, bus: ToyBus) -> None:
    process = await world.process()
    real, process.processor.turn = process.processor.turn, _forgetful  # type: ignore[method-assign]
    bus.put("in", 0, "a")
    await process.stream.assign(0)
    await until(lambda: process.processor.lost_)
    process.processor.turn = real  # type: ignore[method-assign]
    await process.counted("a")


async def _poisoned(world: World) -> Process:
    """It has the shards 0 and 1 with a record each. Every turn over 0 fails; the record of 1 is counted."""
    process = await world.process()
    _raising(process, times=10**6, shard=0)
    for shard in (0, 1):
        world.bus.put("in", shard, f"{shard}a")
    await process.stream.assign(0, 1)
    await process.counted("1a")
    return process


async def test_a_poisoned_shard_takes_no_other_with_it(world: World, bus: ToyBus) -> None:
    process = await _poisoned(world)
    bus.put("in", 1, "1b", "1c")
    await process.counted("1a", "1b", "1c")
    assert sum(tenure.shard == 1 for tenure in process.processor.lost_) == 1  # once, with the first turn


async def test_s2_a_poisoned_shard_is_known_when_the_group_gives_it_anew(world: World, bus: ToyBus) -> None:
    """A turn that lets the process stand still costs its place in the group, which then gives all shards anew."""
    process = await _poisoned(world)
    for number in range(3):
        lost = len(process.processor.lost_) + 3  # both with the assignment, then 0 again
        bus.put("in", 1, f"1{number}")
        await process.stream.assign(0, 1)
        await _until_lost(process, lost)
    assert [turn for turn in process.processor.turns if turn.get(0) and 1 in turn] == [{0: 1, 1: 1}], "the first only"


async def test_a_shard_that_takes_nothing_in_is_told_of_until_it_does(
    world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenures, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(tenures, "LONGEST_PAUSE_SECONDS", 0.01)
    process = await world.process()
    _raising(process, times=15, shard=0)
    seen: list[str] = []
    before = process.processor.before

    def watched(work: Mapping[Tenure, Sequence[Record]]) -> None:
        seen.append(process.ownership.failing)
        before(work)

    process.processor.before = watched
    bus.put("in", 0, "a")
    await process.stream.assign(0, 1)
    await process.counted("a")
    await until(lambda: process.ownership.failing == "")
    told = list(dict.fromkeys(filter(None, seen)))
    assert told == [
        f"shard 0 takes no records in: {count} turns in a row have failed, the last of RuntimeError: poison"
        for count in range(10, 16)
    ]


async def test_s2_a_relay_that_fails_ends_the_tenure_and_the_rows_are_published_from_the_outbox(
    world: World, bus: ToyBus
) -> None:
    process = await world.process()
    bus.recorder.errors = [PublishFailed("unknown")]
    bus.put("in", 0, *range(5))
    await process.stream.assign(0)
    await until(lambda: bus.recorder.values == [*range(5)])
    assert len(process.processor.taken_) == 2


async def test_the_next_owner_publishes_what_the_last_one_committed(world: World, bus: ToyBus) -> None:
    bus.recorder.gate.clear()
    dead, owner = await world.process(), await world.process()
    bus.put("in", 0, *range(3))
    await dead.stream.assign(0, generation=1)
    await dead.counted(0, 1, 2)
    await dead.stream.revoke()
    await owner.stream.assign(0, generation=2)
    bus.put("in", 0, 3)
    await owner.counted(0, 1, 2, 3)
    bus.recorder.gate.set()
    await until(lambda: bus.recorder.values == [0, 1, 2, 3])


async def test_an_idle_shard_stores_its_relays_position(world: World, bus: ToyBus) -> None:
    process = await world.process()
    bus.put("in", 0, *range(3))
    await process.stream.assign(0)
    await _until_relayed(process, 3)
    assert await process.shards.rows("outbox") == []


async def test_a_due_timer_gets_a_turn_at_once(world: World, bus: ToyBus) -> None:
    process = await world.process()
    await process.stream.assign(0, 1)
    await until(lambda: len(process.processor.turns) >= 1)
    began = process.processor.due[1] = time.time() + 0.15
    bus.put("in", 0, 0)  # a turn may set a timer: it is asked for after each
    await until(lambda: process.processor.fired, every=0.005)
    assert time.time() - began < 0.1


async def test_kafka_that_does_not_answer_is_known_and_so_is_its_return(
    world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ownership, "PING_PAUSE_SECONDS", 0.005)
    process = await world.process()
    await process.stream.assign(0)
    bus.away = "Kafka is unreachable"
    await until(lambda: process.ownership.kafka_away == "Kafka is unreachable")
    bus.away = "Kafka is unreachable, for another reason"
    await until(lambda: process.ownership.kafka_away == bus.away)
    bus.away = ""
    await until(lambda: process.ownership.kafka_away == "")
    assert [one.getMessage() for one in caplog.records if "unreachable" in one.getMessage()] == [
        "Kafka is unreachable; retrying until it answers"
    ]


async def test_why_a_shard_is_not_held_is_known_and_logged_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tenures, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(tenures, "LONGEST_PAUSE_SECONDS", 0.01)
    process = await world.process()
    await process.shards.execute("ALTER TABLE {shard} RENAME TO away")
    await process.stream.assign(0, 1)
    await until(lambda: "shard" in process.ownership.problem)
    wanted = process.ownership._tenures._wanted[0]
    await until(lambda: wanted.failures > 5)
    assert len([one for one in caplog.records if "shard 0 not acquired" in one.getMessage()]) == 1
    async with process.shards.database.transaction() as connection:
        await connection.execute(f'ALTER TABLE "{process.shards.schema}".away RENAME TO shard')
    await until(lambda: len(process.ownership.tenures) == 2)
    assert process.ownership.problem == ""


async def test_who_requests_a_turn_gets_one_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "HEARTBEAT_SECONDS", 1e9)  # longer than any machine has been up
    process = await world.process()
    await process.stream.assign(0, 1)
    await until(lambda: len(process.ownership.tenures) == 2)
    tenure = process.ownership.tenures[1]
    tenure.request_turn()
    await until(lambda: {1: 0} in process.processor.turns)
    assert not tenure.turn_requested


async def test_h4_no_timer_fires_before_every_topic_was_taken_in_up_to_its_end(world: World, bus: ToyBus) -> None:
    bus.make("other")
    bus.put("in", 0, *range(3))
    bus.put("other", 0, 3)
    process = await world.process()
    process.processor.due[0] = 0.0
    delayed, bus.logs[TopicPartition("other", 0)] = bus.logs[TopicPartition("other", 0)], []
    bus.ends[TopicPartition("other", 0)] = 1  # Kafka says that there is one more record, and has not handed it on yet
    _hold_position(process, 0)
    await process.stream.assign(0, topics=("in", "other"))
    await process.counted(0, 1, 2)
    beats = len(process.processor.turns)
    await until(lambda: len(process.processor.turns) >= beats + 2)
    assert process.processor.fired == []
    bus.logs[TopicPartition("other", 0)] = delayed
    await until(lambda: process.processor.fired, within=5)
    await process.counted(0, 1, 2, 3)


async def test_h4_records_without_content_at_the_end_do_not_hold_timers_for_ever(world: World, bus: ToyBus) -> None:
    bus.put("in", 0, "a")
    bus.ends[TopicPartition("in", 0)] = 2  # the marker of a transaction
    process = await world.process()
    process.processor.due[0] = 0.0
    await process.stream.assign(0)
    await until(lambda: process.processor.fired == [(0, True)], within=10)
    bus.logs[TopicPartition("in", 0)].append(Given("in", 0, 2, value=b"b"))
    await process.counted("a", "b")


async def test_a_timer_of_a_tenure_that_is_behind_does_not_spin(world: World, bus: ToyBus) -> None:
    bus.ends[TopicPartition("in", 0)] = 1
    process = await world.process()
    _hold_position(process, 0)
    process.processor.due[0] = 0.0
    await process.stream.assign(0, 1)
    await until(lambda: len(process.processor.turns) >= 4)
    began, turns = time.monotonic(), len(process.processor.turns)
    await until(lambda: len(process.processor.turns) >= turns + 6)
    assert time.monotonic() - began > 1.5


async def test_s6_a_topic_that_was_made_again_is_read_from_its_start(
    world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new log has grown past our offset before anybody looked: only the id tells."""
    monkeypatch.setattr(ownership, "LOG_WATCH_SECONDS", 0.1)
    process = await world.process()
    bus.put("in", 0, "a", "b")
    await process.stream.assign(0)
    await process.counted("a", "b")
    bus.make("in", id="another")
    bus.put("in", 0, "c", "d", "e")
    await _until_last(process, "cde")  # what was read of it before that comes again
    assert process.processor.new_logs == [("in",)]


async def test_s6_an_embedded_bus_that_starts_again_is_a_new_log(world: World, bus: ToyBus) -> None:
    first = await world.process()
    bus.put("in", 0, "a")
    await first.stream.assign(0)
    await first.counted("a")
    await first.ownership.stop()
    bus.make("in", id="of the next bus")
    bus.put("in", 0, "b")
    second = await world.process()
    await second.stream.assign(0)
    await second.counted("a", "b")
    assert second.processor.new_logs == [("in",)]


async def test_s10_without_a_database_the_group_is_left_until_it_is_back(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "LEAVE_AFTER_SECONDS", 0.2)
    with PostgresServer() as server:
        async with AsyncExitStack() as stack:
            world = World(server.url(), namespace, stack)
            world.bus.make("in")
            process = await world.process()
            await process.stream.assign(0)
            world.bus.put("in", 0, "a")
            await process.counted("a")
            server.stop_immediately()
            await until(process.stream.stopped.is_set)
            await until(lambda: process.held == [])
            assert process.stream.left
            server.start()
            await until(lambda: len(process.streams) == 2 and process.stream.started.is_set())
            world.bus.put("in", 0, "b")
            await process.stream.assign(0)
            await process.counted("a", "b")


async def test_a_database_that_is_away_for_a_moment_is_waited_for(namespace: str) -> None:
    with PostgresServer() as server:
        async with AsyncExitStack() as stack:
            world = World(server.url(), namespace, stack)
            world.bus.make("in")
            process = await world.process()
            await process.stream.assign(0)
            server.stop_immediately()
            world.bus.put("in", 0, "a")
            await until(lambda: process.held == [])
            server.start()
            await process.counted("a")
            assert len(process.streams) == 1


async def test_s11_another_number_of_partitions_is_refused_at_the_start(world: World, bus: ToyBus) -> None:
    first = await world.process()
    await first.stream.assign(0)
    bus.make("in", partitions=6)
    with pytest.raises(PartitionsChanged, match="put the topic back with 4"):
        await world.process()


async def test_a_missing_topic_is_named_at_the_start(world: World, bus: ToyBus) -> None:
    bus.topics_.clear()
    with pytest.raises(NoSuchTopic, match="`sagabus topics`"):
        await world.process()


async def test_stop_flushes_stores_and_leaves(world: World, bus: ToyBus) -> None:
    process = await world.process()
    bus.put("in", 0, *range(50))
    bus.recorder.gate.clear()
    await process.stream.assign(0, 1)
    await process.counted(*range(50))
    stopping = asyncio.create_task(process.ownership.stop())
    await until(process.ownership._lock.locked)
    bus.recorder.gate.set()
    await stopping
    assert bus.recorder.values == [*range(50)]
    assert await process.shards.rows("outbox") == []
    assert process.stream.stopped.is_set()
    assert process.stream.committed[TopicPartition("in", 0)] == 50
    assert set(process.processor.lost_) == set(process.processor.taken_)
    await process.ownership.stop()


async def test_a_revoked_shard_is_lost_and_another_ones_records_are_dropped(world: World, bus: ToyBus) -> None:
    process = await world.process()
    await process.stream.assign(0, 1)
    await process.stream.assign(1, generation=2)
    bus.put("in", 1, "a")
    await process.ownership.batch([Given("in", 0, 0, value=b"not ours")])
    await process.counted("a")
    assert [tenure.shard for tenure in process.processor.lost_] == [0, 1]
    assert [tenure.shard for tenure in process.processor.taken_] == [0, 1, 1]


async def test_a_member_that_is_waited_for_begins_no_further_turn_of_a_batch(world: World, bus: ToyBus) -> None:
    """Suspects have turns of their own; each may wait for a row of a process whose shards nobody gets meanwhile."""
    process = await _poisoned(world)
    await process.stream.assign(0, 1)
    begun = len(process.processor.turns)
    revoking: list[asyncio.Task[None]] = []

    def before(work: Mapping[Tenure, Sequence[Record]]) -> None:
        if any(work.values()) and not revoking:
            revoking.append(asyncio.create_task(process.stream.revoke()))

    process.processor.before = before
    await process.ownership.batch([Given("in", shard, 10, value=b"") for shard in (0, 1)])
    await process.ownership.batch([Given("in", shard, 10, value=b"") for shard in (0, 1)])
    await revoking[0]
    assert [turn for turn in process.processor.turns[begun:] if any(turn.values())] == [{0: 1}]


async def _until_lost(process: Process, tenures: int) -> None:
    await until(lambda: len(process.processor.lost_) >= tenures)


def _raising(process: Process, *, times: int, shard: int) -> list[int]:
    """Turns over records of this shard raise so many times; the list empties."""
    left = [*range(times)] if times < 100 else [0]

    def before(work: Mapping[Tenure, Sequence[Record]]) -> None:
        if left and any(records for tenure, records in work.items() if tenure.shard == shard):
            if times < 100:
                left.pop()
            raise RuntimeError("poison")

    process.processor.before = before
    return left


def _hold_position(process: Process, position: int) -> None:
    async def held(partition: TopicPartition) -> int | None:
        return position

    process.stream.position = held  # type: ignore[method-assign]


async def _forgetful(work: Mapping[Tenure, Sequence[Record]]) -> None:
    """A turn that does not commit."""


async def _until_relayed(process: Process, position: int) -> None:
    async def stored() -> bool:
        return [row["relay_position"] for row in await process.shards.rows("shard")] == [position]

    condition: Condition = stored
    await until(condition, within=5)


async def _until_last(process: Process, values: str) -> None:
    async def counted() -> bool:
        return "".join(value for _, value in await process.processor.rows()).endswith(values)

    condition: Condition = counted
    await until(condition)
