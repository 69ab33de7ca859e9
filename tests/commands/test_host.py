"""The host leaves nothing behind, shares its folder with nobody, and adopts what a killed one has left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from sagabus.commands.host import hosting
from sagabus.commands.subcommand import Exit, Failed
from sagabus.messaging.embedded.embedded_postgres import EmbeddedPostgres
from sagabus.messaging.embedded.run_file import read_run
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.settings import load_settings
from tests.support.conditions import until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import Child, clean

HOSTING = """
import asyncio, sys
from pathlib import Path
from sagabus.commands.host import hosting
async def main():
    async with hosting(Path(sys.argv[1]), http="off") as host:
        child = host.start_child("coordinator", "sagabus.shop.order_processing", name="coordinator")
        print("child", child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_it_is_found_by_settings_while_it_runs_and_gone_afterwards(folder: Path) -> None:
    async with hosting(folder, http="127.0.0.1:8099") as host:
        backing = find_backing(load_settings())
        assert backing == host.backing
        assert backing.url == "http://127.0.0.1:8099"
        assert await backing.kafka.cluster_id() == (read_run(folder) or backing.run).bus  # type: ignore[union-attr]
        connection = await asyncpg.connect(backing.settings.database)
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.close()
        server = EmbeddedPostgres(folder).pid
        assert server is not None
    assert not alive(server)
    assert read_run(folder) is None
    assert not [name for name in os.environ if name.startswith("SAGABUS_")]
    async with hosting(folder, http="off") as host:
        connection = await asyncpg.connect(host.backing.settings.database)
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()
    async with hosting(folder, http="off", fresh=True) as host:
        connection = await asyncpg.connect(host.backing.settings.database)
        assert await connection.fetchval("SELECT to_regclass('kept')") is None
        await connection.close()


async def test_a_second_host_in_the_folder_is_refused(folder: Path) -> None:
    async with hosting(folder, http="off"):
        who = rf"another `sagabus dev` or `sagabus demo` \(process {os.getpid()}\)"
        said = rf"{who} runs in .*: stop it first, .*: --folder DIR"
        with pytest.raises(Failed, match=said) as failure:
            async with hosting(folder, http="off", fresh=True):
                raise AssertionError
        assert failure.value.exit is Exit.REFUSED
        assert read_run(folder) is not None


async def test_an_error_within_leaves_nothing_running(folder: Path) -> None:
    left: list[int | None] = []

    async def fails() -> None:
        async with hosting(folder, http="off") as host:
            child = host.start_child("coordinator", "sagabus.shop.order_processing", name="coordinator")
            left.extend((EmbeddedPostgres(folder).pid, child.pid))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert [pid is not None and alive(pid) for pid in left] == [False, False]


async def test_a_cancelled_start_leaves_nothing_running(folder: Path) -> None:
    async def host() -> None:
        async with hosting(folder, http="off"):
            await asyncio.Event().wait()

    task = asyncio.create_task(host())
    await until((folder / "postgres").exists, what="the database is being made")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert EmbeddedPostgres(folder).pid is None


async def test_a_killed_host_takes_its_children_with_it_and_its_database_is_adopted(folder: Path) -> None:
    log = folder / "coordinator.log"
    command = [sys.executable, "-c", HOSTING, str(folder)]
    with Child(command, folder=folder, name="host", environment=clean({})) as host:
        said = await host.says("child")
        child = int(said.split()[1])
        server = EmbeddedPostgres(folder).pid
        assert server is not None
        try:
            await until(lambda: "the coordinator of sagabus runs" in log.read_text(), what="the child is at work")
            host.kill()
            assert alive(server)
            await until(lambda: not alive(child), what="the child has seen that its host is gone")
            assert "the host has ended" in log.read_text()
            async with hosting(folder, http="off"):
                assert EmbeddedPostgres(folder).pid == server
        finally:
            EmbeddedPostgres(folder).stop()
    assert not alive(server)


STUBBORN = """
import asyncio, sys
from pathlib import Path
from sagabus.commands.force import end_by_force
from sagabus.commands.host import hosting
async def main():
    async with hosting(Path(sys.argv[1]), http="off") as host:
        child = host.start_child("coordinator", "sagabus.shop.order_processing", name="coordinator")
        print("child", child.pid, flush=True)
        sys.stdin.readline()
        end_by_force(asyncio.get_running_loop(), after=0, exit=124)
        while True:
            pass
asyncio.run(main())
"""


def test_an_end_by_force_leaves_nothing_running(folder: Path) -> None:
    """A turn that hangs takes no cancellation: what the host has started would go on without it."""
    command = [sys.executable, "-c", STUBBORN, str(folder)]
    with subprocess.Popen(
        command, env=clean({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        child, server = int(host.stdout.readline().split()[1]), EmbeddedPostgres(folder).pid
        assert server is not None
        try:
            _, said = host.communicate("end\n", timeout=60)
            assert host.returncode == Exit.WAITED
            assert "ended by force" in said
            assert [alive(child), alive(server)] == [False, False]
            assert not (folder / "run.json").exists()
        finally:
            EmbeddedPostgres(folder).stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.ring("deployment"))])
def test_dev_ends_in_order_on_a_signal(folder: Path, number: int) -> None:
    with DevHost(folder) as dev:
        server = EmbeddedPostgres(folder / ".sagabus").pid
        assert server is not None
        dev.process.send(number)
        assert dev.process.blocking_end() == Exit.DONE
    assert not alive(server)
    assert "Traceback" not in dev.process.stderr
    assert not (folder / ".sagabus" / "run.json").exists()


@pytest.fixture(scope="module")
def dev() -> Iterator[DevHost]:
    with data_folder() as folder, DevHost(folder, "sagabus.shop.order_processing", "sagabus.shop.inventory") as host:
        yield host


def beside(dev: DevHost, *arguments: str, **named: str) -> Child:
    """Another process in its directory. named: settings."""
    command = [sys.executable, "-m", "sagabus.commands.main", *arguments]
    return Child(command, folder=dev.folder, name=f"beside-{arguments[0]}", environment=clean(named))


@pytest.mark.parametrize(
    ("arguments", "group"),
    [
        (("coordinator", "sagabus.shop.order_processing"), "sagabus"),
        (("participant", "sagabus.shop.inventory"), "sagabus_inventory"),
    ],
    ids=["coordinator", "participant"],
)
async def test_a_second_reader_on_its_bus_is_refused_with_words(
    dev: DevHost, arguments: tuple[str, ...], group: str
) -> None:
    """The bus has no groups: two would take the shards from each other, for ever."""
    second = beside(dev, *arguments, SAGABUS_KAFKA="embedded", SAGABUS_DATABASE="embedded:.sagabus", SAGABUS_HTTP="off")
    assert await second.ended(within=60) == Exit.REFUSED, second.report()
    assert f"process {dev.process.pid} reads the group {group} from the embedded bus" in second.stderr
    assert "need a real Kafka, named by SAGABUS_KAFKA" in second.stderr


async def test_dead_letters_are_found_at_the_host_where_the_bus_alone_is_named(dev: DevHost) -> None:
    child = beside(dev, "dead-letters", "list", SAGABUS_KAFKA="embedded")
    assert await child.ended(within=60) == 0, child.report()
    assert child.stdout.split() == ["0", "in", "all"]
