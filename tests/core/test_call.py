"""Rule L3: a call is numbered when it is made, hashes by its number, and is a coroutine to all of asyncio."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from sagabus.coordinator.core.loop.loop import SagaLoop
from sagabus.coordinator.core.saga.call import Call


class Steps:
    """A loop and the steps called on it, each answered by the test."""

    def __init__(self) -> None:
        self.loop = SagaLoop()
        self.futures: list[asyncio.Future[Any]] = []

    def call(self) -> Call[Any]:
        self.futures.append(self.loop.create_future())
        return Call(len(self.futures), self.futures[-1])

    def start(self, saga: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        main = self.loop.start(saga)
        self.loop.pump(0)
        return main

    def answer(self, number: int, value: object = None) -> None:
        self.loop.resolve(self.futures[number - 1], f"answer {number}" if value is None else value)
        self.loop.pump(self.loop.now)

    @property
    def cancelled(self) -> list[int]:
        return [number for number, future in enumerate(self.futures, 1) if future.cancelled()]


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_l3_numbered_when_made_and_hashed_by_the_number(steps: Steps) -> None:
    async def saga() -> list[str]:
        second_to_await, first_to_await = steps.call(), steps.call()
        assert [second_to_await.number, first_to_await.number] == [1, 2]
        assert [hash(second_to_await), hash(first_to_await)] == [1, 2]
        assert second_to_await != first_to_await
        return [await first_to_await, await second_to_await]

    main = steps.start(saga())
    steps.answer(1)
    steps.answer(2)
    assert main.result() == ["answer 2", "answer 1"]


def test_l3_it_is_a_coroutine_to_asyncio(steps: Steps) -> None:
    call = steps.call()
    assert asyncio.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert repr(call) == "<Call of step 1, pending>"
    call.close()


def test_l3_everything_that_takes_a_coroutine_takes_a_call(steps: Steps) -> None:
    async def saga() -> list[Any]:
        task = asyncio.create_task(steps.call())
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(steps.call())
            gathered = asyncio.gather(steps.call(), steps.call())
        waited = await asyncio.wait_for(steps.call(), 5)
        firsts = [await first for first in asyncio.as_completed([steps.call(), steps.call()])]
        return [await task, grouped.result(), await gathered, waited, firsts, await asyncio.shield(steps.call())]

    main = steps.start(saga())
    for number in range(1, 9):
        steps.answer(number)
    seven = [f"answer {number}" for number in range(1, 9)]
    assert main.result() == [seven[0], seven[1], seven[2:4], seven[4], seven[5:7], seven[7]]


def test_l3_an_error_is_raised_where_it_is_awaited(steps: Steps) -> None:
    async def saga() -> str:
        with pytest.raises(ValueError, match="refused"):
            await steps.call()
        with pytest.raises(ValueError, match="refused"):
            await asyncio.create_task(steps.call())
        return "caught"

    main = steps.start(saga())
    for number in (1, 2):
        steps.loop.reject(steps.futures[number - 1], ValueError("refused"))
        steps.loop.pump(0)
    assert main.result() == "caught"


def test_l3_awaited_twice_is_a_mistake(steps: Steps) -> None:
    async def saga() -> str:
        call = steps.call()
        kept = await call
        with pytest.raises(RuntimeError, match="step 1 is awaited a second time"):
            await call
        return str(kept)

    main = steps.start(saga())
    steps.answer(1)
    assert main.result() == "answer 1"


@pytest.mark.parametrize("in_a_task", [True, False])
def test_l3_cancelling_the_task_that_awaits_it_gives_the_step_up(steps: Steps, in_a_task: bool) -> None:
    async def saga() -> None:
        await (asyncio.create_task(steps.call()) if in_a_task else steps.call())

    main = steps.start(saga())
    steps.loop.cancel(main)
    steps.loop.pump(0)
    assert main.cancelled()
    assert steps.cancelled == [1]


def test_l3_so_does_a_timeout_and_a_task_that_never_began(steps: Steps) -> None:
    async def saga() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(steps.call(), 1)
        task = asyncio.create_task(steps.call())
        task.cancel()
        await asyncio.wait([task])

    main = steps.start(saga())
    steps.loop.fire(1)
    steps.loop.pump(1_000_000)
    assert main.done()
    assert main.exception() is None
    assert steps.cancelled == [1, 2]


def test_l3_what_a_shield_protects_goes_on(steps: Steps) -> None:
    async def saga() -> Any:
        task = asyncio.create_task(steps.call())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 1)
        return await task

    main = steps.start(saga())
    steps.loop.fire(1)
    steps.loop.pump(1_000_000)
    assert steps.cancelled == []
    steps.answer(1)
    assert main.result() == "answer 1"


@pytest.mark.filterwarnings("error")
def test_l3_closing_it_cancels_nothing_unless_it_was_awaited(steps: Steps) -> None:
    unawaited, awaited = steps.call(), steps.call()
    assert awaited.send(None) is steps.futures[1]
    unawaited.close()
    awaited.close()
    unawaited.close()
    assert steps.cancelled == [2]
    del unawaited
    gc.collect()


def test_l3_never_awaited_it_warns_as_a_coroutine_would(steps: Steps) -> None:
    call = steps.call()
    with pytest.warns(RuntimeWarning, match="step 1 was never awaited; its command is sent all the same"):
        del call
    assert steps.cancelled == []


def test_l3_neither_a_warning_nor_a_cancellation_when_its_saga_is_evicted(steps: Steps) -> None:
    async def saga() -> None:
        kept = steps.call()
        task = asyncio.create_task(steps.call())
        await steps.call()
        del kept, task

    steps.start(saga())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        steps.loop.evict()
        gc.collect()
    assert (warned, steps.cancelled) == ([], [])
