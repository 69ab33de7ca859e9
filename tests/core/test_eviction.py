"""Rule L4: a saga leaves memory at a known moment, and nothing that its code does on the way takes effect."""
# ruff: noqa: SIM105  # the sagas at the end swallow exceptions as their authors would

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from sagabus.coordinator.core.loop.eviction import REFUSALS_PER_EVICTION, THROWS_PER_COROUTINE, Eviction
from sagabus.coordinator.core.loop.loop import PumpInterrupted, SagaEvicted, SagaLoop
from sagabus.coordinator.core.saga.history import Kind
from tests.core.cost import DONE, Definition, Plain
from tests.core.shapes import ALL

Saga = Callable[["Commands"], Coroutine[Any, Any, None]]


class Commands:
    """What a saga's context does: look whether the loop is its own, note a command, hand back its future."""

    def __init__(self) -> None:
        self.loop = SagaLoop()
        self.sent: list[str] = []
        self.refused: list[str] = []

    def send(self, name: str) -> asyncio.Future[Any]:
        try:
            self.loop.check()
        except BaseException as error:
            self.refused.append(f"{name}: {type(error).__name__}")
            raise
        self.sent.append(name)
        return self.loop.create_future()


def suspended(saga: Saga) -> Commands:
    commands = Commands()
    commands.loop.start(saga(commands))
    commands.loop.pump(0)
    return commands


async def leaf(commands: Commands, name: str) -> None:
    try:
        await commands.send(name)
    finally:
        await commands.send(f"{name} finally")


async def events(commands: Commands) -> AsyncIterator[int]:
    try:
        yield 1
        await commands.send("generator")
        yield 2
    finally:
        await commands.send("generator finally")


async def listener(commands: Commands) -> None:
    async for _ in events(commands):
        pass


async def everything(commands: Commands) -> None:
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(leaf(commands, f"leaf {number}"))
            group.create_task(listener(commands))
            await asyncio.shield(leaf(commands, "shielded"))
    except BaseException:
        await commands.send("main except")
    finally:
        await commands.send("main finally")


def test_l4_finally_blocks_run_and_send_nothing() -> None:
    commands = suspended(everything)
    before = list(commands.sent)
    assert sorted(before) == ["generator", "leaf 0", "leaf 1", "leaf 2", "shielded"]
    commands.loop.evict()
    assert commands.sent == before
    assert len(commands.refused) >= 5
    assert {refusal.partition(": ")[2] for refusal in commands.refused} == {"SagaEvicted"}
    assert (commands.loop.tasks(), commands.loop.errors) == ([], [])


def test_l4_tasks_are_closed_newest_first() -> None:
    closed: list[int] = []

    async def waiter(commands: Commands, number: int) -> None:
        try:
            await commands.send(str(number))
        finally:
            closed.append(number)

    async def saga(commands: Commands) -> None:
        try:
            await asyncio.gather(*(waiter(commands, number) for number in range(5)))
        finally:
            closed.append(-1)

    suspended(saga).loop.evict()
    assert closed == [4, 3, 2, 1, 0, -1]


