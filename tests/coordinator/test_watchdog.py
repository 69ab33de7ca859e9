"""L10: code that spins in Python is named and interrupted, inside its own pump; a call that blocks is named."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sagabus.client import SagaClient
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.loop.loop import PumpInterrupted, SagaLoop
from sagabus.coordinator.core.loop.watch import PLACE, WATCH
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.watchdog import BLOCKS, SPUN, Watchdog
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from tests.coordinator.shard_fixture import PARTITIONS, ShardFixture, of_shard
from tests.core.kit import Drive
from tests.core.other_pythons import OWN, PYTHONS, NotThere, environment, python
from tests.core.restored import forget_all
from tests.core.services import Order, Result, paid, reserve
from tests.support.conditions import blocking_until, until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder

ROOT = Path(__file__).parents[2]
HERE = __file__
SPIN = 0.2
"""Seconds. What a test can wait for; nothing honest here computes for so long."""


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog(spin_seconds=SPIN, block_seconds=SPIN)
    with watchdog.running():
        yield watchdog
        forget_all()


def line_of(text: str) -> int:
    """Of this file: where the code that is marked with this comment stands."""
    return next(at for at, line in enumerate(Path(HERE).read_text().splitlines(), 1) if line.endswith(f"# {text}"))


@saga("saga")
async def spinner(ctx: SagaContext, order: Order) -> Result:
    reserved = await ctx.call(reserve(order=order.order))
    while reserved.ref:
        pass  # the spin
    return Result(refs=[reserved.ref])


@saga("saga")
async def mended(ctx: SagaContext, order: Order) -> Result:
    reserved = await ctx.call(reserve(order=order.order))
    return Result(refs=[reserved.ref])


def test_l10_a_spin_is_interrupted_with_its_place_and_goes_on_once_it_is_mended(
    watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    drive = Drive(spinner).start()
    with caplog.at_level(logging.WARNING, "sagabus.coordinator.watchdog"):
        drive.completed(1)
    words, _, place = drive.attention.partition(PLACE)
    assert words == f"the saga's code computed for more than {SPIN} s and did not come to rest"
    assert place in {f"{HERE}:{line_of('the spin') - before} in spinner" for before in (0, 1)}
    assert (drive.status, drive.kinds[-1], drive.last.short) == ("running", "blocked 3", [])
    assert watchdog.counts[SPUN] >= 1
    assert "saga O-1 delays all others of this process: it has computed for" in caplog.text
    rows, spins = len(drive.rows), watchdog.counts[SPUN]
    drive.reload()
    assert (len(drive.rows), watchdog.counts[SPUN]) == (rows, spins), "it is not run again"
    drive.reload(mended)
    assert (drive.status, drive.attention) == ("completed", "")


@pytest.mark.usefixtures("watchdog")
def test_l10_code_that_swallows_the_interrupt_does_not_go_on_from_it() -> None:
    @saga("saga")
    async def stubborn(ctx: SagaContext, order: Order) -> Result:
        refused = 0
        while refused < 2:
            try:
                while True:
                    pass
            except BaseException:
                refused += 1
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    drive = Drive(stubborn).start()
    assert drive.attention.startswith("the saga's code computed for more than")
    assert (drive.kinds, drive.all.short) == (["started", "blocked 1"], [])


@pytest.mark.usefixtures("watchdog")
def test_l10_a_spin_on_the_way_out_of_memory_ends_too_and_all_tasks_are_closed() -> None:
    closed: list[int] = []

    async def task(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            while number == 1:
                pass
            closed.append(number)

    async def tasks() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(task(number))

    loop = SagaLoop()
    loop.start(tasks())
    loop.pump(0)
    loop.evict()
    assert closed == [2, 0]
    assert loop.tasks() == []


def test_l10_a_call_that_blocks_is_named_and_not_interrupted(
    watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    reads, writes = os.pipe()

    async def blocked() -> bytes:
        return os.read(reads, 1)  # the block

    def release() -> None:
        blocking_until(lambda: watchdog.counts[BLOCKS])
        os.write(writes, b"x")

    helper = threading.Thread(target=release)
    helper.start()
    loop = SagaLoop()
    loop.name = "O-7"
    with caplog.at_level(logging.WARNING, "sagabus.coordinator.watchdog"):
        task = loop.start(blocked())
        loop.pump(0)
    helper.join()
    assert (task.result(), loop.failure) == (b"x", None)
    assert (watchdog.counts[BLOCKS], watchdog.counts[SPUN]) == (1, 0)
    assert "saga O-7 delays all others of this process: it waits in a call for" in caplog.text
    assert f"{HERE}:{line_of('the block')} in " in caplog.text
    os.close(reads)
    os.close(writes)


def test_l10_an_interrupt_waits_until_logging_and_our_own_code_are_left(watchdog: Watchdog) -> None:
    """It would leave the lock of a log handler behind for ever."""
    places: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            places[:] = ["in"]
            places[:] = ["out"]

    log = logging.getLogger("tests.spinning")
    log.propagate = False
    log.addHandler(handler := Handler())

    async def talks() -> None:
        while True:
            log.warning("again")  # the talk
            for _ in range(10):
                pass

    loop = SagaLoop()
    loop.start(talks())
    loop.pump(0)
    loop.evict()
    log.removeHandler(handler)
    assert isinstance(loop.failure, PumpInterrupted)
    assert places == ["out"]
    _, _, place = str(loop.failure).partition(PLACE)
    assert place in {f"{HERE}:{line_of('the talk') + line} in {talks.__qualname__}" for line in (-1, 0, 1, 2)}
    assert _acquired_by_another_thread(handler)


def _acquired_by_another_thread(handler: logging.Handler) -> bool:
    got: list[bool] = []
    assert handler.lock is not None
    thread = threading.Thread(target=lambda: got.append(handler.lock.acquire(False)))  # type: ignore[union-attr]
    thread.start()
    thread.join()
    return got == [True]


def test_l10_both_interrupts_that_can_come_as_a_pump_ends_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits in the interpreter, one is just being sent: each lands in a `withdraw`."""
    coming = ["waits", "sent"]

    def withdraw() -> None:
        if coming:
            raise PumpInterrupted(coming.pop())
        WATCH.interrupting = False

    async def interrupted() -> None:
        WATCH.interrupting, WATCH.words = True, "computed for long"

    monkeypatch.setattr(WATCH, "withdraw", withdraw)
    loop = SagaLoop()
    loop.start(interrupted())
    loop.pump(0)
    assert str(loop.failure) == "computed for long"
    assert (coming, WATCH.interrupting, WATCH.loop, WATCH.words, gc.isenabled()) == ([], False, None, "", True)
    loop.evict()


