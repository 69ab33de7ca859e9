"""A standby of a `PostgresServer` by streaming replication, which can be promoted: what a failover needs.

What the primary has confirmed stands on the standby too: it waits for it. So a failover loses nothing that a client
knows of.
"""

from __future__ import annotations

import shutil
import subprocess

from tests.support.conditions import blocking_until
from tests.support.postgres import PostgresServer


class PostgresStandby(PostgresServer):
    """A copy of a running primary. Once it follows, the primary confirms nothing without it."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__()

    def follow(self) -> None:
        """Start, and follow the primary. `start` is for one that was stopped, be it promoted or not."""
        self.start()
        follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        blocking_until(lambda: self._primary.psql(follows) != "0", what="the standby follows the primary")
        self._primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._primary.psql("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """It is a primary of its own, and takes writes, when this returns."""
        assert self.psql("SELECT pg_promote()") == "t"
        blocking_until(lambda: self.psql("SELECT pg_is_in_recovery()") == "f", what="the standby is promoted")

    def has_all(self) -> bool:
        """Whether all that the primary has written stands here."""
        written = self._primary.psql("SELECT pg_current_wal_lsn()")
        return self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == "t"

    def _make_data(self) -> None:
        """pg_basebackup, with what makes it a standby written beside it."""
        self._password = self._primary._password
        command = [
            self._program("pg_basebackup"), "--pgdata", str(self._data), "--dbname", self._primary.url(),
            "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast",
        ]  # fmt: skip
        user = self._wheel.system_user
        if user is not None:
            shutil.chown(self._data, user, user)
            self.folder.chmod(0o755)
            self._data.chmod(0o700)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, user=user, group=user)
        if done.returncode != 0:
            raise RuntimeError(f"pg_basebackup: {done.stderr.strip()}")


def make_read_only(primary: PostgresServer) -> None:
    """It was demoted and keeps its sessions: from the next transaction on every write is refused, SQLSTATE 25006."""
    primary.psql("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.psql("SELECT pg_reload_conf()")
    blocking_until(
        lambda: primary.psql("SHOW default_transaction_read_only") == "on", what="the old primary is read-only"
    )
