"""Which saga's code runs just now, for a watchdog that looks on from another thread (rule L10).

The loop writes, at the beginning and at the end of each pump; that is all it costs. A watchdog may have
`PumpInterrupted` raised in the pumping thread. From there on it is bound by this protocol, so that it never lands
outside the pump, in code that is not the saga's:

- it sets `interrupting`, then looks once more whether the pump is still the one it means, and only then interrupts;
- the pump first says that it is over (`loop = None`), then looks at `interrupting`, and if that is set, calls
  `withdraw`. That raises what is on its way; having returned, it promises that nothing is any more.

So either the watchdog sees that the pump is over, or the pump sees the watchdog. All pumps of a process are of one
thread.

Once `loop` is None two interrupts can still come: one that waits in the interpreter, and one that the watchdog is just
sending. Python raises them where a function begins, after a call, or where code jumps back, and an exception handler
jumps back to the code after it, also out of a `continue`. So no loop around `withdraw` catches both: the pump has two
handlers, one in the other, and each withdraws what is left before it jumps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, NoReturn, Protocol

__all__ = ["PLACE", "WATCH", "PumpInterrupted", "Watch"]

PLACE: Final = "; last seen at "
"""In the words of an interrupt. What follows may be another line of the same spin each time."""


class PumpInterrupted(BaseException):
    """The saga's code computed without end. It says for how long, and where."""


class Pumped(Protocol):
    """The loop of one saga. code: which code it runs; code that has spun once is given less time (L10).

    unguarded: how many blocks are open in which its code may do what a guard refuses (L14). dead: its code is closed.
    """

    name: str
    code: str
    unguarded: int
    dead: bool

    def refuse(self, sentence: str, code: str) -> NoReturn: ...


class Watch:
    """Of one process. pumps: how many have begun. words: why the present pump was interrupted; empty if it was not.

    firstiter: the hook of this thread for asynchronous generators, if it leaves out those of a saga that is pumped.
    """

    __slots__ = ("firstiter", "interrupting", "loop", "pumps", "withdraw", "words")

    def __init__(self) -> None:
        self.loop: Pumped | None = None
        self.pumps = 0
        self.interrupting = False
        self.words = ""
        self.withdraw: Callable[[], None] = lambda: None
        self.firstiter: Callable[[AsyncGenerator[Any, Any]], None] | None = None


WATCH: Final = Watch()