ASKED: dict[str, Callable[[SagaLoop], Any]] = {
    "call_at": lambda loop: loop.call_at(1, print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_soon": lambda loop: loop.call_soon(print),
    "cancel": lambda loop: loop.cancel(loop.test_task),  # type: ignore[attr-defined]
    "check": lambda loop: loop.check(),
    "create_future": lambda loop: loop.create_future(),
    "create_task": lambda loop: loop.create_task(asyncio.sleep(1)),
    "fire": lambda loop: loop.fire(1),
    "pump": lambda loop: loop.pump(1),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "start": lambda loop: loop.start(asyncio.sleep(1)),
    "time": lambda loop: loop.time(),
}
FOR_OWNERS = {"cancel", "fire", "pump", "start"}


@pytest.mark.parametrize("name", sorted(ASKED))
@pytest.mark.filterwarnings("error")
def test_l4_a_dead_loop_answers_everything_alike(name: str) -> None:
    loop = SagaLoop()
    seen: list[str] = []

    async def saga() -> None:
        try:
            await loop.create_future()
        finally:
            try:
                ASKED[name](loop)
            except BaseException as error:
                seen.append(type(error).__name__)

    loop.test_task = loop.start(saga())  # type: ignore[attr-defined]
    loop.pump(0)
    loop.evict()
    assert seen == ["SagaEvicted"]
    if name != "cancel":  # by now there is nothing left of the task
        with pytest.raises(SagaEvicted):
            ASKED[name](loop)
    assert loop.failure is None


def test_l4_the_dead_loop_is_the_running_one_meanwhile() -> None:
    seen: list[bool] = []

    async def saga(commands: Commands) -> None:
        try:
            await commands.send("step")
        finally:
            seen.append(asyncio.get_running_loop() is commands.loop)

    commands = suspended(saga)
    commands.loop.evict()
    assert seen == [True]
    assert asyncio._get_running_loop() is None


async def test_l4_the_outer_loop_and_its_task_come_back() -> None:
    outer, task = asyncio.get_running_loop(), asyncio.current_task()
    suspended(everything).loop.evict()
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (outer, task)


secret = ContextVar("secret", default="clean")


def test_l4_what_runs_meanwhile_does_not_see_the_coordinators_context() -> None:
    seen: list[str] = []

    async def saga(commands: Commands) -> None:
        try:
            await commands.send("step")
        finally:
            seen.append(secret.get())

    commands = suspended(saga)
    token = secret.set("the coordinator's")
    commands.loop.evict()
    secret.reset(token)
    assert seen == ["clean"]


def test_l4_twice_is_once_and_not_from_inside() -> None:
    async def saga(commands: Commands) -> None:
        with pytest.raises(RuntimeError, match="while it is pumped"):
            commands.loop.evict()
        await leaf(commands, "step")

    commands = suspended(saga)
    assert not commands.loop.dead
    commands.loop.evict()
    commands.loop.evict()
    assert commands.loop.dead
    assert commands.refused == ["step finally: SagaEvicted"]


def test_l4_nothing_is_left_to_the_garbage_collector() -> None:
    class Thing:
        pass

    kept: list[weakref.ref[Thing]] = []

    async def saga(commands: Commands) -> None:
        thing = Thing()
        kept.append(weakref.ref(thing))
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(commands, "step"))
            async with asyncio.timeout(5):
                await asyncio.shield(leaf(commands, "other"))

    gc.collect()
    gc.disable()
    try:
        commands = suspended(saga)
        commands.loop.evict()
        assert kept[0]() is None
    finally:
        gc.enable()


def test_l4_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """No "Task was destroyed but it is pending", no "exception was never retrieved", nothing unraisable."""

    async def fails() -> None:
        raise ValueError("nobody looks at this")

    async def saga(commands: Commands) -> None:
        failed = asyncio.create_task(fails())
        unread = commands.loop.create_future()
        unread.set_exception(ValueError("nor at this"))
        both = asyncio.gather(fails(), leaf(commands, "in gather"))
        waiting = asyncio.create_task(everything(commands))
        await asyncio.sleep(0)
        later = asyncio.create_task(leaf(commands, "never begun"))
        commands.loop.call_later(1, print)
        try:
            await commands.send("step")
        finally:
            await asyncio.sleep(0)
            del failed, unread, both, waiting, later

    commands = Commands()
    main, loop = commands.loop.start(saga(commands)), commands.loop
    loop.pump(0)
    loop.evict()
    del commands, main
    gc.collect()
    assert (loop.errors, capfd.readouterr()) == ([], ("", ""))


def test_l4_a_saga_that_has_ended_is_evicted_like_any_other() -> None:
    async def saga(commands: Commands) -> None:
        pass

    commands = suspended(saga)
    assert commands.loop.tasks() == []
    commands.loop.evict()
    with pytest.raises(SagaEvicted):
        commands.loop.check()


def test_l4_a_task_that_has_not_begun_never_begins() -> None:
    commands = Commands()
    commands.loop.start(leaf(commands, "step"))
    commands.loop.evict()
    assert (commands.sent, commands.refused) == ([], [])


@pytest.mark.filterwarnings("error")
def test_l4_a_task_made_in_a_finally_block_is_refused_without_a_warning() -> None:
    async def saga(commands: Commands) -> None:
        try:
            await commands.send("step")
        finally:
            await asyncio.create_task(leaf(commands, "tidying up"))

    commands = suspended(saga)
    commands.loop.evict()
    gc.collect()
    assert (commands.sent, commands.refused) == (["step"], [])


