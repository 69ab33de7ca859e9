"""`simulate`: sound sagas pass, each kind of broken one is found, and what failed is told by a short schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sagabus.contracts import ActivityError
from sagabus.coordinator import SagaContext, saga
from sagabus.shop.contracts import process_payment, reserve_inventory, ship_order
from sagabus.shop.order_processing import order_processing
from sagabus.testing import Ending, NoAnswer, SimulationFailed, simulate
from sagabus.testing.moves import WEIGHTS, random_moves
from tests.core.services import Done, Job, Paid, charge, paid, reserve
from tests.testing_kit.test_saga_test import ORDER, PAYMENT, RESERVATION, SHIPMENT

ORDER_ANSWERS = {reserve_inventory: RESERVATION, process_payment: PAYMENT, ship_order: SHIPMENT}
ANSWERS = {reserve: Done(ref="r"), charge: Done(ref="c")}


def test_the_shop_keeps_its_promise() -> None:
    def check(ending: Ending[Any]) -> None:
        assert (ending.status == "completed") == (len(ending.done) == 3 and not ending.undone)

    found = simulate(order_processing, ORDER, answers=ORDER_ANSWERS, check=check, seeds=200)
    assert sum(found.endings.values()) == 200
    assert {"completed", "compensated", "cancelled"} <= found.endings.keys()


def test_a_seed_gives_the_same_run_and_all_faults_come() -> None:
    assert random_moves(7, 60) == random_moves(7, 60)
    assert {move.what for seed in range(50) for move in random_moves(seed, 60)} == set(WEIGHTS)


@saga("paid_or_not")
async def paid_or_not(ctx: SagaContext, job: Job) -> Paid:
    await ctx.call(reserve.of(job))
    async with asyncio.timeout(3_600):
        return await ctx.event(paid)


def test_events_come_at_some_time() -> None:
    found = simulate(paid_or_not, Job(order="1"), answers=ANSWERS, events=[paid(amount=1)], seeds=100, cancels=False)
    assert found.endings["completed"] > 50


def failing(code: Any, **more: Any) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as raised:
        simulate(code, Job(order="1"), answers=ANSWERS, **more)
    return raised.value


def test_a_saga_that_depends_on_chance_is_found_by_a_restart() -> None:
    calls: list[int] = []

    @saga("chancy")
    async def chancy(ctx: SagaContext, job: Job) -> None:
        calls.append(1)
        await ctx.call(charge.of(job) if len(calls) % 2 else reserve.of(job))

    failed = failing(chancy)
    assert "is not the same in a replay" in failed.reason


def test_an_invariant_that_a_fault_breaks_is_told_by_the_shortest_schedule() -> None:
    @saga("forgetful")
    async def forgetful(ctx: SagaContext, job: Job) -> Done:
        done = await ctx.call(reserve.of(job))
        with suppress(ActivityError):
            await ctx.call(charge.of(job))
        return done

    def is_paid(ending: Ending[Done]) -> bool:
        return ending.status != "completed" or len(ending.done) == 2

    failed = failing(forgetful, check=is_paid, cancels=False)
    assert "check returned False for a saga that is completed" in failed.reason
    assert failed.schedule == [
        "step 1 (stock.reserve) is carried out",
        "the reply of step 1 (stock.reserve) arrives: step.completed",
        "step 2 (bank.charge) fails, and so will each further attempt",
    ]
    assert f"simulate(…, seeds=[{failed.seed}])" in str(failed)
    again = failing(forgetful, check=is_paid, cancels=False, seeds=[failed.seed])
    assert (again.reason, again.schedule) == (failed.reason, failed.schedule)


def test_a_saga_that_never_ends_says_what_it_waits_for() -> None:
    @saga("endless")
    async def endless(ctx: SagaContext, job: Job) -> Paid:
        return await ctx.event(paid)

    failed = failing(endless)
    assert "waits for event payment.confirmed" in failed.reason
    assert "without any fault" in str(failed)


def test_handlers_with_a_state_are_made_for_each_run() -> None:
    made: list[list[str]] = []

    def answers() -> dict[Any, Callable[[Any], Any]]:
        ledger: list[str] = []
        made.append(ledger)

        async def reserved(job: Any) -> Done:
            ledger.append(job.order)
            return Done(ref="r")

        return {reserve: reserved}

    simulate(paid_or_not, Job(order="1"), answers=answers, events=[paid(amount=1)], seeds=20)
    assert len(made) == 20
    assert {len(ledger) for ledger in made} <= {0, 1}, "each command is carried out once"


def test_a_missing_answer_is_the_tests_mistake() -> None:
    with pytest.raises(NoAnswer, match=r"stock\.reserve"):
        simulate(paid_or_not, Job(order="1"), answers={}, events=[paid(amount=1)])
