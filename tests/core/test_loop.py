"""Rules L1, L2 and L5 to L12: a saga's code runs alike everywhere, alone, and only when its owner says so.

Rule L3 is in test_call.py, L4 in test_eviction.py, what must be alike in several processes in test_loop_processes.py.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from sagabus.coordinator.core.loop import loop as loop_module
from sagabus.coordinator.core.loop.loop import LoopOverrun, LoopRefused, PumpInterrupted, SagaFuture, SagaLoop, SagaTask
from sagabus.coordinator.core.loop.watch import WATCH, Watch

MINUTE = 60_000_000
MANY = 10_000
"""Objects enough to set off garbage collection several times, at its default threshold."""


@pytest.fixture
def loop() -> Iterator[SagaLoop]:
    loop = SagaLoop()
    yield loop
    loop.evict()


def run(loop: SagaLoop, saga: Coroutine[Any, Any, Any]) -> Any:
    """What the saga returns; its timers fire one after the other."""
    main = loop.start(saga)
    loop.pump(loop.now)
    while not main.done():
        number, due = next(iter(loop.timers().items()))
        loop.fire(number)
        loop.pump(max(due, loop.now))
    return main.result()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


# L1


def test_l1_tasks_and_futures_hash_by_number_and_tasks_are_named_by_it(loop: SagaLoop) -> None:
    async def saga() -> list[asyncio.Future[Any]]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0)) for _ in range(2)]
        named = asyncio.create_task(asyncio.sleep(0), name="courier")
        await named
        return [*tasks, loop.create_future(), named]

    first, second, future, named = run(loop, saga())
    assert isinstance(first, SagaTask)
    assert isinstance(future, SagaFuture)
    assert [hash(first), hash(second)] == [first.number, second.number]
    assert first.number < second.number < future.number
    assert [first.get_name(), named.get_name()] == [f"Task-{first.number}", "courier"]
    assert first != second
    assert len({first, second, future, named}) == 4


def test_l1_a_task_without_a_number_is_refused(loop: SagaLoop) -> None:
    async def saga() -> None:
        coroutine = forever()
        with pytest.raises(LoopRefused, match=r"use `asyncio\.create_task`"):
            asyncio.Task(coroutine, loop=loop)
        coroutine.close()

    run(loop, saga())


# L2


def test_l2_no_task_of_a_saga_stays_in_the_set_that_all_loops_share(loop: SagaLoop) -> None:
    async def saga() -> None:
        asyncio.create_task(forever())  # noqa: RUF006  # the loop itself has to keep it
        await forever()

    main = loop.start(saga())
    loop.pump(0)
    assert asyncio.all_tasks(loop) == set()
    gc.collect()
    assert [task.get_name() for task in loop.tasks()] == [main.get_name(), "Task-2"]


# L5


async def numbers(log: list[str]) -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        log.append(f"finally on the saga's loop: {isinstance(asyncio.get_running_loop(), SagaLoop)}")


async def take_one(log: list[str]) -> None:
    async for _ in numbers(log):
        break


async def test_l5_an_abandoned_generator_ends_on_its_own_loop_in_the_same_pump(loop: SagaLoop) -> None:
    log: list[str] = []
    loop.start(take_one(log))
    loop.pump(0)
    assert log == ["finally on the saga's loop: True"]


async def test_l5_the_hooks_of_the_outer_loop_come_back(loop: SagaLoop) -> None:
    log: list[str] = []
    loop.start(take_one([]))
    loop.pump(0)
    generator = numbers(log)
    await anext(generator)
    del generator
    for _ in range(5):
        await asyncio.sleep(0)
    assert log == ["finally on the saga's loop: False"]


def test_l5_a_generator_found_by_the_garbage_collector_runs_nothing(loop: SagaLoop) -> None:
    log: list[str] = []

    async def saga() -> None:
        generator = numbers(log)
        await anext(generator)
        cycle: list[Any] = [generator]
        cycle.append(cycle)
        del generator, cycle
        await forever()

    loop.start(saga())
    loop.pump(0)
    gc.collect()
    loop.pump(1)
    assert (log, loop.failure, loop.errors) == ([], None, [])


# L6


class Cycle:
    """Garbage that only the collector finds, and that then wants to work on the loop that is running."""

    def __init__(self, log: list[str]) -> None:
        self.me = self
        self.log = log

    def __del__(self) -> None:
        self.log.append(f"destroyed on {asyncio._get_running_loop()}")


@pytest.mark.parametrize("collecting", [True, False])
def test_l6_no_garbage_is_collected_while_a_saga_runs(loop: SagaLoop, collecting: bool) -> None:
    log: list[str] = []

    async def saga() -> None:
        Cycle(log)
        garbage = [[number] for number in range(MANY)]
        assert garbage
        log.append("still here")

    gc.enable() if collecting else gc.disable()
    try:
        run(loop, saga())
        assert gc.isenabled() is collecting
        gc.collect()
    finally:
        gc.enable()
    assert log == ["still here", "destroyed on None"]


def test_l6_garbage_collection_comes_back_after_an_overrun() -> None:
    loop = SagaLoop(handles_per_pump=10)
    loop.start(spin())
    with pytest.raises(LoopOverrun):
        loop.pump(0)
    assert gc.isenabled()
    loop.evict()


def test_l6_a_context_can_only_be_used_on_its_own_loop_while_that_is_pumped(loop: SagaLoop) -> None:
    async def at_home() -> None:
        loop.check()

    async def elsewhere() -> None:
        with pytest.raises(LoopRefused, match="only be used by the code of that saga"):
            loop.check()

    run(loop, at_home())
    other = SagaLoop()
    run(other, elsewhere())
    with pytest.raises(RuntimeError, match="only while it runs"):
        loop.check()


def test_l6_nor_by_a_saga_that_runs_inside_its_pump(loop: SagaLoop) -> None:
    async def outer() -> None:
        run(SagaLoop(), inner())
        loop.check()

    async def inner() -> None:
        with pytest.raises(LoopRefused):
            loop.check()

    run(loop, outer())


# L7


def test_l7_one_saga_cannot_put_work_on_the_loop_of_another(loop: SagaLoop) -> None:
    shared = asyncio.Event()

    async def sets() -> None:
        with pytest.raises(LoopRefused, match="send the saga an event"):
            shared.set()

    loop.start(shared.wait())
    loop.pump(0)
    run(SagaLoop(), sets())
    assert isinstance(loop.failure, LoopRefused)  # its waiter is lost: somebody has to hear of it


@pytest.mark.parametrize(
    "work",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.create_task(forever()),
    ],
)
def test_l7_a_loop_that_is_not_pumped_refuses_work(loop: SagaLoop, work: Callable[[SagaLoop], object]) -> None:
    with pytest.raises(LoopRefused, match="not running now"):
        work(loop)
    assert loop.timers() == {}


def test_l7_only_the_owner_resolves_rejects_and_cancels_between_pumps(loop: SagaLoop) -> None:
    futures = [loop.create_future() for _ in range(2)]

    async def saga() -> list[object]:
        seen: list[object] = [await futures[0]]
        try:
            await futures[1]
        except ValueError as error:
            seen.append(str(error))
        try:
            await forever()
        except asyncio.CancelledError:
            seen.append("cancelled")
        return seen

    main = loop.start(saga())
    loop.pump(0)
    loop.resolve(futures[0], "answer")
    loop.pump(1)
    loop.reject(futures[1], ValueError("refused"))
    loop.pump(2)
    loop.cancel(main)
    assert not main.done()
    loop.pump(3)
    assert main.result() == ["answer", "refused", "cancelled"]
    loop.resolve(futures[0], "late")
    loop.reject(futures[1], ValueError("late"))
    assert futures[0].result() == "answer"


# L8


async def test_l8_the_outer_loop_and_its_task_are_put_aside_and_come_back(loop: SagaLoop) -> None:
    outer, task = asyncio.get_running_loop(), asyncio.current_task()
    seen: list[object] = []

    async def saga() -> None:
        seen.extend([asyncio.get_running_loop(), asyncio.current_task(), asyncio.current_task(outer)])
        await asyncio.sleep(0)

    main = loop.start(saga())
    loop.pump(0)
    assert seen == [loop, main, None]
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (outer, task)


async def test_l8_they_come_back_after_an_overrun(loop: SagaLoop) -> None:
    task = asyncio.current_task()
    narrow = SagaLoop(handles_per_pump=5)
    narrow.start(spin())
    with pytest.raises(LoopOverrun):
        narrow.pump(0)
    assert asyncio.current_task() is task
    narrow.evict()
    assert asyncio.current_task() is task


async def test_l8_the_outer_task_is_left_and_entered_while_its_loop_is_the_running_one(
    loop: SagaLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = asyncio.get_running_loop()
    seen: list[object] = []
    for name in ("_leave_task", "_enter_task"):
        real = getattr(asyncio.tasks, name)

        def watched(of: object, task: object, name: str = name, real: Callable[..., None] = real) -> None:
            seen.append((name, asyncio._get_running_loop() is of is outer))
            real(of, task)

        monkeypatch.setattr(loop_module, name, watched)
    loop.start(asyncio.sleep(0))
    loop.pump(0)
    assert seen == [("_leave_task", True), ("_enter_task", True)]


# L9

trace = ContextVar("trace", default="clean")


def test_l9_a_saga_starts_in_an_empty_context_and_its_tasks_in_its_own(loop: SagaLoop) -> None:
    async def child() -> str:
        return trace.get()

    async def saga() -> list[str]:
        before = trace.get()
        trace.set("the saga's")
        seen = [before, await asyncio.create_task(child())]
        called = loop.create_future()
        loop.call_soon(lambda: called.set_result(trace.get()))
        loop.call_later(1, lambda: seen.append(trace.get()))
        await asyncio.sleep(2)
        return [*seen, await called]

    token = trace.set("the coordinator's")
    try:
        assert run(loop, saga()) == ["clean", "the saga's", "the saga's", "the saga's"]
        assert trace.get() == "the coordinator's"
    finally:
        trace.reset(token)


# L10


async def spin() -> None:
    while True:  # noqa: ASYNC110  # what this is about
        await asyncio.sleep(0)


def test_l10_the_callbacks_of_one_pump_are_bounded(loop: SagaLoop) -> None:
    loop.start(spin())
    with pytest.raises(LoopOverrun, match="100000 callbacks"):
        loop.pump(0)
    assert not loop.pumping


@pytest.mark.parametrize(("bound", "enough"), [(4, True), (3, False)])
def test_l10_the_bound_counts_each_callback_of_a_pump_once(bound: int, enough: bool) -> None:
    ran: list[int] = []

    async def saga() -> None:  # a callback to start it, one for each sleep, one when it has ended
        for number in range(2):
            ran.append(number)
            await asyncio.sleep(0)

    loop = SagaLoop(handles_per_pump=bound)
    loop.start(saga())
    if enough:
        loop.pump(0)
        assert loop.tasks() == []
    else:
        with pytest.raises(LoopOverrun):
            loop.pump(0)
        loop.pump(0)  # goes on where it stood
    assert ran == [0, 1]


def test_l10_cancelled_callbacks_count() -> None:
    narrow = SagaLoop(handles_per_pump=100)

    def again() -> None:
        narrow.call_soon(again).cancel()
        narrow.call_soon(again)

    async def saga() -> None:
        again()

    narrow.start(saga())
    with pytest.raises(LoopOverrun):
        narrow.pump(0)
    narrow.evict()


def test_l10_so_does_what_destructors_put_on_the_loop() -> None:
    narrow = SagaLoop(handles_per_pump=100)

    class Hydra:
        def __del__(self) -> None:
            if narrow.pumping:
                narrow.call_soon(id, Hydra())

    async def saga() -> None:
        narrow.call_soon(id, Hydra())

    narrow.start(saga())
    with pytest.raises(LoopOverrun):
        narrow.pump(0)
    narrow.evict()


# L11

REFUSED = {
    name
    for name in dir(asyncio.AbstractEventLoop)
    if not name.startswith("_") and getattr(SagaLoop, name) is not getattr(asyncio.AbstractEventLoop, name)
} - {
    "call_at", "call_exception_handler", "call_later", "call_soon", "create_future", "create_task",
    "default_exception_handler", "get_debug", "get_exception_handler", "get_task_factory", "is_closed", "is_running",
    "time",
}  # fmt: skip


def test_l11_no_method_of_an_event_loop_is_left_without_an_answer() -> None:
    """A new Python may bring new ones: each needs a cure, or to work."""
    inherited = [
        name
        for name in dir(asyncio.AbstractEventLoop)
        if not name.startswith("_") and getattr(SagaLoop, name) is getattr(asyncio.AbstractEventLoop, name)
    ]
    assert inherited == []
    assert len(REFUSED) > 40


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_l11_a_refused_method_says_what_to_do_instead(loop: SagaLoop, name: str) -> None:
    with pytest.raises(LoopRefused, match=rf"^{name}\(\) is not for sagas: [^:]{{20,}}"):
        getattr(loop, name)(1, 2, option=3)


@pytest.mark.parametrize(
    "work",
    [
        lambda: asyncio.to_thread(print),
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    ],
)
def test_l11_the_outside_is_for_activities(loop: SagaLoop, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def saga() -> None:
        with pytest.raises(LoopRefused, match=r"in an activity"):
            await work()

    run(loop, saga())


def test_l11_work_for_an_executor_marks_the_saga_failed_whatever_it_catches(loop: SagaLoop) -> None:
    async def saga() -> None:
        with suppress(Exception):
            await asyncio.to_thread(print)

    run(loop, saga())
    assert isinstance(loop.failure, LoopRefused)
    assert "do work for threads and executors in an activity" in str(loop.failure)


def test_l11_a_thread_that_comes_back_marks_the_saga_failed(loop: SagaLoop) -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        async def saga() -> None:
            await asyncio.wrap_future(pool.submit(go.wait))

        loop.start(saga())
        loop.pump(0)
        assert loop.failure is None
        go.set()
    assert isinstance(loop.failure, LoopRefused)


# L12


def test_l12_timers_are_whole_microseconds_in_the_order_of_due_and_number(loop: SagaLoop) -> None:
    async def saga() -> None:
        for delay in (0.3, 0.1 + 0.2, 0.000_000_6, 1e-9, 7, 0.1):
            loop.call_later(delay, print)
        loop.call_at(loop.time() + 0.3, print)

    loop.start(saga())
    loop.pump(1_700_000_000_123_457)
    now = loop.now
    due = [(number, due - now) for number, due in loop.timers().items()]
    assert due == [(4, 0), (3, 1), (6, 100_000), (1, 300_000), (2, 300_000), (7, 300_000), (5, 7_000_000)]


def test_l12_equal_deadlines_fire_in_the_order_of_making_and_time_is_the_owners(loop: SagaLoop) -> None:
    log: list[tuple[int, float]] = []

    async def sleeper(number: int) -> None:
        await asyncio.sleep(5)
        log.append((number, loop.time()))

    async def saga() -> None:
        await asyncio.gather(*(sleeper(number) for number in range(20)))

    run(loop, saga())
    assert log == [(number, 5.0) for number in range(20)]


def test_l12_never_is_a_date_that_can_be_stored_and_nan_is_none(loop: SagaLoop) -> None:
    async def saga() -> None:
        with pytest.raises(ValueError, match="NaN"):
            loop.call_later(math.nan, print)
        await asyncio.sleep(math.inf)

    loop.start(saga())
    loop.pump(5)
    assert loop.timers() == {1: 1_000 * 365 * 86_400 * 1_000_000}


# Timers


def test_a_cancelled_timer_is_gone_and_its_number_is_not_used_again(loop: SagaLoop) -> None:
    async def saga() -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await forever()

    loop.start(saga())
    loop.pump(1)
    assert loop.timers() == {2: MINUTE + 1}
    with pytest.raises(KeyError):
        loop.fire(1)
    loop.fire(2)
    assert loop.timers() == {}
    with pytest.raises(KeyError):
        loop.fire(2)


def test_a_fired_timer_runs_in_the_next_pump_unless_it_is_cancelled_before(loop: SagaLoop) -> None:
    log: list[str] = []

    async def saga() -> None:
        second = loop.call_later(2, log.append, "second")
        loop.call_later(1, second.cancel)
        loop.call_later(3, log.append, "third")

    loop.start(saga())
    loop.pump(0)
    for number in (2, 1, 3):  # 2 is due first, and cancels 1, which the owner has fired too
        loop.fire(number)
    assert log == []
    loop.pump(3_000_000)
    assert log == ["third"]


def test_what_changes_the_timers_is_marked(loop: SagaLoop) -> None:
    waiting = loop.create_future()

    async def saga() -> None:
        timer = loop.call_later(1, print)
        await waiting
        timer.cancel()
        timer.cancel()

    loop.start(saga())
    assert not loop.timers_changed
    loop.pump(0)
    assert loop.timers_changed
    assert loop.take_changed_timers() == [1]
    assert loop.take_changed_timers() == []
    loop.resolve(waiting, None)
    loop.pump(0)
    assert loop.timers_changed


def test_a_timeout_around_a_wait_raises_when_its_timer_fires(loop: SagaLoop) -> None:
    async def saga() -> float:
        try:
            async with asyncio.timeout(3) as patience:
                patience.reschedule(loop.time() + 5)
                await asyncio.sleep(10)
        except TimeoutError:
            return loop.time()
        return 0.0

    assert run(loop, saga()) == 5.0


# What goes wrong in a saga stays in it


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("base")])
@pytest.mark.parametrize("where", ["main", "child", "callback"])
def test_a_base_exception_ends_up_in_failure_and_stops_the_saga(
    loop: SagaLoop, error: BaseException, where: str
) -> None:
    log: list[str] = []

    async def fails() -> None:
        raise error

    def fails_too() -> None:
        raise error

    async def bystander() -> None:
        await answer
        log.append("went on")

    async def saga() -> None:
        waiting = asyncio.create_task(bystander())
        await asyncio.sleep(0)
        if where == "main":
            await fails()
        elif where == "child":
            child = asyncio.create_task(fails())
            del child
        else:
            loop.call_soon(fails_too)
        await waiting

    answer = loop.create_future()
    loop.start(saga())
    loop.pump(0)
    assert loop.failure is error
    loop.resolve(answer, None)
    loop.pump(1)
    assert log == []


def test_an_exception_or_a_cancellation_is_no_failure(loop: SagaLoop) -> None:
    async def fails() -> None:
        raise ValueError

    main = loop.start(fails())
    cancelled = SagaLoop()
    other = cancelled.start(forever())
    cancelled.pump(0)
    cancelled.cancel(other)
    cancelled.pump(0)
    loop.pump(0)
    assert isinstance(main.exception(), ValueError)
    assert other.cancelled()
    assert (loop.failure, cancelled.failure) == (None, None)


def test_errors_of_callbacks_and_exceptions_that_nobody_looked_at_are_kept(
    loop: SagaLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fails() -> None:
        raise ValueError("child")

    def fails_too() -> None:
        raise ValueError("callback")

    async def saga() -> None:
        child = asyncio.create_task(fails())
        del child
        loop.call_soon(fails_too)

    run(loop, saga())
    assert sorted(str(context["exception"]) for context in loop.errors) == ["callback", "child"]
    assert capfd.readouterr() == ("", "")


def test_a_saga_that_ended_leaves_nothing_for_the_garbage_collector(loop: SagaLoop) -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)

    async def saga(held: Thing) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    gc.disable()
    try:
        run(loop, saga(thing))
        del thing
        assert gone() is None
    finally:
        gc.enable()


def test_a_pump_is_not_entered_twice_and_time_does_not_go_back(loop: SagaLoop) -> None:
    async def saga() -> None:
        with pytest.raises(RuntimeError, match="pumped already"):
            loop.pump(0)

    run(loop, saga())
    loop.pump(10)
    with pytest.raises(ValueError, match="from 10 to 9"):
        loop.pump(9)


def test_asyncios_own_furniture_works(loop: SagaLoop) -> None:
    async def saga() -> list[Any]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock, gate = asyncio.Lock(), asyncio.Event()

        async def producer() -> None:
            await gate.wait()
            for number in range(3):
                async with lock:
                    await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            gate.set()
            taken = [await queue.get() for _ in range(3)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(forever(), 1)
        return [*taken, await asyncio.wait_for(asyncio.sleep(1, "slept"), 2), loop.time()]

    assert run(loop, saga()) == [0, 1, 2, "slept", 2.0]


# Interrupts, as a watchdog makes them (the real one is tried in tests/coordinator/test_watchdog.py).


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Its withdrawal is hit by an interrupt that was on its way, and is repeated."""
    calls = iter((True, False))

    def withdraw() -> None:
        if next(calls):
            raise PumpInterrupted
        WATCH.interrupting = False

    monkeypatch.setattr(WATCH, "withdraw", withdraw)
    return WATCH