@pytest.mark.parametrize(("mode", "ended"), [(("3000",), 30), (("500", "--traced"), 0)], ids=["", "traced"])
@pytest.mark.parametrize(
    "version", [one if one == OWN else pytest.param(one, marks=pytest.mark.ring("deployment")) for one in PYTHONS]
)
def test_l10_an_interrupt_never_lands_outside_the_pump(version: str, mode: tuple[str, ...], ended: int) -> None:
    try:
        command, env = [python(version), "-m", "tests.coordinator.interrupted_pumps", *mode], environment(version)
    except NotThere as reason:
        pytest.skip(f"no Python {version} with pydantic: interrupts were not tried on it; {reason}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    counts = json.loads(done.stdout)
    assert counts["interrupted"] > 30, counts
    assert counts["ended"] > ended, counts


# Among others.


@saga("spins")
async def spins(ctx: SagaContext, order: Order) -> Result:
    await ctx.event(paid)
    while True:
        pass


@saga("waits")
async def waits(ctx: SagaContext, order: Order) -> Result:
    return Result(refs=[str((await ctx.event(paid)).amount)])


SAGAS = 500
SHARD = 1


async def test_l10_of_a_whole_batch_the_one_that_spins_stops_and_all_others_go_on(
    database: str, watchdog: Watchdog
) -> None:
    await migrate(database, "sagabus")
    pool = Database(database)
    fixture = ShardFixture(pool, (spins, waits), SHARD)
    ids = of_shard(SHARD, "S-"), *itertools.islice(_of_shard("W-"), SAGAS)
    tenure = await fixture.take()
    starts = [
        fixture.request(id, type="start", saga="spins" if id == ids[0] else "waits", input={"order": id}) for id in ids
    ]
    await fixture.turn(tenure, *starts)

    def event(id: str) -> Any:
        return fixture.request(
            id, type="event", name="payment.confirmed", data={"amount": 7}, event_id=f"{id}-{next(number)}"
        )

    number = itertools.count()
    await fixture.turn(tenure, *(event(id) for id in ids))
    statuses = Counter(row["status"] for row in await fixture.rows("SELECT status FROM sagabus.saga"))
    assert statuses == {"running": 1, "completed": SAGAS}
    spun = await fixture.saga(ids[0])
    assert f"{HERE}:" in spun["attention"]
    assert spun["decided"] is not None
    assert watchdog.counts[SPUN] == 1
    for _ in range(3):
        await fixture.turn(tenure, event(ids[0]))
    tenure = await fixture.crash()
    await fixture.turn(tenure, event(ids[0]))
    assert watchdog.counts[SPUN] == 1, "its history says that this very code spun: it is not run when it is loaded"
    kinds = [
        row["kind"] for row in await fixture.rows("SELECT kind FROM sagabus.history WHERE id LIKE 'S-%' ORDER BY seq")
    ]
    assert kinds == ["started", "event", "blocked", *["event"] * 4]
    await pool.stop()


def _of_shard(prefix: str) -> Iterator[str]:
    every = (f"{prefix}{number}" for number in itertools.count())
    return (id for id in every if partition_of(id.encode(), PARTITIONS) == SHARD)


MODULE = """
from sagabus.coordinator import SagaContext, saga
from tests.core.services import Order, Result, paid

@saga("spins")
async def spins(ctx: SagaContext, order: Order) -> Result:
    while True:
        pass

@saga("waits")
async def waits(ctx: SagaContext, order: Order) -> Result:
    return Result(refs=[str((await ctx.event(paid)).amount)])
"""


@pytest.mark.ring("faults")
async def test_l10_a_coordinator_goes_on_beside_a_saga_that_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    with data_folder() as folder:
        (folder / "spinning.py").write_text(MODULE)
        (folder / "tests").symlink_to(ROOT / "tests")
        with DevHost(folder, "spinning") as host:
            monkeypatch.chdir(folder)
            async with SagaClient("embedded") as client:
                other = await client.start(waits.of(Order()), id="W-1")
                await client.start(spins.of(Order()), id="S-1")
                await client.send("W-1", paid(amount=7))
                assert (await other.result(timeout=60)).refs == ["7"]
                await until(lambda: "computed for more than" in _shown(host, "S-1"))
            shown = json.loads(_shown(host, "S-1"))
            assert shown["status"] == "running"
            assert f"{folder / 'spinning.py'}:" in shown["attention"]
            assert "saga S-1 delays all others of this process" in host.process.stderr + host.process.stdout


def _shown(host: DevHost, id: str) -> str:
    return httpx.get(f"{host.url}/api/v1/sagas/{id}").text
