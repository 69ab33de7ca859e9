"""The ground under the other tests: servers that come back, processes that end, waiting that gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.conditions import NotSo, until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Child
from tests.support.tcp_proxy import TcpProxy
from tests.system.databases import PrimaryEnd, databases


async def test_a_child_process_is_heard_and_ended(run_folder: Path) -> None:
    child = Child.python("http.server", "0", "--bind", "127.0.0.1", folder=run_folder, name="server")
    await child.says("Serving HTTP")
    child.terminate()
    assert await child.ended() == -signal.SIGTERM


async def test_a_child_that_ends_is_not_waited_for(run_folder: Path) -> None:
    child = Child.python("timeit", "-n1", "-r1", "pass", folder=run_folder)
    with pytest.raises(NotSo, match="ended without saying"):
        await child.says("never said")


async def test_a_child_gets_no_settings_of_the_test_run(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGABUS_KAFKA", "of the test run")
    script = "import os; print([(k, v) for k, v in os.environ.items() if k.startswith('SAGABUS_')])"
    (run_folder / "shown.py").write_text(script)
    child = Child.python("shown", folder=run_folder, settings={"SAGABUS_HTTP": "off"})
    assert await child.ended() == 0
    assert child.stdout == "[('SAGABUS_HTTP', 'off')]\n"


def test_a_port_is_given_once_though_nobody_listens_on_it_yet() -> None:
    assert len({free_port() for _ in range(1_000)}) == 1_000


def test_two_workers_of_a_run_are_given_no_port_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    first = {free_port() for _ in range(300)}
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    second = {free_port() for _ in range(300)}
    assert {port % 2 for port in first} != {port % 2 for port in second}


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
async def test_a_test_that_hangs_is_named_while_it_does_with_where_it_waits(run_folder: Path, workers: str) -> None:
    (run_folder / "test_hanging.py").write_text(
        "import asyncio, pathlib\nasync def test_that_hangs():\n"
        "    while not pathlib.Path('enough').exists():\n        await asyncio.sleep(0.01)\n"
    )
    options = ("-p", "tests.support.reports", "-o", "long_test_seconds=0.5", "-o", "asyncio_mode=auto", workers)
    with Child.python("pytest", *options, "test_hanging.py", folder=run_folder) as child:
        await child.says("still running after 0.5 s: test_hanging.py::test_that_hangs\n")
        await child.says('test_hanging.py", line 4, in test_that_hangs')
        (run_folder / "enough").touch()
        assert await child.ended() == 0, child.report()


async def test_until_gives_up_with_what_it_saw() -> None:
    with pytest.raises(NotSo, match=r"two is three; last seen: ZeroDivisionError"):
        await until(lambda: 1 / 0, within=0.05, what="two is three")


async def test_nothing_outlives_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.support.processes import Child\n"
        f"child = Child.python('http.server', '0', folder=Path({str(tmp_path)!r}))\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(run.pid, signal.SIGKILL)
    await until(lambda: not _alive(pid), what="the child of the killed run has ended")


@pytest.mark.ring("faults")
def test_a_killed_broker_keeps_its_log_and_a_wiped_one_does_not(
    kafka_installation: KafkaInstallation, tmp_path: Path
) -> None:
    with KafkaBroker(kafka_installation, tmp_path) as broker:
        broker.create_topics("kept", partitions=2)
        _produce(broker.address, "kept", 100)
        address, cluster = broker.address, broker.cluster_id
        broker.restart()
        assert (broker.address, broker.cluster_id, _end(broker.address, "kept")) == (address, cluster, 100)
        broker.wipe()
        assert broker.address == address
        assert broker.cluster_id != cluster
        assert "kept" not in broker.topics()


async def test_postgres_comes_back_with_what_was_committed() -> None:
    with PostgresServer() as server, server.database() as url:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        server.restart()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT n FROM kept")
        again = await asyncpg.connect(url)
        assert await again.fetchval("SELECT n FROM kept") == 1
        await again.close()


async def test_a_promoted_standby_has_what_its_primary_confirmed_and_the_old_one_refuses_writes() -> None:
    async with databases() as servers:
        before = await asyncpg.connect(servers.url)
        await before.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        await servers.fail_over(PrimaryEnd.READ_ONLY)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await before.execute("INSERT INTO kept VALUES (2)")
        after = await asyncpg.connect(servers.url)
        await after.execute("INSERT INTO kept VALUES (3)")
        assert [row["n"] for row in await after.fetch("SELECT n FROM kept ORDER BY n")] == [1, 3]
        before.terminate()
        await after.close()


async def test_a_silent_connection_is_not_closed_and_new_ones_work(postgres: PostgresServer) -> None:
    async with TcpProxy(postgres.port) as proxy:
        url = postgres.url().replace(str(postgres.port), str(proxy.port))
        before = await asyncpg.connect(url)
        proxy.silence_present()
        with pytest.raises(TimeoutError):
            await before.fetchval("SELECT 1", timeout=0.2)
        after = await asyncpg.connect(url)
        assert await after.fetchval("SELECT 1") == 1
        proxy.go_silent()
        with pytest.raises(TimeoutError):
            await asyncpg.connect(url, timeout=0.2)
        before.terminate()
        after.terminate()


async def test_a_database_is_of_one_test_only(postgres: PostgresServer, database: str) -> None:
    with postgres.database() as other:
        assert other != database
        connection = await asyncpg.connect(other)
    assert other.rpartition("/")[2] not in postgres.psql("SELECT datname FROM pg_database").splitlines()
    connection.terminate()


def test_the_shared_broker_serves(kafka_broker: KafkaBroker, kafka: str, namespace: str) -> None:
    kafka_broker.create_topics(namespace)
    _produce(kafka, namespace, 3)
    assert _end(kafka, namespace) == 3


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _produce(address: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 0})
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=0)
    assert producer.flush(30) == 0


def _end(address: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "log_level": 0})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
    consumer.close()
    return int(end)
