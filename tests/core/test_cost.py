"""What an input costs does not depend on how many steps, timers or events a saga has, open or closed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from sagabus.contracts.replies import NO_HANDLER
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import DUPLICATE
from sagabus.coordinator.core.saga.concern import ConcernKind, concerns_json
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from tests.core.cost import Definition, Plain
from tests.core.services import Done, Order, Result, count, paid, reserve
from tests.core.wire import failure
from tests.support.processor_time import seconds_of, seconds_of_one

MANY = 10_000
RATIO = 1.3
"""Of the cost of a step at ten thousand and at a hundred."""
NOISE = 2.0
"""A cost that grows with the saga is a ratio of ten and more here; that of a machine under load may double."""


def chain(steps: int) -> Definition:
    @saga("saga")
    async def one_after_the_other(ctx: SagaContext, order: Order) -> Result:
        for _ in range(steps):
            await ctx.call(reserve(order="1"))
        await ctx.event(paid)
        return Result(refs=[])

    return one_after_the_other


def wide(steps: int) -> Definition:
    @saga("saga")
    async def all_at_once(ctx: SagaContext, order: Order) -> Result:
        await asyncio.gather(*(ctx.call(reserve(order="1")) for _ in range(steps)))
        await ctx.event(paid)
        return Result(refs=[])

    return all_at_once


@pytest.fixture
def evicted() -> Iterator[list[Plain]]:
    made: list[Plain] = []
    yield made
    for one in made:
        one.saga.evict()


def test_a_step_costs_the_same_at_ten_thousand_steps_as_at_a_hundred(evicted: list[Plain]) -> None:
    long, short = Plain(chain(MANY + 200)), Plain(chain(MANY + 200))
    evicted += [long, short]
    long.completed(*range(1, MANY + 1))
    short.completed(*range(1, 101))
    at_many = seconds_of_one(long.completed, range(MANY + 1, MANY + 101))
    at_hundred = seconds_of_one(short.completed, range(101, 201))
    assert at_many < at_hundred * RATIO * NOISE


def test_a_reply_costs_the_same_with_ten_thousand_calls_in_flight(evicted: list[Plain]) -> None:
    many, few = Plain(wide(MANY)), Plain(wide(200))
    evicted += [many, few]
    at_many, at_few = (seconds_of_one(one.completed, range(1, 101)) for one in (many, few))
    assert at_many < at_few * RATIO * NOISE
    many.completed(*range(101, MANY + 1))
    many.event(1)
    assert many.state.status == "completed"


def test_a_replay_costs_the_same_for_each_of_twenty_thousand_rows(evicted: list[Plain]) -> None:
    long, short = Plain(chain(MANY)), Plain(chain(500))
    evicted += [long, short]
    long.completed(*range(1, 6_667))
    short.completed(*range(1, 334))
    assert (len(long.rows), len(short.rows)) == (20_000, 1_001)
    evicted[0].saga.evict()
    a_row = [seconds_of(lambda one=one: one.restored().evict()) / len(one.rows) for one in (long, short)]  # type: ignore[misc]
    assert a_row[0] < a_row[1] * RATIO * NOISE


def test_a_replay_in_portions_leads_to_the_same(evicted: list[Plain]) -> None:
    one = Plain(chain(1_000))
    evicted.append(one)
    one.completed(*range(1, 1_001))
    replay, portions = one.replay(), 1
    while not replay.go_on(100):
        portions += 1
    assert portions == 11
    assert replay.saga.state.steps == one.state.steps
    replay.saga.evict()


def test_cancel_and_ten_thousand_settles(evicted: list[Plain]) -> None:
    """All calls are open: each is settled, one after the other, the last first."""

    def cancelled(steps: int) -> float:
        one = Plain(wide(steps))
        evicted.append(one)

        def work() -> None:
            one.cancel()
            one.never(*range(steps, 0, -1))

        took = seconds_of(work)
        assert one.state.status == "cancelled"
        return took / steps

    assert cancelled(MANY) < cancelled(200) * RATIO * NOISE


def test_ten_thousand_undos(evicted: list[Plain]) -> None:
    def undone(steps: int) -> float:
        one = Plain(chain(steps))
        evicted.append(one)
        one.completed(*range(1, steps + 1))
        one.cancel()
        took = seconds_of(lambda: one.undone(*range(steps, 0, -1)))
        assert one.state.status == "cancelled"
        return took / steps

    assert undone(MANY) < undone(200) * RATIO * NOISE


def test_ten_thousand_events(evicted: list[Plain]) -> None:
    @saga("saga")
    async def listening(ctx: SagaContext, order: Order) -> Result:
        while True:
            if (await ctx.event(paid)).amount == 0:
                await ctx.call(count(order="1"))

    def heard(first: int, number: int) -> float:
        one = Plain(listening)
        evicted.append(one)
        one.event(*range(1, first))
        return seconds_of_one(one.event, range(first, first + number))

    assert heard(MANY, 200) < heard(100, 200) * RATIO * NOISE


def test_events_that_nobody_waits_for(evicted: list[Plain]) -> None:
    def piled(first: int, number: int) -> float:
        one = Plain(chain(1))
        evicted.append(one)
        one.event(*range(1, first))
        return seconds_of_one(one.event, range(first, first + number))

    assert piled(MANY, 200) < piled(2_000, 200) * RATIO * NOISE


def test_ten_thousand_timers(evicted: list[Plain]) -> None:
    def sleepers(number: int) -> Definition:
        @saga("saga")
        async def asleep(ctx: SagaContext, order: Order) -> Result:
            await asyncio.gather(*(asyncio.sleep(1) for _ in range(number)))
            return Result(refs=[])

        return asleep

    def cost(number: int) -> float:
        one = Plain(sleepers(number))
        evicted.append(one)
        one.now += 2_000_000
        return seconds_of_one(lambda number: one.give(Kind.TIMER, number, name=TimerKind.SLEEP), range(1, 101))

    assert cost(MANY) < cost(200) * RATIO * NOISE


def test_held_steps_are_let_go_at_once(evicted: list[Plain]) -> None:
    """U4: an undo at their service is under way; the cost of letting them go is that of sending them."""

    @saga("saga")
    async def holding(ctx: SagaContext, order: Order) -> Result:
        try:
            await asyncio.wait_for(ctx.call(reserve(order="1")), 1)
        except TimeoutError:
            done: list[Done] = await asyncio.gather(*(ctx.call(count(order="1")) for _ in range(MANY - 1)))
            return Result(refs=[each.ref for each in done])
        raise AssertionError

    one = Plain(holding)
    evicted.append(one)
    one.now += 2_000_000
    one.give(Kind.TIMER, 1, name=TimerKind.SLEEP)
    assert len(one.state.steps.held["stock"]) == MANY - 1
    let_go = seconds_of(lambda: one.never(1))
    answered = seconds_of(lambda: one.completed(*range(2, MANY + 1)))
    assert one.state.status == "completed"
    assert let_go < answered * NOISE


def test_a_step_that_nobody_handles_costs_the_same_beside_five_thousand_others(evicted: list[Plain]) -> None:
    """Each of them is a concern; the saga's row, with its concerns, is written anew with each."""

    def unhandled(one: Plain, first: int, number: int) -> float:
        def answered(step: int) -> None:
            assert one.give(Kind.STEP_FAILED, step, 1, name="stock", payload=failure(NO_HANDLER)) is None
            concerns_json(one.state.concerns)

        return seconds_of_one(answered, range(first, first + number))

    many, few = Plain(wide(5_200)), Plain(wide(5_200))
    evicted += [many, few]
    unhandled(many, 1, 5_000)
    unhandled(few, 1, 100)
    at_many, at_few = unhandled(many, 5_001, 100), unhandled(few, 101, 100)
    assert len(many.state.concerns) == 5_100
    assert at_many < at_few * RATIO * NOISE


def test_outputs_are_not_kept_in_memory_to_tell_copies_from_contradictions(evicted: list[Plain]) -> None:
    """Nor is anything of them that grows with them."""
    one = Plain(wide(2))
    evicted.append(one)
    large = b'{"ref":"%b","more":[1,{"a":1.0}]}' % (b"r" * 100_000)
    same = b'{"more": [1.0, {"a": 1}], "ref": "%b"}' % (b"r" * 100_000)
    assert one.give(Kind.STEP_COMPLETED, 1, 1, name="stock", payload=large) is None
    assert sys.getsizeof(one.state.steps[1].output) < 100
    assert one.give(Kind.STEP_COMPLETED, 1, 1, name="stock", payload=same) == DUPLICATE
    assert one.give(Kind.STEP_COMPLETED, 1, 1, name="stock", payload=large.replace(b"1.0", b"2")) is None
    assert [kind for kind, _ in one.state.concerns] == [ConcernKind.CONTRADICTION]
