"""A shard of which too much waits for Kafka takes no more records in, and takes them in again in time (S9)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import TopicPartition

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.publish_errors import PublishFailed
from sagabus.messaging.shards import held_back
from tests.messaging.shards_fixture import Given, Recorder
from tests.messaging.toy_bus import ToyBus
from tests.messaging.toy_world import Process, World
from tests.support.conditions import until

ZERO = TopicPartition("in", 0)


def waiting() -> list[str]:
    """The tasks that wait until a shard may be opened again."""
    return [task.get_name() for task in asyncio.all_tasks() if "held back" in task.get_name()]


@pytest.fixture
async def held(world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch) -> Process:
    """It has the shards 0 and 1, and 0 is closed: a, b and c wait for the bus, d and e are not taken in."""
    monkeypatch.setattr(held_back, "UNPUBLISHED_MESSAGES", 3)
    process = await world.process()
    bus.recorder.closed_for = {0}
    process.stream.most = 3
    await process.stream.assign(0, 1)
    bus.put("in", 0, "a", "b", "c")
    await process.counted(*"abc")
    bus.put("in", 0, "d", "e")
    await until(lambda: ZERO not in process.stream.places, what="shard 0 is closed")
    process.stream.seeks.clear()
    return process


async def test_s9_a_shard_that_cannot_publish_takes_no_more_in_and_the_others_go_on(held: Process, bus: ToyBus) -> None:
    bus.put("in", 1, *range(9))
    await until(lambda: len(bus.recorder.sent) == 9, what="the other shard goes on")
    await held.counted(*"abc", *range(9))
    assert held.held == [0, 1]
    bus.recorder.open()
    await held.counted(*"abcde", *range(9))
    assert [m.value for m in bus.recorder.sent if m.partition == 0] == [b"a", b"b", b"c", b"d", b"e"]


async def test_s9_it_is_closed_and_opened_once_whatever_was_fetched_before(held: Process, bus: ToyBus) -> None:
    for _ in range(2):
        await held.ownership.batch([Given("in", 0, 3, value=b"d"), Given("in", 0, 4, value=b"e")])
    assert waiting() == ["sagabus held back shard 0"]
    bus.recorder.open()
    await held.counted(*"abcde")
    assert held.stream.seeks == [{ZERO: 3}]
    assert waiting() == []


async def test_s9_a_shard_that_is_held_back_and_revoked_is_not_reopened(held: Process, bus: ToyBus) -> None:
    await held.stream.assign(1, generation=2)
    held.stream.seeks.clear()
    bus.recorder.open()
    bus.put("in", 1, "f")
    await held.counted(*"abcf")
    assert waiting() == []
    assert held.stream.seeks == []


async def test_s9_a_shard_that_is_acquired_again_meanwhile_is_opened_by_that_alone(held: Process, bus: ToyBus) -> None:
    """Its publisher has failed: what it was held back for is over."""
    bus.recorder.errors = [PublishFailed("unknown")]
    bus.recorder.open()
    await held.counted(*"abcde")
    await until(lambda: not waiting(), what="nobody waits any more")
    assert held.stream.seeks == [{ZERO: 3}]
    assert [tenure.shard for tenure in held.processor.taken_].count(0) == 2


async def test_s9_a_shard_that_cannot_be_opened_is_acquired_again(
    held: Process, bus: ToyBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = held.stream.seek

    async def once_in_vain(places: Mapping[TopicPartition, int]) -> None:
        monkeypatch.setattr(held.stream, "seek", seek)
        raise RuntimeError("in the middle of a rebalance")

    monkeypatch.setattr(held.stream, "seek", once_in_vain)
    bus.recorder.open()
    await held.counted(*"abcde")
    assert [tenure.shard for tenure in held.processor.taken_].count(0) == 2


class CallByCall(Recorder):
    """One call of `publish` is let through by each `let.release()`."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Semaphore(0)
        self.begun = 0

    async def publish(self, messages: Sequence[Message]) -> None:
        self.begun += 1
        await self.let.acquire()
        await super().publish(messages)


async def test_s9_it_stays_closed_until_half_of_what_waited_is_published(
    world: World, bus: ToyBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_back, "UNPUBLISHED_MESSAGES", 4)
    bus.recorder = recorder = CallByCall()
    process = await world.process()
    await process.stream.assign(0)
    for number, value in enumerate("abcd"):
        bus.put("in", 0, value)
        await process.counted(*"abcd"[: number + 1])
    bus.put("in", 0, "e")
    await until(lambda: ZERO not in process.stream.places, what="the shard is closed")
    recorder.let.release()
    await until(lambda: recorder.begun == 2, what="the next call has begun")
    assert (ZERO in process.stream.places, waiting()) == (False, ["sagabus held back shard 0"])
    recorder.let.release()
    recorder.let.release()
    await process.counted(*"abcde")
