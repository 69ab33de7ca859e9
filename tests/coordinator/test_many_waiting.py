"""What waits in a shard's memory by the hundred thousand costs a turn no more than what waits by the thousand."""

from __future__ import annotations

import time
from collections.abc import Callable

from sagabus.contracts.names import SagaId
from sagabus.coordinator.shard.early_requests import (
    DELIVERED_OF_A_TURN,
    EARLY_MICROSECONDS,
    EXPIRED_IDS_OF_A_TURN,
    EarlyRequests,
)
from sagabus.coordinator.shard.replays import REPLAYS_AT_A_TIME, WANTED_TOGETHER, Replays
from sagabus.coordinator.store.rows import EarlyCount
from tests.coordinator.saga_rows import saga
from tests.support.processor_time import collector_off

FEW, MANY = 1_000, 100_000
LEAST_SECONDS = 0.002
"""Anything shorter counts as much: clocks are coarse."""


def ids(count: int) -> list[SagaId]:
    return [SagaId(f"S-{number}") for number in range(count)]


def slowest_call(call: Callable[[], object], *, times: int = 20) -> float:
    """Seconds of processor time."""
    slowest = LEAST_SECONDS
    with collector_off():
        for _ in range(times):
            begun = time.process_time()
            call()
            slowest = max(slowest, time.process_time() - begun)
    return slowest


def wanted(count: int) -> float:
    """All of them are in memory already."""
    replays, all = Replays(), ids(count)
    replays.want(all)
    loaded = frozenset(all)
    return slowest_call(lambda: replays.next_wanted(loaded))


def test_wanted_sagas_that_are_loaded_already_cost_a_turn_the_same_however_many_they_are() -> None:
    assert wanted(MANY) < 10 * wanted(FEW)


def test_wanted_sagas_all_come_to_their_turn_behind_those_that_are_loaded() -> None:
    replays, all = Replays(), ids(5_000)
    replays.want(all)
    loaded = frozenset(all[:-3])
    found: list[SagaId] = []
    for _ in range(10):
        found += replays.next_wanted(loaded)
    assert (found, replays.is_busy) == (all[-3:], False)


def test_no_more_replays_begin_than_may_be_under_way() -> None:
    replays = Replays()
    replays.want(ids(100))
    assert len(replays.next_wanted(())) == REPLAYS_AT_A_TIME


def test_wanted_sagas_begin_together() -> None:
    replays = Replays()
    for number in range(REPLAYS_AT_A_TIME - WANTED_TOGETHER + 1):
        replays.begin(saga(f"under way {number}"), [], is_read=False)
    replays.want(ids(100))
    assert replays.next_wanted(()) == []
    assert replays.finish_now(SagaId("under way 0")) is not None
    assert len(replays.next_wanted(())) == WANTED_TOGETHER


def waiting(count: int, *, hour_over: bool) -> float:
    early = EarlyRequests()
    for at, id in enumerate(ids(count)):
        early.add(id, at=at)
    now = EARLY_MICROSECONDS + (count + 1 if hour_over else 0)
    return slowest_call(lambda: early.expired(now))


def test_ids_that_nobody_has_started_cost_a_turn_the_same_however_many_they_are() -> None:
    for hour_over in (False, True):
        assert waiting(MANY, hour_over=hour_over) < 10 * waiting(FEW, hour_over=hour_over)


def test_the_oldest_expire_first_and_each_once() -> None:
    early, all = EarlyRequests(), ids(50)
    for at, id in enumerate(reversed(all)):
        early.know(EarlyCount(id, 1, at, at, False))
    early.start(all[-1])
    first, second, third = (early.expired(EARLY_MICROSECONDS + 100) for _ in range(3))
    assert first == all[-2 : -2 - EXPIRED_IDS_OF_A_TURN : -1]
    assert len(second) == EXPIRED_IDS_OF_A_TURN
    assert len({*first, *second, *third}) == len(first + second + third) == len(all) - 1
    assert early.expired(EARLY_MICROSECONDS + 100) == []


def test_an_id_with_a_younger_request_expires_again() -> None:
    early, (id,) = EarlyRequests(), ids(1)
    early.add(id, at=0)
    early.add(id, at=50)
    assert early.expired(EARLY_MICROSECONDS + 1) == [id]
    early.remove(id)
    early.wait(id, 50)
    assert early.expired(EARLY_MICROSECONDS + 50) == []
    assert early.expired(EARLY_MICROSECONDS + 51) == [id]


def test_what_is_kept_for_a_saga_that_is_gone_expires() -> None:
    early, (id,) = EarlyRequests(), ids(1)
    early.add(id, at=0, started=True)
    assert early.expired(EARLY_MICROSECONDS + 1) == []
    early.is_gone(id)
    assert early.expired(EARLY_MICROSECONDS + 1) == [id]


def test_started_and_taken_in_over_and_over_leaves_nothing_behind() -> None:
    early, (id,) = EarlyRequests(), ids(1)
    for at in range(10_000):
        early.add(id, at=at)
        early.start(id)
        early.remove(id)
    assert len(early._waiting) < 2_000


def test_much_that_is_kept_for_a_saga_on_its_way_holds_back_no_other() -> None:
    early = EarlyRequests()
    long, other = SagaId("long"), SagaId("other")
    for at in range(DELIVERED_OF_A_TURN + 100):
        early.add(long, at=at, started=True)
    early.add(other, at=0, started=True)
    assert early.deliverable(long.__eq__) == [other]
    assert early.deliverable(lambda _: False) == [other], "the long one has to wait until there is room"


def under_way(count: int) -> float:
    early, all = EarlyRequests(), ids(count)
    for id in all:
        early.add(id, at=0, started=True)
    return slowest_call(lambda: early.deliverable(lambda _: True))


def test_sagas_on_their_way_are_passed_over_at_the_same_cost_however_many_they_are() -> None:
    assert under_way(MANY) < 10 * under_way(FEW)
    early, all = EarlyRequests(), ids(5_000)
    for id in all:
        early.add(id, at=0, started=True)
    there = all[-1]
    assert any(there in early.deliverable(lambda id: id != there) for _ in range(10)), "each has its turn"
