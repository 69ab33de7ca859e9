"""What reaches outside of a saga while its code runs is refused, has one fate, and nothing else is touched (L14)."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.loop.watch import WATCH
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.guard import guarded
from sagabus.messaging.settings import SettingsError, load_settings
from tests.coordinator.guarded_sagas import THINGS, doing, stopped
from tests.core.kit import Drive
from tests.core.other_pythons import OWN, PYTHONS, NotThere, environment, python
from tests.core.restored import forget_all
from tests.core.services import Order, Result, reserve
from tests.support.processes import ROOT


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    with guarded():
        yield
        forget_all()


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("name", THINGS)
def test_l14_what_reaches_outside_needs_an_operator_and_undoes_nothing(name: str, caught: bool) -> None:
    work, words = THINGS[name]
    drive = stopped(work, caught=caught)
    assert words in drive.attention
    assert "tests/coordinator/guarded_sagas.py:" in drive.attention, "where it was"
    assert list(drive.state.concerns) == [Concern(ConcernKind.BLOCKED)]
    assert (drive.status, drive.last.short) == ("running", [])
    assert drive.kinds[-2:] == ["step.completed 1", "blocked 3"], "the input is kept"


@pytest.mark.parametrize(
    "version", [one if one == OWN else pytest.param(one, marks=pytest.mark.ring("deployment")) for one in PYTHONS]
)
def test_l14_every_python_tells_the_guard_the_same(version: str) -> None:
    try:
        command, env = [python(version), "-m", "tests.coordinator.guarded_sagas"], environment(version)
    except NotThere as reason:
        pytest.skip(f"no Python {version} with pydantic: the guard was not tried on it; {reason}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    for key, (attention, status, sent) in json.loads(done.stdout).items():
        assert THINGS[key.split()[0]][1] in attention, key
        assert (status, sent) == ("running", []), key


@pytest.mark.parametrize("name", [name for name in THINGS if name != "connect"])
def test_l14_the_same_outside_of_sagas_is_untouched(name: str) -> None:
    drive = Drive(doing(lambda: None)).start()
    work, _ = THINGS[name]
    work()
    drive.completed(1)
    work()
    assert drive.attention == ""


def test_l14_another_thread_is_untouched_while_a_saga_is_pumped() -> None:
    """As of a participant's handlers in the same process."""
    pumped, opened, faults = threading.Event(), threading.Event(), list[BaseException]()

    def handle() -> None:
        pumped.wait(30)
        try:
            assert WATCH.loop is not None
            for name, (work, _) in THINGS.items():
                if name != "connect":
                    work()
        except BaseException as fault:
            faults.append(fault)
        opened.set()

    def wait() -> None:
        pumped.set()
        assert opened.wait(30)

    other = threading.Thread(target=handle)
    other.start()
    drive = stopped(wait, caught=False)
    other.join()
    assert (faults, drive.attention) == ([], "")


async def test_l14_a_handler_on_the_loop_beside_is_untouched() -> None:
    async def handle() -> bytes:
        await asyncio.to_thread(time.sleep, 0)
        return Path("/dev/null").read_bytes()

    handling = asyncio.create_task(handle())
    drive = Drive(doing(lambda: None)).start()
    assert await handling == b""
    drive.completed(1)
    assert drive.attention == ""


def test_l14_a_saga_that_is_stopped_goes_on_when_its_code_is_mended() -> None:
    drive = stopped(THINGS["read"][0], caught=True)
    drive.reload()
    assert "opening a file" in drive.attention, "the same code stops at the same place"
    drive.reload(doing(lambda: None))
    assert drive.attention == ""
    assert drive.last.short == ["stock do 2"] or drive.kinds[-1] == "command 2"


def test_l14_a_replay_is_guarded_as_well() -> None:
    """Sagas that were begun before there was a guard, or under one that was off."""
    drive = Drive(doing(lambda: None)).start()
    drive.reload(doing(THINGS["sleep"][0], after=0))
    assert "time.sleep() is not for sagas" in drive.attention
    assert drive.last.short == []


