"""Child processes of a test: output in files, conditions to wait for, signals by process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.conditions import PATIENCE, NotSo, blocking_until, until
from tests.support.watchdog import watchdog

ROOT = Path(__file__).parents[2]

TAIL = 4000
"""Characters of output that a failure shows."""


class Child:
    """One child process, started by the constructor.

    It ends with `kill`, `terminate` or by itself, and at the latest with the test run. Use it as a context manager to
    have it killed on leaving a block.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        last_signal: int = signal.SIGKILL,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.stdout_file = folder / f"{name}.out"
        self.stderr_file = folder / f"{name}.err"
        with self.stdout_file.open("ab") as out, self.stderr_file.open("ab") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=folder,
                start_new_session=True, user=user, group=user, extra_groups=None if user is None else (),
            )  # fmt: skip
        watchdog().watch(self.pid, last_signal)

    @classmethod
    def python(
        cls, module: str, *arguments: str, folder: Path, name: str = "", settings: Mapping[str, str] | None = None
    ) -> Child:
        """`python -m module arguments`, with these SAGABUS_* settings and none of the test run's own."""
        command = [sys.executable, "-m", module, *arguments]
        return cls(command, folder=folder, name=name or module.rpartition(".")[2], environment=clean(settings or {}))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; -9 after a SIGKILL."""
        code = self._process.poll()
        if code is not None:
            watchdog().forget(self.pid)
        return code

    @property
    def running(self) -> bool:
        return self.returncode is None

    @property
    def stdout(self) -> str:
        return self.stdout_file.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def send(self, number: int) -> None:
        """A signal to this process and no other; nothing if it has ended."""
        if self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self.send(signal.SIGKILL)
        self._process.wait()
        watchdog().forget(self.pid)

    def terminate(self) -> None:
        """SIGTERM; wait with `ended`."""
        self.send(signal.SIGTERM)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    async def says(self, text: str, *, within: float = PATIENCE) -> str:
        """Wait until `text` stands in the output or the error output; raises when the process ends without it."""
        return await until(lambda: self._said(text), within=within, what=f"{self.name} says {text!r}")

    async def ended(self, *, within: float = PATIENCE) -> int:
        """Wait for the end and give the exit code."""
        await until(lambda: not self.running, within=within, what=f"{self.name} ends")
        return self._code()

    def blocking_end(self, *, within: float = PATIENCE) -> int:
        """`ended` for fixtures."""
        blocking_until(lambda: not self.running, within=within, what=f"{self.name} ends")
        return self._code()

    def report(self) -> str:
        """The end of what it said, for a failure's message."""
        return f"{self.name} (exit {self.returncode})\n{self.stdout[-TAIL:]}\n{self.stderr[-TAIL:]}"

    def _code(self) -> int:
        code = self.returncode
        assert code is not None
        return code

    def _said(self, text: str) -> str:
        ended = not self.running  # looked at first: what it said before it ended must count
        said = self.stdout + self.stderr
        if text in said:
            return said
        if ended:
            raise NotSo(f"ended without saying {text!r}: {self.report()}")
        return ""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def clean(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without SAGABUS_*, with these settings; modules of `tests` can be imported.

    COLUMNS is set in a worker of pytest-xdist: lists would be cut to that width.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SAGABUS_") and key != "COLUMNS"}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **settings}
