"""Ready is who holds what the group has given to it, were it nothing; and who drains is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Record
from sagabus.messaging.bus.handover import Assignment
from sagabus.messaging.service.readiness import Readiness


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        self.heard.append(f"assigned {sorted(assignment.shards)}")
        return {TopicPartition("t", 1): 7}

    async def revoked(self) -> None:
        self.heard.append("revoked")

    async def batch(self, records: Sequence[Record]) -> None:
        self.heard.append(f"batch of {len(records)}")


def given(*shards: int) -> Assignment:
    return Assignment(frozenset(shards), frozenset({"t"}), 1)


async def test_a_start_is_told_step_by_step() -> None:
    readiness = Readiness()
    assert "not been started" in readiness.why_not
    readiness.waits("it waits for Kafka")
    assert readiness.why_not == "it waits for Kafka"
    readiness.runs(lambda: ())
    assert "not in the consumer group" in readiness.why_not


async def test_ready_is_who_holds_all_that_was_given() -> None:
    readiness, held = Readiness(), {1}
    watched = readiness.watching(Listener())
    readiness.runs(lambda: held)
    await watched.assigned(given(1, 3))
    assert readiness.why_not.startswith("shards that the group gave to it are not acquired: 3")
    held.add(3)
    assert readiness.why_not == ""
    assert not readiness.on_standby
    await watched.revoked()
    assert "not in the consumer group" in readiness.why_not


async def test_the_answer_says_why() -> None:
    readiness = Readiness()
    away, problem = "", "another process is in the group as SAGABUS_INSTANCE=one"
    readiness.runs(lambda: {1}, away=lambda: away, problem=lambda: problem)
    assert readiness.why_not == f"it is not in the consumer group at the moment: {problem}"
    watched = readiness.watching(Listener())
    await watched.assigned(given(1, 2))
    assert readiness.why_not == f"shards that the group gave to it are not acquired: 2: {problem}"
    await watched.assigned(given(1))
    assert readiness.why_not == ""
    away = "Kafka is out of reach"
    assert readiness.why_not == away
    readiness.dies("the consumer has died")
    readiness.drains()
    assert readiness.why_not == "the consumer has died"


async def test_a_shard_that_is_held_and_takes_nothing_in_is_no_ready_one() -> None:
    readiness, failing = Readiness(), "shard 1 takes no records in"
    readiness.runs(lambda: {1}, failing=lambda: failing)
    await readiness.watching(Listener()).assigned(given(1))
    assert readiness.why_not == failing
    failing = ""
    assert readiness.why_not == ""


async def test_a_spare_is_ready_and_known_to_be_one() -> None:
    readiness = Readiness()
    readiness.runs(lambda: ())
    await readiness.watching(Listener()).assigned(given())
    assert readiness.why_not == ""
    assert readiness.on_standby


async def test_who_drains_is_not_ready_whatever_it_holds() -> None:
    readiness = Readiness()
    readiness.runs(lambda: {1})
    await readiness.watching(Listener()).assigned(given(1))
    readiness.drains()
    assert "drains" in readiness.why_not


async def test_everything_is_passed_on() -> None:
    listener = Listener()
    watched = Readiness().watching(listener)
    assert await watched.assigned(given(2)) == {TopicPartition("t", 1): 7}
    await watched.batch([])
    await watched.revoked()
    assert listener.heard == ["assigned [2]", "batch of 0", "revoked"]
