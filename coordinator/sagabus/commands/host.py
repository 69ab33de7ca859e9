"""The host: owns an embedded bus and an embedded database, and the child processes that use them.

There is one host to a folder. On its way out, be it by an error, a signal or by force, it ends its children by their
process ids, stops the database and takes its run.json back. A host that was killed leaves its database running: the
next one in the same folder adopts it. Its children see for themselves that their host is gone (`Backing.gone`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from sagabus.commands.force import done_last
from sagabus.commands.subcommand import Exit, Failed
from sagabus.messaging import database_url
from sagabus.messaging.background import uninterrupted
from sagabus.messaging.embedded.embedded_kafka import EmbeddedKafka
from sagabus.messaging.embedded.embedded_postgres import EmbeddedPostgres
from sagabus.messaging.embedded.run_file import Run, read_run, remove_run, write_run
from sagabus.messaging.service.backing import Backing, find_backing, own_url
from sagabus.messaging.settings import EMBEDDED, Settings, load_settings, variable

DRAIN_SECONDS: Final = 10.0
"""That a child has after SIGTERM; then SIGKILL."""


class Child:
    """One `sagabus …` process of the host's. It writes into a file, and no Ctrl-C reaches it but through the host."""

    def __init__(self, arguments: Sequence[str], *, log: Path) -> None:
        command = [sys.executable, "-m", "sagabus.commands.main", *arguments]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._process.kill()
        self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and gone when this returns. May be repeated."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class Host:
    """Of one folder, while `hosting` runs."""

    def __init__(self, folder: Path, backing: Backing, children: list[Child]) -> None:
        self.folder = folder
        self.backing = backing
        self._children = children

    def start_child(self, *arguments: str, name: str) -> Child:
        """`sagabus ARGUMENTS…` on the bus and the database of this host."""
        child = Child(arguments, log=self.folder / f"{name}.log")
        self._children.append(child)
        return child

    async def stop_children(self) -> None:
        await asyncio.gather(*(child.stop() for child in self._children if child.running))


@asynccontextmanager
async def hosting(folder: Path, *, fresh: bool = False, http: str | None = None) -> AsyncIterator[Host]:
    """A bus and a database that run until the block is left. fresh: without the data of earlier hosts.

    Until then the environment names them, so that whatever runs in this process, or is started by it, finds them as any
    service does. http: host:port for the coordinator's API, or `off`; left out, as SAGABUS_HTTP says. Raises Failed
    where another host runs, CannotListen where the address is taken, both before anything is started;
    EmbeddedKafkaFailed, EmbeddedPostgresFailed, SettingsError.
    """
    folder = _absolute(folder)
    settings = load_settings(kafka=EMBEDDED, database=f"{database_url.EMBEDDED}{folder}", http=http, serves=True)
    postgres, children = EmbeddedPostgres(folder), list[Child]()
    what = f"the PostgreSQL in {folder}"
    with _alone(folder), done_last(what, lambda: _end_at_once(folder, postgres, children)):
        _refuse_taken(settings)
        try:
            if fresh:
                await uninterrupted(asyncio.to_thread(_forget, postgres, folder))
            database = await uninterrupted(asyncio.to_thread(postgres.start))
            with EmbeddedKafka() as bus, _told_to_all(settings):
                run = Run.of_this_process(kafka=bus.address, bus=bus.id, database=database, http=own_url(settings))
                write_run(folder, run)
                host = Host(folder, find_backing(settings), children)
                try:
                    yield host
                finally:
                    await host.stop_children()
                    remove_run(folder)
        finally:
            await uninterrupted(asyncio.to_thread(postgres.stop))


def _refuse_taken(settings: Settings) -> None:
    """Raises CannotListen."""
    if settings.http_address is not None:
        from sagabus.coordinator.http.listening import refuse_taken  # the demo's host has no API

        refuse_taken(settings.http_address)


@contextmanager
def _told_to_all(settings: Settings) -> Iterator[None]:
    own = {variable(name): getattr(settings, name) for name in ("kafka", "database", "http")}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _absolute(folder: Path) -> Path:
    """For children, and for messages."""
    return folder.expanduser().resolve()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One host at a time; the lock goes with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    with (folder / "host.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            run = read_run(folder)
            who = f" (process {run.host_pid})" if run else ""
            what = f"another `sagabus dev` or `sagabus demo`{who} runs in {folder}"
            sentence = f"{what}: stop it first, or name another folder: --folder DIR"
            raise Failed(Exit.REFUSED, sentence) from None
        yield


def _end_at_once(folder: Path, postgres: EmbeddedPostgres, children: Sequence[Child]) -> None:
    """Of an end by force, in a thread: the loop may hang."""
    remove_run(folder)
    for child in children:
        child.kill()
    postgres.stop()


def _forget(postgres: EmbeddedPostgres, folder: Path) -> None:
    postgres.stop()
    shutil.rmtree(folder / "postgres", ignore_errors=True)
