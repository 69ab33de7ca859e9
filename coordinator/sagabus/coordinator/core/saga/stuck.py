"""A saga that has come to rest and waits for what nothing can bring, such as an `asyncio.Event` that nobody sets.

Answers, events, timers and the saga's own timeout are all that can wake it; `Program.is_stuck` and the state know
whether it waits for any. Here is where in its code it waits, in words. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from sagabus.coordinator.core.loop.loop import SagaTask
from sagabus.coordinator.core.saga.concern import CANCELLED, Concern, ConcernKind, Told
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.state import SagaState

STUCK: Final = Concern(ConcernKind.STUCK)

_TIMEOUT: Final = TimerKey(TimerKind.SAGA, 0)
_NOT_THE_AUTHORS: Final = ("asyncio", "sagabus.coordinator.core", "sagabus.coordinator.context")
"""Modules whose frames are only the way to what is awaited."""


def note_stuck(state: SagaState, program: Program) -> None:
    """After a pump: raise the concern, or let it go if the saga has moved."""
    if program.is_stuck and _TIMEOUT not in state.timers:
        already = "; it has been cancelled already" if state.ending else ""
        words = f"the saga waits for nothing that can come: its code awaits {where(program)}{already}"
        state.raise_concern(STUCK, words, Told(CANCELLED if state.ending else "waiting"))
    elif state.concerns:
        state.clear_concern(STUCK)


def where(program: Program) -> str:
    """What its main task, or the first one that is left behind at its end, awaits, and in which line."""
    tasks = (task for task in (program.main, *program.loop.tasks()) if not task.done())
    awaited, place = "a future", ""
    for frame in _frames(next(tasks)):
        module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname
        if module.startswith(_NOT_THE_AUTHORS):
            awaited = name
        else:
            awaited, place = "a future", f" in {module}.{name}, line {frame.f_lineno}"
    return f"{awaited}{place}"


def _frames(task: SagaTask[Any]) -> Iterator[FrameType]:
    """From the task's outermost coroutine to the innermost one, and on through the tasks that it awaits."""
    seen: set[int] = set()
    following: SagaTask[Any] | None = task
    while following is not None and following.number not in seen:
        seen.add(following.number)
        coroutine: Any = following.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            yield frame
            coroutine = coroutine.cr_await
        following = _awaited_by(following)


def _awaited_by(task: SagaTask[Any]) -> SagaTask[Any] | None:
    """The task that this one awaits, alone or as the first unfinished one of a gather."""
    awaited = getattr(task, "_fut_waiter", None)
    candidates = (awaited, *getattr(awaited, "_children", ()))
    return next((one for one in candidates if isinstance(one, SagaTask) and not one.done()), None)
