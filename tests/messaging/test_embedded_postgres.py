"""The embedded database: it keeps its data, is adopted after a killed owner, and never believed without an answer."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.messaging.embedded.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresFailed

KEEP_7 = "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One for all, since initdb takes seconds. Not pytest's own: for root, PostgreSQL runs as another user."""
    with tempfile.TemporaryDirectory(prefix="sagabus-embedded-") as name:
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Not started yet; whatever a test leaves is stopped."""
    server = EmbeddedPostgres(folder)
    yield server
    server.stop()


async def test_it_keeps_its_data_over_a_stop(server: EmbeddedPostgres) -> None:
    await _run(server.start(), KEEP_7)
    server.stop()
    assert server.pid is None
    assert await _fetch(server.start(), "SELECT n FROM kept") == 7


async def test_sqlalchemy_takes_the_url_too(server: EmbeddedPostgres) -> None:
    engine = create_async_engine(server.start().replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_database()")) == "sagabus"
    await engine.dispose()


async def test_a_database_by_another_name_is_made_once(server: EmbeddedPostgres) -> None:
    url = server.start('odd "name"')
    await _run(url, "CREATE TABLE here (n int)")
    assert server.start('odd "name"') == url
    assert await _fetch(url, "SELECT count(*) FROM here") == 0


async def test_a_running_server_is_adopted(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    other = EmbeddedPostgres(folder)
    assert (other.start(), other.pid) == (server.url(), server.pid)
    other.stop()
    assert server.pid is None


async def test_what_a_killed_owner_left_is_adopted_and_stopped(server: EmbeddedPostgres, folder: Path) -> None:
    pid = _start_and_be_killed(folder)
    assert _alive(pid)
    assert await _fetch(server.start(), "SELECT 1") == 1
    assert server.pid == pid
    server.stop()
    assert not _alive(pid)


def test_what_a_killed_owner_left_can_be_stopped_without_a_start(folder: Path) -> None:
    pid = _start_and_be_killed(folder)
    EmbeddedPostgres(folder).stop()
    assert not _alive(pid)


@pytest.mark.parametrize("stale", ["another process", "half a file"])
async def test_a_stale_pid_file_is_not_believed(server: EmbeddedPostgres, folder: Path, stale: str) -> None:
    server.start()
    file = folder / "postgres" / "postmaster.pid"
    lines = file.read_text().splitlines()
    server.stop()
    lines[0] = str(os.getpid())  # alive, and no PostgreSQL
    file.write_text("\n".join(lines if stale == "another process" else lines[:3]) + "\n")
    assert server.pid is None
    assert await _fetch(server.start(), "SELECT 1") == 1


async def test_a_crashed_server_is_started_again(server: EmbeddedPostgres) -> None:
    await _run(server.start(), KEEP_7)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert await _fetch(server.start(), "SELECT n FROM kept") == 7


@pytest.mark.ring("faults")
async def test_a_server_that_hangs_is_replaced(server: EmbeddedPostgres) -> None:
    await _run(server.start(), KEEP_7)
    hanging = server.pid
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    assert await _fetch(server.start(), "SELECT n FROM kept") == 7
    assert server.pid != hanging


async def test_a_long_path_works(folder: Path) -> None:
    server = EmbeddedPostgres(folder / ("deep" * 20) / ("deeper" * 10))
    try:
        assert await _fetch(server.start(), "SELECT 1") == 1
    finally:
        server.stop()


ODD = ["My Projects", "d$(touch${IFS}pwned)`touch pwned`\\n", "a\"b it's 日本 a,b x%20y:1@z #?&= $HOME"]


@pytest.mark.parametrize("name", ODD)
async def test_a_folder_may_have_any_name_and_no_shell_reads_it(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    server = EmbeddedPostgres(folder / "odd" / name)
    try:
        assert await _fetch(server.start(), "SELECT 1") == 1
        engine = create_async_engine(server.url().replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()
        pid = server.pid
        assert pid is not None
    finally:
        server.stop()
    assert not _alive(pid)
    assert not list(folder.rglob("pwned"))
    assert sorted(path.name for path in (folder / "odd" / name).iterdir()) == ["postgres", "postgres.lock"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\udcffb"])
def test_a_folder_whose_name_is_no_text_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match=r"choose another folder$"):
        EmbeddedPostgres(tmp_path / name).start()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_the_socket_that_belongs_to_somebody_else_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes it first would otherwise be taken for the database."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = folder / "odd" / "My Projects" / "postgres"
    (tmp_path / "elsewhere").mkdir()
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    (tmp_path / f"sagabus-{os.geteuid()}-{name}").symlink_to(tmp_path / "elsewhere")
    server = EmbeddedPostgres(data.parent)
    with pytest.raises(EmbeddedPostgresFailed, match="belongs to somebody else"):
        server.start()


def test_data_that_cannot_be_used_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresFailed, match=r"(?s)did not start: Version mismatch.*folder: "):
        EmbeddedPostgres(tmp_path).start()


def test_stopping_twice_is_once(server: EmbeddedPostgres) -> None:
    server.stop()
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(EmbeddedPostgresFailed, match=r"start\(\)"):
        server.url()


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _start_and_be_killed(folder: Path) -> int:
    """A host that starts the server and dies by SIGKILL; the server's process id."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sagabus.messaging.embedded.embedded_postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
    assert host.returncode == -signal.SIGKILL
    return pid


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def _fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
