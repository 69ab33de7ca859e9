"""What a run says of its tests beyond pytest's own words: which one hangs, and where it waits.

A lone surrogate in a test's log or output does not end the run: pytest-xdist could not send it to its master.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

LONG: Final = "long_test_seconds"
"""The option that says after how many seconds a test is named. Not pytest's `faulthandler_timeout`: that one walks the
frames of all threads while they run, and once in a while ends the process by it."""

_STDERR: Final = pytest.StashKey[int]()
"""The process's own, whatever a test's is captured by."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(LONG, "seconds after which a running test is named, and where it waits; 0: never", default="0")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a run in the background, and so of all its children
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    with named_if_long(item.nodeid, seconds=float(item.config.getini(LONG)), to=item.config.stash[_STDERR]):
        return (yield)


@contextmanager
def named_if_long(test: str, *, seconds: float, to: int) -> Iterator[None]:
    """Once it lasts for so long, its name and where its tasks wait are written to this file descriptor; 0: never."""

    def tell() -> None:
        with os.fdopen(os.dup(to), "w", errors="backslashreplace") as out:
            print(f"\nstill running after {seconds:g} s: {test}", file=out, flush=True)
            for task in _tasks():
                task.print_stack(file=out)
            faulthandler.dump_traceback(file=out)

    timer = threading.Timer(seconds, tell)
    timer.daemon = True
    if seconds > 0:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tasks() -> set[asyncio.Task[Any]]:
    """Of the loop that the main thread runs. Its own stack says only that it is in a selector."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if isinstance(loop := frame.f_locals.get("self"), asyncio.AbstractEventLoop):
            return asyncio.all_tasks(loop)
        frame = frame.f_back
    return set()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    return encodable((yield))


def encodable(value: Any) -> Any:
    """The same, with an escape in the place of whatever UTF-8 has no bytes for."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {encodable(key): encodable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(encodable, value))
        case _:
            return value
