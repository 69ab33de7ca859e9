"""The end of a process that was told to end and is still there: it says where it stands, and is gone.

Whatever holds it up, a handler that takes no cancellation or a library that waits for ever, is not waited for without
end. Nothing is lost by it: what was under way is not committed, and whoever takes the shards next carries it out again,
as after any kill.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from sagabus.commands.subcommand import complain

LAST_SECONDS: Final = 4.0
"""For what is done last, before the process is gone. Kubernetes sends its SIGKILL five seconds after us."""

DEEP: Final = 100
"""Coroutines that wait for one another, the outermost first."""

_last: Final[dict[str, Callable[[], None]]] = {}


@contextmanager
def done_last(what: str, action: Callable[[], None]) -> Iterator[None]:
    """While inside, an end by force does this before it is one: what else would outlive the process.

    what: said where it takes too long. The action runs in a thread of its own, whatever the loop is doing.
    """
    _last[what] = action
    try:
        yield
    finally:
        del _last[what]


def end_by_force(loop: asyncio.AbstractEventLoop, *, after: float, exit: int) -> None:
    """From a thread, so that it works whatever the loop is doing; a process that ends in time never notices.

    after: seconds. exit: the code. May be called again: the first one counts.
    """
    thread = threading.Thread(target=_end, args=(loop, after, exit), name="sagabus force", daemon=True)
    thread.start()


def end_at_once(exit: int) -> None:
    """Without a drain, from a thread: what would outlive the process is ended (`done_last`), and it is gone.

    exit: the code. Returns at once; may be called again: the first one counts.
    """
    threading.Thread(target=_end_at_once, args=(exit,), name="sagabus end", daemon=True).start()


def _end_at_once(exit: int) -> None:
    _do_last()
    os._exit(exit)


def _end(loop: asyncio.AbstractEventLoop, after: float, exit: int) -> None:
    time.sleep(after)
    complain(
        f"told to end, and not ended after {after:g} s: ended by force. Nothing is lost: what was under way is "
        "carried out again by whoever takes over. Where it stood:"
    )
    for task in asyncio.all_tasks(loop):
        complain(f"  {task.get_name()}: {' > '.join(_places(task)) or 'nowhere'}")
    faulthandler.dump_traceback(sys.stderr)
    sys.stderr.flush()
    _do_last()
    os._exit(exit)


def _do_last() -> None:
    end = time.monotonic() + LAST_SECONDS
    for what, action in [*_last.items()]:
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            complain(f"{what} is not ended yet, and may go on after this process")


def _places(task: asyncio.Task[Any]) -> Iterator[str]:
    """Where each of its coroutines waits, down to the one that holds it up."""
    waiting: Any = task.get_coro()
    for _ in range(DEEP):
        frame = _attribute(waiting, "frame")
        if isinstance(frame, FrameType):
            yield _place(frame.f_code, frame.f_lineno)
        waiting = _attribute(waiting, "await") or _attribute(waiting, "yieldfrom")


def _attribute(waiting: Any, name: str) -> Any:
    """Of a coroutine, a generator or an asynchronous generator: each has a prefix of its own."""
    return next((found for kind in ("cr", "gi", "ag") if (found := getattr(waiting, f"{kind}_{name}", None))), None)


def _place(code: CodeType, line: int) -> str:
    return f"{Path(code.co_filename).name}:{line} {code.co_qualname}"