@pytest.mark.parametrize("lands", [True, False])
def test_l10_a_pump_that_was_interrupted_has_failed_wherever_it_landed(
    loop: SagaLoop, watch: Watch, lands: bool
) -> None:
    went_on: list[bool] = []

    async def saga() -> None:
        assert watch.loop is loop
        watch.interrupting, watch.words = True, "too long"
        if lands:
            raise PumpInterrupted
        await asyncio.sleep(0)
        went_on.append(True)

    loop.start(saga())
    before = watch.pumps
    loop.pump(0)
    assert str(loop.failure) == "too long"
    assert (watch.loop, watch.words, watch.interrupting, watch.pumps) == (None, "", False, before + 1)
    loop.pump(1)
    assert went_on == [True] * (not lands), "nothing runs any more"


def test_l10_an_interrupt_between_two_callbacks_does_not_leave_the_pump(
    loop: SagaLoop, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def saga() -> None:
        watch.interrupting, watch.words = True, "too long"
        raise KeyboardInterrupt

    def ends(*_: object) -> bool:
        raise PumpInterrupted

    loop.start(saga())
    monkeypatch.setattr(SagaLoop, "_ends", ends)
    loop.pump(0)
    assert str(loop.failure) == "too long"


def test_l10_an_interrupt_that_was_called_off_changes_nothing(loop: SagaLoop, watch: Watch) -> None:
    async def saga() -> int:
        watch.interrupting = True
        return 7

    task = loop.start(saga())
    loop.pump(0)
    assert (task.result(), loop.failure, watch.interrupting) == (7, None, False)
