"""Sagas that do what the guard refuses, one for each thing, and what becomes of them on this Python, as JSON.

    python -m tests.coordinator.guarded_sagas

Needs no more than the pure core.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.guard import guarded
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, reserve


def _thread() -> None:
    threading.Thread(target=int).start()


def _connect() -> None:
    socket.create_connection(("127.0.0.1", 1), timeout=1)


THINGS: dict[str, tuple[Callable[[], object], str]] = {
    "read": (lambda: Path(os.devnull).read_bytes(), "opening a file is not for sagas: read files when"),
    "write": (lambda: Path(os.devnull).write_bytes(b""), "opening a file"),
    "os.open": (lambda: os.close(os.open(os.devnull, os.O_RDONLY)), "opening a file"),
    "list": (lambda: list(Path().iterdir()), "work with files is not for sagas"),
    "temporary": (tempfile.TemporaryFile, "is not for sagas: read files when the module is imported"),
    "socket": (lambda: socket.socket().close(), "network work is not for sagas: do network work in an activity"),
    "connect": (_connect, "network work is not for sagas"),
    "resolve": (lambda: socket.gethostbyname("localhost"), "network work is not for sagas"),
    "process": (lambda: subprocess.run(["true"], check=False), "is not for sagas: start processes"),
    "system": (lambda: os.system("true"), "work with processes is not for sagas: start processes"),
    "thread": (_thread, "starting a thread is not for sagas: do work for threads and executors in an activity"),
    "sleep": (lambda: time.sleep(0), "time.sleep() is not for sagas: write `await asyncio.sleep(seconds)`"),
}  # fmt: skip


def doing(work: Callable[[], object], *, caught: bool = False, after: int = 1) -> Definition:
    """after: the step after which it does that, or 0 for at once."""

    @saga("saga")
    async def misusing(ctx: SagaContext, order: Order) -> Result:
        if not after:
            work()
        await ctx.call(reserve(order=order.order))
        if caught:
            with suppress(Exception):
                work()
        elif after:
            work()
        await ctx.call(reserve(order="another"))
        return Result(refs=[])

    return misusing


def stopped(work: Callable[[], object], *, caught: bool) -> Drive:
    drive = Drive(doing(work, caught=caught)).start()
    drive.completed(1)
    return drive


def main() -> None:
    told = {}
    with guarded():
        for name, (work, _) in THINGS.items():
            for caught in (False, True):
                drive = stopped(work, caught=caught)
                told[f"{name} {caught}"] = [drive.attention, drive.status, drive.last.short]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