# Sagas that swallow their own eviction


async def retries(commands: Commands) -> None:
    while True:
        try:
            await commands.send("step")
        except BaseException:
            pass


async def retries_with_care(commands: Commands) -> None:
    try:
        while True:
            with contextlib.suppress(BaseException):
                await commands.send("step")
    finally:
        await commands.send("finally")


async def step_of(commands: Commands) -> None:
    try:
        await commands.send("step")
    finally:
        commands.loop.create_future()


async def retries_one_level_up(commands: Commands) -> None:
    number = 0
    while number >= 0:
        try:
            await step_of(commands)
        except BaseException:
            number += 1
            continue
        number += 1


async def retries_on_every_level(commands: Commands) -> None:
    while True:
        try:
            await retries(commands)
        except BaseException:
            pass


async def retries_the_clock(commands: Commands) -> None:
    await_this = commands.send("step")
    while True:
        try:
            await asyncio.sleep(commands.loop.time() + 1)
            await await_this
        except BaseException:
            pass


async def retries_in_a_task(commands: Commands) -> None:
    while True:
        try:
            await asyncio.create_task(leaf(commands, "step"))
        except BaseException:
            pass


async def waits_on_one_level_down(commands: Commands) -> None:
    await waits_on(commands)


async def waits_on(commands: Commands) -> None:
    await_this = commands.send("step")
    while True:
        try:
            await await_this
        except BaseException:
            pass


STUBBORN = [
    retries, retries_with_care, retries_one_level_up, retries_on_every_level, retries_the_clock, retries_in_a_task,
    waits_on, waits_on_one_level_down,
]  # fmt: skip


@pytest.mark.parametrize("saga", STUBBORN)
def test_l4_a_saga_that_swallows_its_eviction_comes_to_an_end(saga: Saga, capfd: pytest.CaptureFixture[str]) -> None:
    commands = suspended(saga)
    sent, commands.sent = commands.sent, []  # what an owner does: nothing that comes now is looked at
    commands.loop.evict()
    assert sent == ["step"]
    assert len(commands.refused) <= REFUSALS_PER_EVICTION + THROWS_PER_COROUTINE
    assert (commands.loop.dead, commands.loop.pumping, commands.loop.tasks()) == (True, False, [])
    assert (commands.loop.timers(), commands.loop.errors) == ({}, [])
    with pytest.raises(SagaEvicted):
        commands.loop.check()
    del commands
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_l10_an_interrupt_in_the_middle_of_an_eviction_leaves_no_coroutine_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may come at any place: before a coroutine is closed, and after."""
    close, closed = Eviction._close, []

    def interrupted(eviction: Eviction, coroutine: Coroutine[Any, Any, Any]) -> None:
        closed.append(coroutine)
        if len(closed) == 2:
            raise PumpInterrupted
        close(eviction, coroutine)
        if len(closed) == 4:
            raise PumpInterrupted

    async def tasks(commands: Commands) -> None:
        await asyncio.gather(*(leaf(commands, str(number)) for number in range(4)))

    commands = suspended(tasks)
    monkeypatch.setattr(Eviction, "_close", interrupted)
    commands.loop.evict()
    assert commands.refused == [f"{number} finally: SagaEvicted" for number in (3, 2, 1, 0)]
    assert (commands.loop.tasks(), commands.sent) == ([], ["0", "1", "2", "3"])


@pytest.mark.parametrize("code", ALL, ids=lambda code: code._body.__name__)
def test_a_saga_that_ends_or_is_evicted_leaves_nothing_to_the_garbage_collector(code: Definition) -> None:
    """Tens of thousands may leave memory together: a cycle for each would be a stall, or memory that stays taken."""

    def evicted() -> None:
        Plain(code).saga.evict()

    def answered() -> None:
        saga = Plain(code)
        for _ in range(5):
            for step in sorted(saga.state.steps.open):
                service = saga.state.steps[step].service
                saga.give(Kind.STEP_COMPLETED, step, 1, name=service, ref=f"r{step}", payload=DONE)
        saga.saga.evict()

    for way in (evicted, answered):
        way()  # what is made once: caches
        gc.collect()
        gc.disable()
        try:
            way()
            assert gc.collect() == 0, way.__name__
        finally:
            gc.enable()
