"""What cannot be a saga is refused when it is declared, in one sentence with the cure."""

from __future__ import annotations

import functools
import math
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from sagabus.contracts import DeclarationError, RetryPolicy, SagaType
from sagabus.coordinator import SagaContext, saga
from tests.core.services import Order, Result

NAMED = SagaType("named", Order, Result)
NOTHING: Any = None
"""As the result of a saga that has none."""


async def body(ctx: SagaContext, order: Order) -> Result:
    return Result(refs=[])


def test_a_saga_by_name_is_called_like_a_saga_type() -> None:
    by_name = saga("by_name")(body)
    for start in (by_name(order="O"), by_name.of(Order(order="O"))):
        assert (start.saga.name, start.input) == ("by_name", Order(order="O"))
    with pytest.raises(ValidationError):
        by_name(order=7)


@pytest.mark.parametrize("timeout", [math.nan, 0, -1, -math.inf, timedelta(seconds=-1)])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(DeclarationError, match=r"^saga s: timeout=.*: give more than 0 seconds"):
        saga("s", timeout=timeout)(body)


def test_a_timeout_without_end_is_none() -> None:
    assert saga("s", timeout=math.inf)(body).timeout == math.inf


@pytest.mark.parametrize("version", [0, -1, 2**31, 1.5, math.nan, True, "1", None])
def test_a_version_that_is_none_is_refused(version: Any) -> None:
    with pytest.raises(DeclarationError, match=r"^saga s: version=.*: give a whole number from 1 to 2147483647$"):
        saga("s", version=version)


@pytest.mark.parametrize("name", ["", "S", "böse", "a.b", "a b", "a\n", "x" * 101, "1st", "a/b", "\ud800"])
def test_an_absurd_name_is_refused_at_once(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"^saga name .*: give a small letter, then up to 99 of a-z 0-9 _ -$"):
        saga(name)


@pytest.mark.parametrize("named", [body, 7, None, b"saga", Order])
def test_a_decorator_without_its_brackets_is_refused(named: Any) -> None:
    """It would hand back a function, in which nobody finds a saga."""
    with pytest.raises(
        DeclarationError, match=r"^@saga was given .*; give it a SagaType or a name: @saga\(\"my_saga\"\)$"
    ):
        saga(named)


@pytest.mark.parametrize("what", [lambda ctx, order: None, functools.partial(body), Order, 7, NAMED])
def test_what_is_no_async_function_is_refused(what: Any) -> None:
    with pytest.raises(DeclarationError, match=r"^saga named: .* is not an async function; write `async def named`$"):
        saga(NAMED)(what)


@pytest.mark.parametrize(
    "options",
    [
        {name: value}
        for name in ("first", "factor", "longest", "jitter", "attempts", "give_up_after")
        for value in (math.nan, -1, -math.inf)
    ]
    + [{"first": math.inf}, {"factor": math.inf}, {"longest": math.inf}, {"jitter": 1.1}, {"attempts": 1.5}]
    + [{"attempts": math.inf}, {"attempts": 0}],
)
def test_a_retry_policy_that_cannot_be_reckoned_with_is_refused(options: Any) -> None:
    (name,) = options
    with pytest.raises(DeclarationError, match=rf"^RetryPolicy: {name}="):
        RetryPolicy(**options)


class Wider(Order):
    more: str = ""


def test_annotations_that_say_another_model_than_the_contract_are_refused() -> None:
    async def other_input(ctx: SagaContext, order: Result) -> Result:
        return order

    async def other_result(ctx: SagaContext, order: Order) -> Order:
        return order

    async def no_result(ctx: SagaContext, order: Order) -> None:
        return None

    declare: Any = saga(NAMED)
    for function, said in (
        (other_input, "its contract takes Order, its function is annotated with Result"),
        (other_result, "its contract returns Result, its function is annotated with Order"),
        (no_result, "its contract returns Result, its function is annotated with None"),
    ):
        with pytest.raises(DeclarationError, match=f"^saga named: {said}: make them the same$"):
            declare(function)
    without_result: Any = saga(SagaType("quiet", Order, NOTHING))
    with pytest.raises(DeclarationError, match="its contract returns None, its function is annotated with Order: "):
        without_result(other_result)


def test_annotations_that_fit_or_say_nothing_are_taken() -> None:
    async def base(ctx: SagaContext, order: Order) -> Wider:
        return Wider(order="O")

    async def anything(ctx: Any, order: Any) -> Any:
        return None

    async def unknown(ctx: SagaContext, order: NotHere) -> NotHere:  # type: ignore[name-defined]  # noqa: F821
        return order

    async def bare(ctx, order):  # type: ignore[no-untyped-def]
        return None

    declare: Any = saga(SagaType("wide", Wider, Order))
    for function in (base, anything, unknown, bare):
        assert declare(function).name == "wide"
