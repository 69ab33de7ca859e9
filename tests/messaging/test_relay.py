"""The relay: in order, after the commit, and over when it does not know what was published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.publishing.relay import Parking, Relay
from tests.messaging.shards_fixture import Recorder, message
from tests.support.conditions import until


class Running(Relay):
    """A relay at work on a recorder."""

    def __init__(self) -> None:
        super().__init__(position=0)
        self.recorder = Recorder()
        self.ends = 0
        self.positions: list[int] = []
        self.start(self, on_end=self._count)

    async def publish(self, messages: Sequence[Message]) -> None:
        self.positions.append(self.position)
        await self.recorder.publish(messages)

    def _count(self) -> None:
        self.ends += 1


@pytest.fixture
async def relay() -> AsyncIterator[Running]:
    relay = Running()
    yield relay
    await relay.stop()


async def test_the_order_of_pushing_is_the_order_of_publishing(relay: Running) -> None:
    for first in (1, 4, 7):
        relay.push(_numbered(first, 3))
    await relay.below(1)
    assert relay.recorder.values == [*range(1, 10)]
    assert relay.position == 9


async def test_one_call_at_a_time_with_everything_that_waits(relay: Running) -> None:
    relay.recorder.gate.clear()
    relay.push(_numbered(1, 2))
    await until(lambda: relay.recorder.calls == 1)
    for first in (3, 5, 7):
        relay.push(_numbered(first, 2))
    assert (relay.recorder.calls, relay.depth) == (1, 8)
    relay.recorder.gate.set()
    await relay.below(1)
    assert (relay.recorder.calls, relay.recorder.values) == (2, [*range(1, 9)])


async def test_the_position_moves_after_the_acknowledgement(relay: Running) -> None:
    relay.recorder.gate.clear()
    relay.push(_numbered(1, 2))
    await until(lambda: relay.recorder.calls == 1)
    assert relay.position == 0
    relay.push(_numbered(3, 2))
    relay.recorder.gate.set()
    await relay.below(1)
    assert relay.position == 4
    assert relay.positions == [0, 2]  # when the two calls began


@pytest.mark.parametrize("error", [PublishFailed("unknown"), RuntimeError("unforeseen")], ids=["failed", "unforeseen"])
async def test_s2_a_failure_ends_the_relay_and_nothing_follows(relay: Running, error: Exception) -> None:
    relay.recorder.errors = [error]
    relay.push(_numbered(1, 2))
    await until(lambda: relay.ended)
    relay.push(_numbered(3, 2))
    await relay.below(1)  # does not wait for what will never be
    await relay.stop()
    assert (relay.ends, relay.position, relay.recorder.calls, relay.recorder.sent) == (1, 0, 1, [])
    assert relay.depth == 2


async def test_s2_a_stopped_relay_hands_nothing_on_any_more(relay: Running) -> None:
    relay.recorder.gate.clear()
    relay.push(_numbered(1, 1))
    await until(lambda: relay.recorder.calls == 1)
    relay.push(_numbered(2, 1))
    await relay.stop()
    relay.recorder.gate.set()
    await asyncio.sleep(0)
    assert (relay.recorder.calls, relay.recorder.sent, relay.ends) == (1, [], 0)


async def test_s9_who_sends_waits_for_the_depth(relay: Running) -> None:
    relay.recorder.gate.clear()
    relay.push(_numbered(1, 5))
    waiting = asyncio.create_task(relay.below(5))
    await until(lambda: relay.recorder.calls == 1)
    assert not waiting.done()
    relay.recorder.gate.set()
    await waiting


async def test_s8_a_message_that_can_never_be_published_parks_its_saga_and_no_other(relay: Running) -> None:
    rows = [(1, message(1, saga="A")), (2, message(2, saga="A")), (3, message(3, saga="B")), (4, message(4, saga="A"))]
    refusal = _refusal(rows[1][1])
    relay.recorder.errors = [refusal]
    relay.push(rows)
    relay.push([(5, message(5, saga="A")), (6, message(6, saga="B"))])
    await relay.below(1)
    assert relay.recorder.values == [1, 3, 6]
    assert (relay.position, relay.ended) == (6, False)
    assert relay.parkings == [Parking("A", 2, str(refusal))]


async def test_s8_later_messages_of_a_parked_saga_park_behind(relay: Running) -> None:
    relay.park(["A"])
    relay.push([(1, message(1, saga="A")), (2, message(2, saga="B")), (3, message(3, saga="A"))])
    relay.push([(4, message(4, saga="A"))])
    await until(lambda: relay.position == 4)
    assert relay.recorder.values == [2]
    assert [(parking.saga_id, parking.position) for parking in relay.parkings] == [("A", 1), ("A", 4)]


async def test_s8_a_topic_that_takes_nothing_parks_all_that_goes_there_in_one_step(relay: Running) -> None:
    """Asking Kafka once for each message would hold up everybody else for as long."""
    gone = [(2 * n, message(2 * n, saga=f"A{n}", topic="gone")) for n in range(1, 100)]
    others = [(2 * n + 1, message(2 * n + 1, saga=f"B{n}")) for n in range(1, 100)]
    relay.recorder.errors = [PublishRefused(gone[0][1], Reason.UNKNOWN_TOPIC, "there is no such topic")]
    relay.push(sorted([*gone, *others], key=lambda row: row[0]))
    await relay.below(1)
    assert relay.recorder.calls == 2
    assert relay.recorder.values == [position for position, _ in others]
    assert [(one.saga_id, one.position) for one in relay.parkings] == [(m.saga_id, at) for at, m in gone]


async def test_s8_a_message_that_is_too_large_says_nothing_of_others_for_its_topic(relay: Running) -> None:
    rows = [(1, message(1, saga="A")), (2, message(2, saga="B"))]
    relay.recorder.errors = [_refusal(rows[0][1])]
    relay.push(rows)
    await relay.below(1)
    assert relay.recorder.values == [2]
    assert [one.saga_id for one in relay.parkings] == ["A"]


async def test_s8_who_is_parked_behind_others_is_told_apart(relay: Running) -> None:
    """A person hears of the cause, once."""
    first = message(1, saga="A")
    relay.recorder.errors = [_refusal(first)]
    relay.push([(1, first)])
    await relay.below(1)
    relay.push([(2, message(2, saga="A"))])
    assert [(one.position, one.behind) for one in relay.parkings] == [(1, False), (2, True)]


async def test_s8_after_unparking_the_saga_is_published_again(relay: Running) -> None:
    relay.park(["A", "B"])
    relay.unpark(["A"])
    relay.push([(1, message(1, saga="A")), (2, message(2, saga="B"))])
    await relay.below(1)
    assert relay.recorder.values == [1]
    assert set(relay.parked) == {"B"}


async def test_s8_a_refusal_of_something_else_ends_the_relay(relay: Running) -> None:
    relay.recorder.errors = [_refusal(message(1))]  # equal to what is sent, but another message
    relay.push(_numbered(1, 1))
    await until(lambda: relay.ended)
    assert relay.parkings == []


def _numbered(first: int, count: int) -> list[tuple[int, Message]]:
    return [(number, message(number)) for number in range(first, first + count)]


def _refusal(refused: Message) -> PublishRefused:
    return PublishRefused(refused, Reason.TOO_LARGE, "1 MB is the most")
