"""What a saga's loop refuses, and what its author should do instead (rule L11).

A saga's code runs again from the start whenever its history is replayed, so it may only wait for what is in history:
steps, events, timers, other tasks of the saga. Sockets, threads, processes and signals are not. This module holds the
table of refused methods; it must never do anything but refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = [
    "EAGER", "FOREIGN", "NETWORK", "NOT_YOURS", "PROCESS", "THREAD", "UNPUMPED", "LoopRefused", "RefusingLoop",
]  # fmt: skip


class LoopRefused(RuntimeError):
    """A saga asked its loop for something that cannot be replayed. The sentence says what to do instead."""

    def __init__(self, sentence: str, code: str = "") -> None:
        """code: what was asked for."""
        super().__init__(sentence)
        self.code = code


UNPUMPED = (
    "this saga's loop is not running now, so nothing can be put on it: sagas, threads and the coordinator cannot share "
    "asyncio events, queues or futures; send the saga an event (the loop's owner calls resolve, reject, cancel)"
)
NOT_YOURS = "a saga's context can only be used by the code of that saga, and only while it runs"
EAGER = "tasks that start eagerly are not for sagas: leave eager_start out"
FOREIGN = "asyncio.Task() is not for sagas: use `asyncio.create_task`, which numbers the task"

NETWORK = "do network work in an activity: a participant's handler may use any client"
PROCESS = "start processes and open pipes in an activity"
_SIGNAL = "signals belong to the coordinator's process; to reach a saga send it an event, or cancel it"
THREAD = "do work for threads and executors in an activity; a saga that only computes can simply compute"
_OUTSIDE = "nothing outside may put work on a saga's loop; send the saga an event instead"
_DRIVEN = "the coordinator drives this loop; in a saga just `await`"
_ENDING = "the coordinator ends this loop when the saga is over; there is nothing to shut down"
_FACTORY = "tasks of a saga are numbered, so that they behave alike on every replay; use `asyncio.create_task`"
_ERRORS = "catch the exception where it is raised; what escapes is reported by the coordinator"
_DEBUG = "asyncio's debug mode measures time, which a saga cannot; test the saga with the test kit"


class Refusal:
    """A method of the loop that raises `LoopRefused` with the cure, and stops the saga for a person to see.

    It is not left to the exception: the call may come from a thread that nobody listens to, or an `except` may hide it,
    and one that came through would undo the saga for a mistake in its code.
    """

    __slots__ = ("_cure", "_name")

    def __init__(self, cure: str) -> None:
        self._cure, self._name = cure, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, loop: RefusingLoop | None, owner: type) -> Callable[..., NoReturn]:
        def refuse(*_args: object, **_options: object) -> NoReturn:
            assert loop is not None
            loop._refuse(f"{self._name}() is not for sagas: {self._cure}", self._name, fails=True)

        return refuse


class RefusingLoop(asyncio.AbstractEventLoop):
    """Every method that a saga may not use, by name, with its cure."""

    __slots__ = ()

    run_forever: Any = Refusal(_DRIVEN)
    run_until_complete: Any = Refusal(_DRIVEN)
    stop: Any = Refusal(_DRIVEN)
    close: Any = Refusal(_ENDING)
    shutdown_asyncgens: Any = Refusal(_ENDING)
    shutdown_default_executor: Any = Refusal(_ENDING)

    run_in_executor: Any = Refusal(THREAD)
    call_soon_threadsafe: Any = Refusal(_OUTSIDE)
    set_default_executor: Any = Refusal(THREAD)

    set_task_factory: Any = Refusal(_FACTORY)
    set_exception_handler: Any = Refusal(_ERRORS)
    set_debug: Any = Refusal(_DEBUG)
    add_signal_handler: Any = Refusal(_SIGNAL)
    remove_signal_handler: Any = Refusal(_SIGNAL)

    getaddrinfo: Any = Refusal(NETWORK)
    getnameinfo: Any = Refusal(NETWORK)
    create_connection: Any = Refusal(NETWORK)
    create_server: Any = Refusal(NETWORK)
    create_unix_connection: Any = Refusal(NETWORK)
    create_unix_server: Any = Refusal(NETWORK)
    create_datagram_endpoint: Any = Refusal(NETWORK)
    connect_accepted_socket: Any = Refusal(NETWORK)
    start_tls: Any = Refusal(NETWORK)
    sendfile: Any = Refusal(NETWORK)
    add_reader: Any = Refusal(NETWORK)
    remove_reader: Any = Refusal(NETWORK)
    add_writer: Any = Refusal(NETWORK)
    remove_writer: Any = Refusal(NETWORK)
    sock_recv: Any = Refusal(NETWORK)
    sock_recv_into: Any = Refusal(NETWORK)
    sock_recvfrom: Any = Refusal(NETWORK)
    sock_recvfrom_into: Any = Refusal(NETWORK)
    sock_sendall: Any = Refusal(NETWORK)
    sock_sendto: Any = Refusal(NETWORK)
    sock_sendfile: Any = Refusal(NETWORK)
    sock_connect: Any = Refusal(NETWORK)
    sock_accept: Any = Refusal(NETWORK)

    connect_read_pipe: Any = Refusal(PROCESS)
    connect_write_pipe: Any = Refusal(PROCESS)
    subprocess_exec: Any = Refusal(PROCESS)
    subprocess_shell: Any = Refusal(PROCESS)

    def _refuse(self, sentence: str, code: str = "", *, fails: bool = False) -> NoReturn:
        raise LoopRefused(sentence, code)
