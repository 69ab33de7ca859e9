"""The short way of a step's first answer leads where the long one does, in random worlds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagabus.contracts.retry import ACTIVITY_RETRY
from sagabus.coordinator import SagaContext
from sagabus.coordinator import saga as saga_
from sagabus.coordinator.core.saga import admission, saga
from sagabus.coordinator.core.saga.admission import STEP_REPLIES
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from sagabus.coordinator.core.saga.step import Exchange, Step
from tests.core import shapes
from tests.core.cost import DONE, Plain
from tests.core.kit import Definition
from tests.core.restored import forget_all
from tests.core.services import Order, paid, reserve
from tests.core.wire import an_input
from tests.core.world import World

ACTIONS = 30
SHORT = (admission, saga)
"""Who asks for `is_first_completion`."""


def told_of(code: Definition, seed: int, *, forgetful: bool) -> list[Mapping[str, Any]]:
    """What came of each of these actions."""
    random = Random(seed)
    told: list[Mapping[str, Any]] = []
    try:
        world = World.of(code, random.randrange, forgetful=forgetful)
        for _ in range(ACTIONS):
            world.happen()
            drive = world.drive
            told.append({
                "rows": [*drive.rows], "status": drive.status, "concerns": dict(drive.state.concerns),
                "timers": dict(drive.timers), "sent": [*drive.last.commands],
            })  # fmt: skip
    finally:
        forget_all()
    return told


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(seed=st.integers(0, 2**32), forgetful=st.booleans())
@settings(max_examples=8)
def test_the_short_way_and_the_long_one_decide_alike(code: Definition, seed: int, forgetful: bool) -> None:
    short = told_of(code, seed, forgetful=forgetful)
    with patch.object(SHORT[0], "is_first_completion", _never), patch.object(SHORT[1], "is_first_completion", _never):
        assert told_of(code, seed, forgetful=forgetful) == short


def test_any_answer_to_any_step_counts_or_not_alike() -> None:
    for outcome, status, by_operator, issued, output in product(
        Outcome, SagaStatus, (False, True), (0, 5), (DONE, b"{}")
    ):
        state = Plain.fresh()
        state.standing = state.standing._replace(status=status)
        step = Step(
            1, reserve, "stock", reserve.name, Order(), b"{}", ACTIVITY_RETRY, None, 1, "undo",
            do=Exchange(issued=issued, attempt=2), outcome=outcome, output=output, by_operator=by_operator,
        )  # fmt: skip
        state.steps.put(step)
        for kind, attempt, name in product(STEP_REPLIES | {Kind.SETTLE_COMPLETED}, range(4), ("stock", "bank", "")):
            answer = an_input(kind, 1, attempt, name=name, payload=DONE)
            with patch.object(admission, "is_first_completion", _never):
                plainly = admission.denial(state, answer)
            assert admission.denial(state, answer) == plainly, (step, status, answer)


def test_an_answer_that_comes_first_is_one_and_a_copy_is_none() -> None:
    """The short way is taken at all."""
    drive = Plain(chain())
    answer = an_input(Kind.STEP_COMPLETED, 1, 1, name="stock", payload=DONE)
    assert admission.is_first_completion(drive.state, drive.state.steps[1], answer)
    drive.completed(1)
    assert not admission.is_first_completion(drive.state, drive.state.steps[1], answer)
    drive.saga.evict()


def chain() -> Definition:
    @saga_("saga")
    async def one_step(ctx: SagaContext, order: Order) -> None:
        await ctx.call(reserve(order="1"))
        await ctx.event(paid)

    return one_step


def _never(*_: object) -> bool:
    return False
