"""Cancelling, where a cancellation may be lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from sagabus.messaging import background
from sagabus.messaging.background import Background, cancelled, uninterrupted


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "AGAIN", 0.01)


async def deaf(times: int, end: asyncio.Event) -> None:
    """Loses so many cancellations."""
    while not end.is_set():
        try:
            await end.wait()
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def test_who_loses_a_cancellation_is_cancelled_again() -> None:
    end = asyncio.Event()
    tasks = [asyncio.create_task(deaf(times, end)) for times in (0, 1, 3)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(30):
            await cancelled(tasks)
        assert all(task.cancelled() for task in tasks)
    finally:
        end.set()
    await cancelled([])


async def test_steps_are_over_when_they_were_stopped() -> None:
    begun: list[str] = []

    async def loses_the_first() -> None:
        begun.append("step")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if len(begun) > 1:
                raise

    steps = Background()
    steps.start(loses_the_first)
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await steps.stop()
    assert len(begun) == 2
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sagabus")]


async def test_uninterrupted_work_is_finished_before_its_cancellation_is_heard() -> None:
    go_on, done = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        done.set()
        return "done"

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
    assert await uninterrupted(work()) == "done"
