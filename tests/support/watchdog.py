"""Nothing that a test run has started outlives it, however the run ends.

A small process of its own reads from a pipe whose other end only the test process holds. When that end closes, be it
by SIGKILL, each process still on the list gets its signal. (PR_SET_PDEATHSIG would need a fork hook, follows the thread
that forked and not the process, and is Linux only.)
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from functools import cache
from typing import IO


class Watchdog:
    """The list of processes to end, kept by another process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        atexit.register(self.close)

    def watch(self, pid: int, signal_number: int = signal.SIGKILL) -> None:
        self._tell(f"+ {pid} {int(signal_number)}")

    def forget(self, pid: int) -> None:
        """To be called when the process has been waited for: its id may soon be another's."""
        self._tell(f"- {pid} 0")

    def close(self) -> None:
        if self._pipe.closed:
            return
        self._pipe.close()
        self._process.wait(10)

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        if not self._pipe.closed:
            self._pipe.write(line + "\n")
            self._pipe.flush()


@cache
def watchdog() -> Watchdog:
    """The one of this test run."""
    return Watchdog()


def serve(lines: IO[str]) -> None:
    """Keep the list until the pipe closes, then end what is on it, the latest first."""
    watched: dict[int, int] = {}
    for line in lines:
        sign, pid, number = line.split()
        if sign == "+":
            watched[int(pid)] = int(number)
        else:
            watched.pop(int(pid), None)
    for child, number_of_signal in reversed(watched.items()):
        try:
            os.kill(child, number_of_signal)
        except OSError:
            continue


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, which then closes the pipe
    serve(sys.stdin)
