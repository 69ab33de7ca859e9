"""Code that no longer does what its history says: noticed, with the first difference in words."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from sagabus.contracts import MessageInvalid
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import (
    Order,
    Result,
    charge,
    check,
    paid,
    reserve,
    ship,
)
from tests.core.shapes import gathered
from tests.core.situations import of


def difference(drive: Drive) -> str:
    """Without what has changed, which is said behind it (test_fingerprint.py)."""
    return drive.attention.partition("; ")[0]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            of(reserve, charge), of(reserve, ship),
            "history has command bank.charge (number 2) at row 5, the code now makes command post.ship (number 2)",
        ),
        (
            of(reserve, charge), of(reserve, result=False),
            "history has command bank.charge (number 2) at row 5, the code does nothing there",
        ),
        (
            of(reserve, charge), of(reserve),
            "history has command bank.charge (number 2) at row 5, the code now makes ended completed",
        ),
        (
            of(check, result=False), gathered,
            "history has command bank.check (number 1) at row 2, the code now makes command stock.reserve (number 1)",
        ),
    ],
)  # fmt: skip
def test_code_changed_under_a_running_saga_is_noticed_with_the_first_difference(
    before: Definition, after: Definition, words: str
) -> None:
    drive = Drive(before).start()
    drive.completed(1)
    drive.reload(after)
    assert difference(drive) == words
    assert drive.status == SagaStatus.RUNNING
    assert drive.last.told == ["saga.attention"]
    assert drive.last.short == []
    assert drive.kinds[-1].startswith("blocked")


def test_a_number_that_differs_is_noticed() -> None:
    @saga("saga")
    async def refused_first(ctx: SagaContext, order: Order) -> Result:
        with suppress(MessageInvalid):
            ctx.call(reserve(order="x" * MAX_PAYLOAD))
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    drive = Drive(refused_first).start()
    assert drive.kinds == ["started", "command 2"]
    drive.reload(of(reserve))
    assert difference(drive) == (
        "history has command stock.reserve (number 2) at row 2, the code now makes command stock.reserve (number 1)"
    )


def test_code_that_makes_more_than_its_history_is_noticed() -> None:
    drive = Drive(of(check, charge)).start()
    drive.reload(gathered_checks)
    assert difference(drive) == "history has nothing more, the code now makes command bank.check (number 2)"


@saga("saga")
async def gathered_checks(ctx: SagaContext, order: Order) -> Result:
    await asyncio.gather(ctx.call(check(order=order.order)), ctx.call(check(order=order.order)))
    return Result(refs=[])


def test_code_that_decides_earlier_than_its_history_is_noticed() -> None:
    drive = Drive(of(check, check)).start()
    drive.completed(1)
    drive.reload(gathered_checks)
    assert difference(drive) == (
        "history has command bank.check (number 2) at row 4, the code now makes it before step.completed bank "
        "(number 1) at row 3"
    )


def test_code_that_decides_later_than_its_history_is_noticed() -> None:
    drive = Drive(gathered_checks).start()
    drive.completed(1)
    drive.reload(of(check, check))
    assert difference(drive) == "history has command bank.check (number 2) at row 3, the code does nothing there"


def test_code_that_no_longer_sleeps_is_noticed() -> None:
    @saga("saga")
    async def napping(ctx: SagaContext, order: Order) -> Result:
        await asyncio.sleep(60)
        await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(napping).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(of(result=False))
    assert difference(drive) == "history has timer sleep (number 1) at row 2, the code does not take it now (stale)"


def test_the_message_of_an_unchanged_code_is_none() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.reload(gathered)
    assert drive.attention == ""
