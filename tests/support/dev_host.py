"""`sagabus dev` with the shop, as a process of its own: all that a command or a client needs, on the embedded parts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.conditions import blocking_until
from tests.support.ports import free_port
from tests.support.processes import Child, clean

SAGAS = ("sagabus.shop.order_processing", "sagabus.shop.expense_approval")
PARTICIPANTS = tuple(f"sagabus.shop.{name}" for name in ("inventory", "payment", "shipping", "approvals"))


class DevHost:
    """A context manager. folder: its current directory, with `.sagabus` in it."""

    def __init__(self, folder: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._arguments = arguments or (*SAGAS, *PARTICIPANTS)
        self._settings = {"SAGABUS_HTTP": self.address, **(settings or {})}
        self._process: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def process(self) -> Child:
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        """Returns when it is ready."""
        said = "" if self._process is None else self.process.stdout
        # SIGTERM as the last signal: it has a database to stop, which SIGKILL would leave running.
        self._process = Child(
            [sys.executable, "-m", "sagabus.commands.main", "dev", *self._arguments],
            folder=self.folder, name="dev", environment=clean(self._settings), last_signal=signal.SIGTERM,
        )  # fmt: skip
        blocking_until(lambda: self._ready(said), what="sagabus dev is ready")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.process.blocking_end()

    def _ready(self, said: str) -> bool:
        assert self.process.running, self.process.report()
        return "\nready at " in self.process.stdout.removeprefix(said)

    def __enter__(self) -> DevHost:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.running:
            self.stop()
