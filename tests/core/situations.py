"""Small sagas made to measure, and sagas that have come to a certain place, where several tests begin."""

from __future__ import annotations

from typing import Any

from sagabus.contracts import ActivityFailed, RetryPolicy
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.definition import SagaDefinition
from tests.core.kit import Definition, Drive
from tests.core.services import (
    Order,
    Result,
    count,
    paid,
    reserve,
)
from tests.core.shapes import impatient, sequential


def of(*steps: Any, result: bool = True) -> Definition:
    """A saga that makes these steps, one after the other."""

    @saga("saga")
    async def made(ctx: SagaContext, order: Order) -> Result:
        for step in steps:
            await ctx.call(step(order=order.order))
        if not result:
            await ctx.event(paid)
        return Result(refs=[])

    return made


def one_step(*, timeout: float | None = None, retry: RetryPolicy | None = None) -> Definition:
    @saga("saga")
    async def saga_of_one_step(ctx: SagaContext, order: Order) -> Result:
        done = await ctx.call(reserve(order=order.order), timeout=timeout, retry=retry)
        return Result(refs=[done.ref])

    return saga_of_one_step


def tried(attempts: int, *, then_raise: bool = True) -> Definition:
    """One step that is tried so often; the saga lets the failure through, or goes on at the same service."""

    @saga("saga")
    async def trying(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), retry=RetryPolicy(attempts=attempts))
        except ActivityFailed:
            if then_raise:
                raise
        return Result(refs=[(await ctx.call(count(order=order.order))).ref])

    return trying


def changed(code: Definition) -> Definition:
    """The same, with another fingerprint."""
    other: Definition = SagaDefinition(code.contract, code._body, version=code.version, timeout=None)
    other.__dict__["fingerprint"] = "saga-v1-py3.0-0000000000000000"
    return other


def compensating() -> Drive:
    """Step 1 is being undone."""
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.last.short == ["undo 1 stock.release"]
    return drive


def given_up() -> Drive:
    """Step 1 was given up after its timeout and is being settled; the next one at its service waits."""
    drive = Drive(impatient).start()
    assert drive.fire(TimerKind.TIMEOUT, 1) is None
    return drive
