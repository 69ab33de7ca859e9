"""Cancelling, where a cancellation may be lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sagabus.messaging import background
from sagabus.messaging.background import Background, PartDied, Supervisor, cancelled, uninterrupted


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_AGAIN_SECONDS", 0.01)


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

    steps = Background(Supervisor())
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


class Panic(BaseException):
    """As pyo3 raises one."""


async def guarded(error: BaseException, told: list[str], drain: Callable[[], Awaitable[None]]) -> None:
    """A service of which one part dies at once of this error."""

    async def dies() -> None:
        raise error

    async with Supervisor(told.append) as supervisor:
        try:
            supervisor.spawn(dies(), name="the cook")
            await asyncio.Event().wait()
        finally:
            await drain()


async def at_once() -> None:
    await asyncio.sleep(0)


async def test_s14_whatever_a_task_dies_of_ends_the_block_in_order() -> None:
    told: list[str] = []
    drained: list[str] = []

    async def drain() -> None:
        await at_once()
        drained.append("drained")

    with pytest.raises(PartDied, match="the cook has died of Panic: out of cheese") as raised:
        await guarded(Panic("out of cheese"), told, drain)
    assert told == ["the cook has died of Panic: out of cheese"]
    assert drained == ["drained"]
    assert isinstance(raised.value.__cause__, Panic)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), asyncio.CancelledError(), ValueError("x")])
async def test_s14_no_error_ends_a_task_unnoticed(error: BaseException) -> None:
    """Among them a cancellation that nobody has asked for: it came out of another task that was awaited."""
    with pytest.raises(PartDied, match="the cook"):
        await guarded(error, [], at_once)


async def test_a_drain_that_hangs_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "DRAIN_STEP_SECONDS", 0.01)

    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(PartDied):
        await asyncio.wait_for(guarded(Panic(), [], hangs), 30)


async def test_who_is_cancelled_has_not_died() -> None:
    async with Supervisor() as supervisor:
        task = supervisor.spawn(asyncio.Event().wait(), name="the cook")
        await asyncio.sleep(0)
        await cancelled([task])
        assert supervisor.death is None


async def test_a_step_that_fails_alike_again_and_again_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 0.001)
    tries, enough = 0, asyncio.Event()

    async def fails() -> None:
        nonlocal tries
        tries += 1
        if tries == 20:
            enough.set()
        raise OSError("first" if tries < 10 else "second")

    steps = Background(Supervisor())
    steps.start(fails)
    async with asyncio.timeout(30):
        await enough.wait()
    await steps.stop()
    assert [record.getMessage() for record in caplog.records] == ["fails: first", "fails: second"]
