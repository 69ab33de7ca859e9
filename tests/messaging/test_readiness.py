"""Ready is who holds what the group has given to it, were it nothing; and who drains is not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sagabus.messaging.service.readiness import Readiness


@dataclass
class Shards:
    """What readiness asks of an ownership."""

    given: Collection[int] | None = None
    tenures: Collection[int] = ()
    kafka_away: str = ""
    problem: str = ""
    failing: str = ""


def test_a_start_is_told_step_by_step() -> None:
    readiness = Readiness()
    assert "not been started" in readiness.why_not
    readiness.waits("it waits for Kafka")
    assert readiness.why_not == "it waits for Kafka"
    readiness.runs(Shards())
    assert "not in the consumer group" in readiness.why_not


def test_ready_is_who_holds_all_that_was_given() -> None:
    readiness, shards = Readiness(), Shards(given={1, 3}, tenures={1})
    readiness.runs(shards)
    assert readiness.why_not.startswith("shards that are assigned to it are not acquired: 3")
    shards.tenures = {1, 3}
    assert readiness.why_not == ""
    assert not readiness.on_standby
    shards.given = None
    assert "not in the consumer group" in readiness.why_not
    assert not readiness.on_standby


def test_the_answer_says_why() -> None:
    readiness, problem = Readiness(), "another process is in the group as SAGABUS_INSTANCE=one"
    shards = Shards(tenures={1}, problem=problem)
    readiness.runs(shards)
    assert readiness.why_not == f"it is not in the consumer group at the moment: {problem}"
    shards.given = {1, 2}
    assert readiness.why_not == f"shards that are assigned to it are not acquired: 2: {problem}"
    shards.given = {1}
    assert readiness.why_not == ""
    shards.kafka_away = "Kafka is unreachable"
    assert readiness.why_not == shards.kafka_away
    readiness.dies("the consumer has died")
    readiness.drains()
    assert readiness.why_not == "the consumer has died"


def test_a_shard_that_is_held_and_takes_nothing_in_is_no_ready_one() -> None:
    readiness, shards = Readiness(), Shards(given={1}, tenures={1}, failing="shard 1 takes no records in")
    readiness.runs(shards)
    assert readiness.why_not == "shard 1 takes no records in"
    shards.failing = ""
    assert readiness.why_not == ""


def test_a_spare_is_ready_and_known_to_be_one() -> None:
    readiness = Readiness()
    readiness.runs(Shards(given=()))
    assert readiness.why_not == ""
    assert readiness.on_standby


def test_who_drains_is_not_ready_whatever_it_holds() -> None:
    readiness = Readiness()
    readiness.runs(Shards(given={1}, tenures={1}))
    readiness.drains()
    assert "drains" in readiness.why_not
