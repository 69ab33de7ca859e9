"""What `ctx.call()` hands back: a step that has been issued, as something to await (rule L3).

A coroutine function would not do: it would number its step when first awaited, and coroutines hash by address, so
that `asyncio.as_completed`, which walks a set, would number parallel steps differently in each process. A Call has
its number when it is made, and hashes by it. To asyncio it is a coroutine: await it, or hand it to `create_task`,
`gather`, `wait_for`, `as_completed`, a TaskGroup. This module must never issue anything itself.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import CodeType, TracebackType
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

__all__ = ["Call"]

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Undoable(Protocol):
    """The answer to a step of a saga."""

    def undo(self) -> asyncio.Future[None]: ...


class Call(Coroutine[Any, Any, T_co]):
    """A step under way, to be awaited once, like a coroutine.

    Cancelling the task that awaits it cancels its future, which is how the step is given up. Closing it cancels the
    future only if it was being awaited. Never awaited, it warns: the step was sent all the same.
    """

    __slots__ = ("_at", "_driven", "_dropped", "_future", "_waiting", "number")

    def __init__(
        self,
        number: int,
        future: asyncio.Future[T_co],
        *,
        at: tuple[CodeType, int] | None = None,
        dropped: Callable[[int, str], None] | None = None,
    ) -> None:
        """number: the step's, given by who creates it; future: of the saga's loop, resolved when the step has ended.

        at: the code of the call, and the offset in it. dropped: told, with words, when the call is thrown away without
        being awaited.
        """
        self._at = at
        self._dropped = dropped
        self.number = number
        self._future = future
        self._waiting: Generator[Any, None, T_co] | None = None
        self._driven = False

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<Call of step {self.number}, {self._future._state.lower()}>"

    def __await__(self) -> Generator[Any, None, T_co]:
        if self._waiting is not None:
            raise RuntimeError(f"step {self.number} is awaited a second time: keep its result, or make it a task")
        self._waiting = self._future.__await__()
        return self._waiting

    def send(self, value: Any, /) -> Any:
        waiting = self._waiting
        if waiting is None:
            waiting, self._driven = self.__await__(), True
        return waiting.send(value)

    @overload
    def throw(
        self, typ: type[BaseException], val: BaseException | object = None, tb: TracebackType | None = None, /
    ) -> Any: ...
    @overload
    def throw(self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /) -> Any: ...
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        waiting = self._waiting or self.__await__()
        self._give_up()  # nobody waits any more, also where a task is cancelled before it began
        try:
            return waiting.throw(typ) if val is None and tb is None else waiting.throw(typ, val, tb)
        finally:
            del typ, val, tb  # the exception knows this frame: a cycle, if the frame knows the exception

    def close(self) -> None:
        if self._driven:
            self._give_up()
        (self._waiting or self.__await__()).close()

    async def undo(self) -> None:
        """Undo this step, and wait until that is done; it counts as undone, also when the saga is undone later (U12).

        A step that is open is given up, one of unknown outcome is settled first. Idempotent: what is undone, or has
        never happened, is done at once. If the waiting is cancelled, the undo goes on all the same. Raises
        DeclarationError for a step that nothing undoes, and RuntimeError for a call of another saga, or another run.
        """
        future = self._future
        if not isinstance(future, Undoable):
            raise TypeError(f"step {self.number} was not called by ctx.call()")
        self._driven = True  # whether it is awaited besides is its author's business
        await future.undo()

    def _give_up(self) -> None:
        if not self._future.get_loop().is_closed():  # the step of an evicted saga goes on without this copy of it
            self._future.cancel()

    def __del__(self) -> None:
        if self._waiting is None and not self._driven and not self._future.get_loop().is_closed():
            words = f"the call of step {self.number}{self._place()} was never awaited"
            if self._dropped is not None:
                self._dropped(self.number, words)
            else:
                warnings.warn(f"{words}; its command is sent all the same", RuntimeWarning, stacklevel=2, source=self)

    def _place(self) -> str:
        """The line is looked up when it is needed, since that takes longer than a call."""
        if self._at is None:
            return ""
        code, offset = self._at
        line = next((line for start, end, line in code.co_lines() if start <= offset < end), None)
        return f" at {code.co_filename}:{line}"
