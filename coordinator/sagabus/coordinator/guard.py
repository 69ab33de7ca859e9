"""Looks on while sagas' code runs: what reaches outside of the saga is refused, and needs an operator (rule L14).

Theory of operation. Python tells its audit hooks when a file, a socket or a process is opened, when a thread is
started, and when somebody sleeps. A hook cannot be taken away again, and hears of all that the process does. So there
is one. It is installed when the guard is first entered, and looks at two things: whether a saga's code is being pumped
(`core.loop.watch`), and whether the event is one of the table below. Only then it asks further: whether this is the
thread that pumps, and whether the code stands within an import, a log line, a warning or a debugger.

What is refused is refused as the loop refuses its methods (L11): an exception with the cure is raised at the very
place, and the saga stops, whatever catches it. It must never refuse anything outside of a pump.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from asyncio.events import _get_running_loop
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Final

from sagabus.coordinator.core.loop.refused import NETWORK, PROCESS, THREAD
from sagabus.coordinator.core.loop.watch import WATCH, Pumped, Watch
from sagabus.coordinator.frames import frames_of_pump, is_in, place

_FILES: Final = "read files when the module is imported, or in an activity; write them in an activity"
_DATABASE: Final = "use a database in an activity"
_SLEEP: Final = "write `await asyncio.sleep(seconds)`, a timer that outlives the process"
_INPUT: Final = "wait for an event of the saga's instead"

REFUSED: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("open",), ("opening a file", _FILES)),
    **dict.fromkeys(
        (
            "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.truncate", "os.link",
            "os.symlink", "os.chmod", "os.chown", "os.utime", "os.chdir", "tempfile.mkstemp", "tempfile.mkdtemp",
        ),
        ("work with files", _FILES),
    ),
    **dict.fromkeys(
        (
            "socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
            "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "socket.gethostname",
            "socket.getservbyname", "socket.getservbyport",
        ),
        ("network work", NETWORK),
    ),
    "sqlite3.connect": ("opening a database", _DATABASE),
    **dict.fromkeys(
        (
            "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
            "os.startfile", "os.kill", "os.killpg", "pty.spawn",
        ),
        ("work with processes", PROCESS),
    ),
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), ("starting a thread", THREAD)),
    "time.sleep": ("time.sleep()", _SLEEP),
    "builtins.input": ("input()", _INPUT),
}  # fmt: skip
"""By the name of Python's audit event: what it is, and what to do instead."""

_LETS: Final = (
    "importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport",  # once in each process
    "logging", "warnings", "traceback", "linecache",  # of the process, whoever makes them speak
    "zoneinfo", "tzdata", "pytz", "dateutil",  # the same data for ever, as good as code
    "pdb", "bdb", "coverage", "pydevd", "_pydevd_bundle", "_pytest",  # of whoever looks on
)  # fmt: skip
"""Within these modules everything is let through."""

_SOURCE: Final = (".py", ".pyc")
_WRITES: Final = os.O_WRONLY | os.O_RDWR

_UNTOLD: Final = tuple(
    (module, name, event)
    for module, name, event, told_since in (
        (time, "sleep", "time.sleep", (3, 13)),
        (threading, "_start_new_thread", "_thread.start_new_thread", (3, 12)),
    )
    if sys.version_info < told_since
)
"""What this Python does not tell its audit hooks, and a later one does: module, function, event."""

FirstIteration = Callable[[AsyncGenerator[Any, Any]], None]


class _Guard:
    """Of one process. entered: how often it is just now; it refuses nothing while that is 0."""

    __slots__ = ("entered", "is_installed")

    def __init__(self) -> None:
        self.entered = 0
        self.is_installed = False


_GUARD: Final = _Guard()


@contextmanager
def guarded() -> Iterator[None]:
    """While it is entered, sagas that this process pumps are refused what reaches outside. May be entered many times.

    To be entered, and left, in the thread that pumps.
    """
    if not _GUARD.is_installed:
        _GUARD.is_installed = True
        sys.addaudithook(_hear)
    _GUARD.entered += 1
    try:
        with _one_hook_for_generators(), _told():
            yield
    finally:
        _GUARD.entered -= 1


def _hear(event: str, args: tuple[Any, ...], watch: Watch = WATCH, refused: Collection[str] = REFUSED) -> None:
    """Each audit event of the process: a thousand times a second."""
    if watch.loop is not None and event in refused:
        _refuse(watch.loop, event, args)


def _refuse(loop: Pumped, event: str, args: tuple[Any, ...]) -> None:
    """Unless it is let through. Raises LoopRefused; SagaEvicted if the saga is just leaving memory."""
    running: object = _get_running_loop()
    if not _GUARD.entered or running is not loop or (loop.unguarded and not loop.dead):
        return
    frames = [frame for frame in frames_of_pump(sys._getframe()) if frame.f_globals is not globals()]
    if not frames or _is_let(frames) or (event == "open" and _is_code_or_zone(args)):
        return
    what, cure = REFUSED[event]
    loop.refuse(f"{what} is not for sagas: {cure}; at {place(_of_the_saga(frames))}", event)


def _of_the_saga(frames: list[FrameType]) -> list[FrameType]:
    """Those in the file of the saga's own function: of a library the innermost line may be another one each time."""
    return [frame for frame in frames if frame.f_code.co_filename == frames[-1].f_code.co_filename]


def _is_let(frames: list[FrameType]) -> bool:
    return any(is_in(frame, _LETS) for frame in frames)


def _is_code_or_zone(args: tuple[Any, ...]) -> bool:
    """Python reads source to show a traceback, and zones, from C: no frame of its own tells that."""
    path, _, flags = args
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str) or (flags or 0) & _WRITES:
        return False
    zones = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())
    return path.endswith(_SOURCE) or any(path.startswith(f"{folder}{os.sep}") for folder in zones)


@contextmanager
def _told() -> Iterator[None]:
    """The functions of an older Python tell what those of a later one tell by themselves. Who has kept another name for
    one of them from before (`from time import sleep`) has the one that does not."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _UNTOLD if _GUARD.entered == 1]
    for (module, name, function), (_, _, event) in zip(before, _UNTOLD, strict=False):
        setattr(module, name, _telling(function, event))
    try:
        yield
    finally:
        for module, name, function in before:
            if getattr(getattr(module, name), "__wrapped__", None) is function:
                setattr(module, name, function)


def _telling(function: Callable[..., Any], event: str) -> Callable[..., Any]:
    @wraps(function)
    def telling(*args: Any, **options: Any) -> Any:
        sys.audit(event, *args)
        return function(*args, **options)

    return telling


@contextmanager
def _one_hook_for_generators() -> Iterator[None]:
    """asyncio hears of each asynchronous generator that is begun in its thread. Here it does not hear of a saga's, so
    that a pump need not take its hook away and put it back: each time that would be two audit events more."""
    before = sys.get_asyncgen_hooks().firstiter
    if before is None or before is WATCH.firstiter:
        yield
        return
    first = WATCH.firstiter = _for_others(before)
    sys.set_asyncgen_hooks(firstiter=first)
    try:
        yield
    finally:
        WATCH.firstiter = None
        if sys.get_asyncgen_hooks().firstiter is first:
            sys.set_asyncgen_hooks(firstiter=before)


def _for_others(hook: FirstIteration) -> FirstIteration:
    def first(generator: AsyncGenerator[Any, Any]) -> None:
        if WATCH.loop is None:
            hook(generator)

    return first