def test_l4_what_runs_as_a_saga_leaves_memory_reaches_nothing_outside() -> None:
    seen: list[str] = []

    @saga("saga")
    async def tidying(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            try:
                Path("/dev/null").read_bytes()
            except BaseException as refused:
                seen.append(type(refused).__name__)
        return Result(refs=[])

    drive = Drive(tidying).start()
    drive.saga.evict()
    assert set(seen) == {"SagaEvicted"}


# What is let through.


def _imports(folder: Path) -> Callable[[], object]:
    (folder / "lazily_imported_by_a_saga.py").write_text("import threading\nRATES = open(__file__).read()\n")

    def work() -> None:
        import lazily_imported_by_a_saga  # type: ignore[import-not-found]  # written just now

        assert lazily_imported_by_a_saga.RATES

    return work


def _logs(folder: Path) -> Callable[[], object]:
    def work() -> None:
        logger = logging.getLogger("of a saga")
        handler = RotatingFileHandler(folder / "saga.log", maxBytes=1, backupCount=2, delay=True)
        logger.addHandler(handler)
        logger.warning("one")
        logger.warning("two")
        logger.removeHandler(handler)
        handler.close()

    return work


def _warns(_: Path) -> Callable[[], object]:
    return lambda: warnings.warn_explicit("careful", UserWarning, __file__, 1)


def _shows_a_traceback(_: Path) -> Callable[[], object]:
    class Falls:
        def __del__(self) -> None:
            raise ValueError("in a destructor")

    return Falls


def _asks_for_a_zone(_: Path) -> Callable[[], object]:
    return lambda: ZoneInfo.no_cache("Europe/Berlin")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "always:careful")
@pytest.mark.parametrize("work", [_imports, _logs, _warns, _shows_a_traceback, _asks_for_a_zone])
def test_l14_imports_logs_warnings_tracebacks_and_zones_are_let_through(
    work: Callable[[Path], Callable[[], object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr(warnings, "showwarning", warnings._showwarning_orig)  # type: ignore[attr-defined]
    drive = Drive(doing(work(tmp_path))).start()
    drive.completed(1)
    assert drive.attention == ""


# For those who know why.


def test_l14_an_unguarded_block_lets_through_what_is_in_it_and_nothing_else() -> None:
    @saga("saga")
    async def knowing(ctx: SagaContext, order: Order) -> Result:
        with ctx.unguarded(), ctx.unguarded():
            Path("/dev/null").read_bytes()
        await ctx.call(reserve(order=order.order))
        with ctx.unguarded():
            time.sleep(0)
        await asyncio.sleep(1)
        time.sleep(0)
        return Result(refs=[])

    drive = Drive(knowing).start()
    drive.completed(1)
    assert drive.attention == ""
    drive.fire_next()
    assert "time.sleep() is not for sagas" in drive.attention


@pytest.mark.parametrize("waiting", [0, 60])
def test_l14_an_unguarded_block_across_an_await_stops_the_saga(waiting: float) -> None:
    @saga("saga")
    async def waiting_within(ctx: SagaContext, order: Order) -> Result:
        with ctx.unguarded():
            await asyncio.sleep(waiting)
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    drive = Drive(waiting_within).start()
    assert "a block of ctx.unguarded() was still open at an `await`" in drive.attention
    assert drive.last.short == []


def test_l14_an_unguarded_block_is_closed_when_its_code_fails() -> None:
    @saga("saga")
    async def failing(ctx: SagaContext, order: Order) -> Result:
        try:
            with ctx.unguarded():
                raise ValueError
        except ValueError:
            time.sleep(0)
        return Result(refs=[])

    assert "time.sleep() is not for sagas" in Drive(failing).start().attention


# Entering and leaving.


async def test_l14_generators_of_others_are_still_heard_of_by_their_loop_and_those_of_sagas_are_not() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    @saga("saga")
    async def generating(ctx: SagaContext, order: Order) -> Result:
        async for _ in numbers():
            break
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    known = asyncio.get_running_loop()._asyncgens  # type: ignore[attr-defined]  # of asyncio's own loop
    before = sys.get_asyncgen_hooks()
    with guarded(), guarded():
        inside = sys.get_asyncgen_hooks()
        assert inside.firstiter is not before.firstiter
        drive = Drive(generating).start()
        assert (drive.attention, len(known)) == ("", 0)
        assert sys.get_asyncgen_hooks() == inside
        ours = numbers()
        assert await anext(ours) == 1
        assert list(known) == [ours]
        await ours.aclose()
    assert sys.get_asyncgen_hooks() == before


def test_the_guard_is_on_unless_it_is_set_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(require=()).guard == "on"
    monkeypatch.setenv("SAGABUS_GUARD", "off")
    assert load_settings(require=()).guard == "off"
    monkeypatch.setenv("SAGABUS_GUARD", "perhaps")
    with pytest.raises(SettingsError, match="give on or off"):
        load_settings(require=())
